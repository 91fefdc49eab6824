"""The JSON form of filters and what it selects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import UsageError
from lightrag.retrieval.columns import MetadataColumns
from lightrag.retrieval.filters import parse_filter
from tests.lightrag.retrieval.corpora import chunk

CHUNKS = [
    chunk("a", "one", title="Minutes", metadata={"year": 2019, "tags": ("audit", "tax"), "draft": False}),
    chunk("b", "two", title="Report", metadata={"year": 2021.5, "author": "Øst", "draft": True}),
    chunk("c", "three", language="de", metadata={"year": 1, "day": "2024-03-01"}),
    chunk("d", "four", document="b", ordinal=1, metadata={"author": ""}),
]


def selected(form: Mapping[str, Any]) -> str:
    mask = MetadataColumns(CHUNKS).evaluate(parse_filter(form))
    return "".join(one.chunk_id for one, chosen in zip(CHUNKS, mask, strict=True) if chosen)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({}, "abcd"),
        ({"year": 2019}, "a"),
        ({"year": {"eq": 2019.0}}, "a"),
        ({"year": {"ne": 2019}}, "bcd"),
        ({"year": {"gt": 1, "lte": 2021.5}}, "ab"),
        ({"year": {"range": [2019, None]}}, "ab"),
        ({"year": {"range": [1, 2019]}}, "ac"),
        ({"day": {"gte": "2024-01-01", "lt": "2024-04"}}, "c"),
        ({"tags": "tax"}, "a"),
        ({"tags": {"in": ["tax", "law"]}}, "a"),
        ({"tags": {"nin": ["tax"]}}, "bcd"),
        ({"tags": {"contains": "aud"}}, ""),
        ({"tags": {"contains": "audit"}}, "a"),
        ({"author": {"contains": "st"}}, "b"),
        ({"author": {"exists": True}}, "b"),
        ({"author": {"exists": False}}, "acd"),
        ({"draft": True}, "b"),
        ({"draft": 1}, ""),
        ({"year": True}, ""),
        ({"title": "Report"}, "b"),
        ({"language": "de"}, "c"),
        ({"document_id": "b"}, "bd"),
        ({"source": {"contains": "b."}}, "bd"),
        ({"or": [{"year": 2019}, {"language": "de"}]}, "ac"),
        ({"and": [{"year": {"gt": 0}}, {"not": {"title": "Report"}}]}, "ac"),
        ({"NOT": {"OR": [{"year": 1}, {"ordinal": 1}]}}, "ab"),
        ({"or": []}, ""),
        ({"and": []}, "abcd"),
        ({"year": {"in": []}}, ""),
    ],
)
def test_a_filter_selects_the_passages_it_describes(form: dict[str, Any], expected: str) -> None:
    assert selected(form) == expected


def test_a_page_compares_as_a_number_and_as_the_label_it_is() -> None:
    from dataclasses import replace

    pages = MetadataColumns([replace(CHUNKS[0], page=page) for page in ("2", "10", "iv", "")])
    assert list(pages.evaluate(parse_filter({"page": {"gte": 3}}))) == [False, True, False, False]
    assert list(pages.evaluate(parse_filter({"page": 2}))) == [True, False, False, False]
    assert list(pages.evaluate(parse_filter({"page": "iv"}))) == [False, False, True, False]


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"year": {"gtt": 1}}, "did you mean 'gt'"),
        ({"year": {"$contain": "x"}}, "did you mean 'contains'"),
        ({"year": {"zzzzzz": 1}}, "use one of eq"),
        ({"year": {}}, "no operator"),
        ({"year": [2019]}, "cannot take"),
        ({"year": None}, "cannot take"),
        ({"year": {"in": 2019}}, "cannot take"),
        ({"year": {"gt": True}}, "cannot take"),
        ({"year": {"gt": None}}, "needs a number"),
        ({"year": {"gt": float("nan")}}, "cannot take"),
        ({"year": {"range": [1]}}, "[low, high]"),
        ({"year": {"range": [None, None]}}, "[low, high]"),
        ({"year": {"range": [1, "2"]}}, "mixes"),
        ({"author": {"exists": "yes"}}, "true or false"),
        ({"author": {"contains": 3}}, "cannot take"),
        ({"or": {"year": 1}}, "list of filters"),
        ({"not": [1]}, "an object"),
        ({"jahr": 2019}, "no passage has a field 'jahr'"),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(form: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        selected(form)
    assert said in str(caught.value)


def test_a_hostile_filter_is_refused_before_it_costs_anything() -> None:
    deep: dict[str, Any] = {"year": 1}
    for _ in range(40):
        deep = {"not": deep}
    with pytest.raises(UsageError, match="nested deeper"):
        parse_filter(deep)
    with pytest.raises(UsageError, match="more than"):
        parse_filter({"or": [{"year": number} for number in range(5000)]})


def test_values_are_compared_and_never_interpreted() -> None:
    assert selected({"title": "Minutes' OR '1'='1"}) == ""
    assert selected({"title": {"contains": ".*"}}) == ""


def test_a_metadata_field_that_a_chunk_field_hides_is_reached_by_its_long_name() -> None:
    columns = MetadataColumns([chunk("a", "x", title="outer", metadata={"title": "inner"})])
    assert columns.evaluate(parse_filter({"metadata.title": "inner"})).all()
    assert not columns.evaluate(parse_filter({"title": "inner"})).any()


numbers = st.one_of(st.integers(-5, 5), st.floats(-5, 5), st.sampled_from(["a", "b"]), st.booleans(), st.none())


@settings(max_examples=60, deadline=None)
@given(st.lists(numbers, min_size=1, max_size=8), st.integers(-5, 5), st.sampled_from(["gt", "gte", "lt", "lte", "eq"]))
def test_vectorised_comparison_equals_comparing_one_by_one(values: list[Any], bound: int, operator: str) -> None:
    rows = [chunk(str(n), "x", metadata={} if v is None else {"f": v}) for n, v in enumerate(values)]
    rows.append(chunk("present", "x", metadata={"f": "z"}))
    mask = MetadataColumns(rows).evaluate(parse_filter({"f": {operator: bound}}))

    def expected(value: Any) -> bool:
        if isinstance(value, bool | str) or value is None:
            return False
        compare = {"gt": value > bound, "gte": value >= bound, "lt": value < bound, "lte": value <= bound}
        return compare.get(operator, value == bound)

    assert list(mask[:-1]) == [expected(value) for value in values]
