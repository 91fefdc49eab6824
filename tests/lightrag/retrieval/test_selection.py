"""Budgets, duplicates and order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.retrieval.dedup import DuplicateFilter
from lightrag.retrieval.selection import select
from tests.lightrag.retrieval.corpora import chunk

NOTICE = "This notice concerns all residents of the northern district and is valid until the end of the year"


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(1, 30), max_size=12), st.integers(1, 60), st.integers(1, 12))
def test_the_budget_holds_and_nothing_that_fits_is_left_behind(sizes: list[int], budget: int, top_k: int) -> None:
    chunks = [chunk(str(n), " ".join(f"w{n}x{i}" for i in range(size))) for n, size in enumerate(sizes)]
    taken = select(chunks, range(len(chunks)), top_k=top_k, token_budget=budget).places
    used = sum(sizes[place] for place in taken)
    assert used <= budget
    assert len(taken) <= top_k
    assert list(taken) == sorted(taken)
    if len(taken) < top_k:
        assert all(sizes[place] > budget - used for place in range(len(sizes)) if place not in taken)


def test_corpus_order_sorts_what_was_taken_by_score() -> None:
    chunks = [chunk("a", "alpha one"), chunk("b", "beta two"), chunk("c", "gamma three")]
    assert select(chunks, [7, 2, 5], top_k=2, token_budget=100, order="corpus").places == (1, 0)


def test_near_duplicates_are_left_out_and_said() -> None:
    chunks = [chunk("a", NOTICE), chunk("b", f"{NOTICE}."), chunk("c", f"{NOTICE} 2024"), chunk("d", "Another thing")]
    selection = select(chunks, range(4), top_k=4, token_budget=1000)
    assert selection.places == (0, 3)
    assert selection.notes == ("2 near-duplicates were left out",)


def test_a_budget_too_small_for_anything_is_said() -> None:
    selection = select([chunk("a", NOTICE)], [0], top_k=3, token_budget=5)
    assert selection.places == ()
    assert "longer than the budget of 5 tokens; the shortest has 18" in selection.notes[0]


def test_duplicates_are_told_in_scripts_without_spaces_and_among_single_words() -> None:
    seen = DuplicateFilter()
    assert seen.is_new("黑豹队的防守只丢了三百分，在联赛中排名第六")
    assert not seen.is_new("黑豹队的防守只丢了三百分，在联赛中排名第六。")
    assert seen.is_new("Yes")
    assert not seen.is_new("yes!")
    assert seen.is_new("")
    assert not seen.is_new("")
    assert seen.is_new("…")
