"""Names of passages and where texts mention them."""

from __future__ import annotations

import pytest

from lightrag.retrieval.names import NameTable, canonical_name


def found(names: list[str], text: str, common: frozenset[str] = frozenset()) -> list[str]:
    table = NameTable.build([(name, row) for row, name in enumerate(names)], common)
    return [mention.name for mention in table.find(text)]


@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (["Port Brannoch"], "It reaches the sea at Port Brannoch's pier.", ["port brannoch"]),
        (["Port Brannoch"], "it reaches port brannoch", ["port brannoch"]),
        (["The Selm (river)"], "They sailed down the Selm.", ["the selm"]),
        (["Selm", "Selm Valley"], "In the Selm Valley", ["selm valley"]),
        (["Reading"], "He was reading in the Park.", []),
        (["Reading"], "He moved to Reading.", ["reading"]),
        (["Reading"], "who was born in reading", ["reading"]),
        (["Ål"], "Al is a town", []),
        (["Zürich"], "the bank in Zurich", ["zurich"]),
        (["紫禁城"], "明朝皇帝住在紫禁城里", [canonical_name("紫禁城")]),
        (["วัดพระแก้ว"], "นักท่องเที่ยวไปวัดพระแก้วทุกวัน", [canonical_name("วัดพระแก้ว")]),
        (["1984"], "It was in 1984.", []),
        (["2017 season"], "the 2017 season began", ["2017 season"]),
        ([""], "anything", []),
    ],
)
def test_a_name_is_found_where_a_reader_would_find_it(names: list[str], text: str, expected: list[str]) -> None:
    assert found(names, text) == expected


def test_a_common_word_is_no_name() -> None:
    assert found(["Film"], "The Film was long.", frozenset({"film"})) == []


def test_a_name_of_many_passages_points_nowhere() -> None:
    assert found(["Minutes of the board"] * 4, "see the minutes of the board") == []
    assert found(["Minutes of the board"] * 3, "see the minutes of the board") == ["minutes of the board"]


def test_a_stored_table_finds_the_same() -> None:
    table = NameTable.build([("Port Brannoch", 3), ("Selm", 1)])
    again = NameTable.of(dict(table.rows))
    text = "The Selm ends at Port Brannoch."
    assert again.find(text) == table.find(text)
    assert [mention.rows for mention in again.find(text)] == [(1,), (3,)]
