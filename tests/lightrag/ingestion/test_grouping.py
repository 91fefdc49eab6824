"""Which documents are encoded together, and what is kept from version to version."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import LimitError
from lightrag.ingestion.grouping import MOST_SMALL, Grouping, Keyed, Piece, PlannedGroup, Weighed, plan_groups
from lightrag.storage.groups import DocumentGroup, StoredGroup

BUDGET = 100
HEAD = 5
RECIPE = "recipe"

Corpus = dict[str, list[int]]
"""Tokens of every chunk, by document."""

corpora = st.lists(st.lists(st.integers(1, BUDGET - HEAD), max_size=9), max_size=12).map(
    lambda rows: {f"d{number:02d}": row for number, row in enumerate(rows)}
)


def keyed(corpus: Corpus) -> list[Keyed]:
    return [Keyed(name, f"key of {tokens}", len(tokens)) for name, tokens in sorted(corpus.items())]


def plan(groups: Sequence[StoredGroup], corpus: Corpus, recipe: str = RECIPE) -> Grouping:
    def weigh(pieces: Iterable[Piece]) -> Iterator[Weighed]:
        for piece in pieces:
            yield Weighed(piece, HEAD, corpus[piece.document_id][piece.start : piece.end])

    return plan_groups(groups, keyed(corpus), recipe, BUDGET, weigh)


def stored(corpus: Corpus, groups: Sequence[PlannedGroup]) -> list[StoredGroup]:
    return [
        StoredGroup(
            DocumentGroup(
                group.key,
                {piece.document_id: piece.key for piece in group.pieces},
                size(corpus, group.pieces),
                "en",
                chunks=group.partly,
            ),
            (),
        )
        for group in groups
    ]


def size(corpus: Corpus, pieces: Sequence[Piece]) -> int:
    return sum(HEAD + sum(corpus[piece.document_id][piece.start : piece.end]) for piece in pieces)


def built(corpus: Corpus) -> list[StoredGroup]:
    return stored(corpus, plan([], corpus).planned)


def chunks_of(pieces: Sequence[Piece]) -> list[tuple[str, int]]:
    return [(piece.document_id, ordinal) for piece in pieces for ordinal in range(piece.start, piece.end)]


def pieces_of(group: StoredGroup, corpus: Corpus) -> list[Piece]:
    described = group.group
    return [
        Piece(name, key, *described.chunks.get(name, (0, len(corpus[name]))))
        for name, key in described.documents.items()
    ]


@settings(deadline=None, max_examples=150)
@given(corpora)
def test_every_chunk_is_in_exactly_one_group_in_order_and_within_the_budget(corpus: Corpus) -> None:
    groups = plan([], corpus).planned
    everything = [(name, ordinal) for name, tokens in sorted(corpus.items()) for ordinal in range(len(tokens))]
    assert [chunk for group in groups for chunk in chunks_of(group.pieces)] == everything
    assert all(size(corpus, group.pieces) <= BUDGET for group in groups)
    assert len({group.key for group in groups}) == len(groups)


@settings(deadline=None, max_examples=150)
@given(corpora)
def test_only_documents_that_do_not_fit_are_cut_and_neighbouring_groups_could_not_be_one(corpus: Corpus) -> None:
    groups = plan([], corpus).planned
    for group in groups:
        for name in group.partly:
            assert HEAD + sum(corpus[name]) > BUDGET
    for one, other in pairwise(groups):
        first = other.pieces[0]
        whole = Piece(first.document_id, first.key, 0, len(corpus[first.document_id]))
        small = size(corpus, [whole]) <= BUDGET
        if small:
            assert size(corpus, one.pieces) + size(corpus, [whole]) > BUDGET


@settings(deadline=None, max_examples=150)
@given(corpora, st.data())
def test_a_change_regroups_no_more_than_the_groups_it_touches(corpus: Corpus, data: st.DataObject) -> None:
    before = built(corpus)
    names = sorted(corpus)
    changed = set(data.draw(st.lists(st.sampled_from(names), unique=True, max_size=3))) if names else set()
    removed = set(data.draw(st.lists(st.sampled_from(names), unique=True, max_size=2))) if names else set()
    after = {
        name: [*tokens, 1] if name in changed else tokens for name, tokens in corpus.items() if name not in removed
    }
    after.update({"d05a": [7, 8]} if data.draw(st.booleans()) else {})
    carried = plan(before, after)

    touched = changed | removed
    untouched = [group for group in before if not touched & group.group.documents.keys()]
    if len(untouched) <= MOST_SMALL:
        assert carried.kept == untouched
    assert len(carried.kept) + len(carried.gone) == len(before)
    groups = [
        *(pieces_of(group, after) for group in carried.kept),
        *(list(group.pieces) for group in carried.planned),
    ]
    found = sorted(chunk for pieces in groups for chunk in chunks_of(pieces))
    assert found == [(name, ordinal) for name, tokens in sorted(after.items()) for ordinal in range(len(tokens))]
    assert all(size(after, pieces) <= BUDGET for pieces in groups)
    assert all(len({piece.document_id for piece in pieces}) == len(pieces) for pieces in groups)


@settings(deadline=None, max_examples=50)
@given(corpora)
def test_an_unchanged_corpus_keeps_every_group_and_another_recipe_none(corpus: Corpus) -> None:
    before = built(corpus)
    small = sum(group.group.tokens * 2 < BUDGET for group in before)
    carried = plan(before, corpus)
    if small <= MOST_SMALL:
        assert (carried.kept, carried.gone, carried.planned) == (before, [], [])
    other = plan(before, corpus, "another recipe")
    assert (other.kept, other.gone) == ([], before)
    assert [chunk for group in other.planned for chunk in chunks_of(group.pieces)] == [
        (name, at) for name, tokens in sorted(corpus.items()) for at in range(len(tokens))
    ]


def test_a_long_document_keeps_its_middle_when_its_ends_have_changed_neighbours() -> None:
    corpus = {"a": [40], "b": [40, 50, 60, 90, 30], "c": [40]}
    before = built(corpus)
    after = corpus | {"a": [41], "c": [41]}
    carried = plan(before, after)
    assert carried.kept
    assert {name for group in carried.kept for name in group.group.documents} == {"b"}
    assert all(len({piece.document_id for piece in group.pieces}) == len(group.pieces) for group in carried.planned)


def test_many_small_groups_become_few() -> None:
    corpus: Corpus = {}
    groups: list[StoredGroup] = []
    for number in range(MOST_SMALL + 1):
        corpus[f"d{number:02d}"] = [10]
        grouping = plan(groups, corpus)
        assert len(grouping.kept) == number
        groups = [*grouping.kept, *stored(corpus, grouping.planned)]
    grouping = plan(groups, corpus)
    assert (grouping.kept, len(grouping.gone), len(grouping.planned)) == ([], MOST_SMALL + 1, 3)


def test_groups_that_are_small_for_good_are_left_alone() -> None:
    # Their tokens are fewer than what they were weighed by, as with gists that came out short.
    corpus = {f"d{number:02d}": [60] for number in range(2 * MOST_SMALL)}
    short = [StoredGroup(replace(group.group, tokens=20), ()) for group in stored(corpus, plan([], corpus).planned)]
    assert len(short) > MOST_SMALL
    grouping = plan(short, corpus)
    assert (grouping.kept, grouping.planned) == (short, [])


def test_a_chunk_that_fits_nowhere_is_said() -> None:
    with pytest.raises(LimitError, match=r"chunk 1 of document 'a' takes 106 tokens.*memory\.window_tokens"):
        plan([], {"a": [1, 101]})
