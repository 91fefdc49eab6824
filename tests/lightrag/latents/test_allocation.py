from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import UsageError
from lightrag.latents.allocation import FocusSpan, Shape, allocate, densities_from_scores, split_budget


@st.composite
def problems(draw: st.DrawFn) -> tuple[int, list[Shape], list[FocusSpan], float, float]:
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=6))
    shapes = [Shape(f"c{i}", n, draw(st.floats(0.05, 20))) for i, n in enumerate(lengths)]
    focus = []
    for index, length in enumerate(lengths):
        cuts = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
        focus += [
            FocusSpan(index, start, end, draw(st.floats(0, 1)))
            for start, end in zip(cuts[::2], cuts[1::2], strict=False)
        ]
    budget = draw(st.integers(1, max(1, sum(lengths) + 5)))
    return budget, shapes, focus, draw(st.floats(0, 1)), draw(st.floats(1, 8))


@settings(max_examples=200, deadline=None)
@given(problems())
def test_the_budget_is_spent_exactly_and_every_token_is_covered(
    problem: tuple[int, list[Shape], list[FocusSpan], float, float],
) -> None:
    budget, shapes, focus, share, ratio = problem
    plan = allocate(budget, shapes, focus, focus_share=share, focus_ratio=ratio)
    total = sum(shape.tokens for shape in shapes)
    assert plan.kept == min(budget, total)
    present = sum(1 for shape in shapes if shape.tokens)
    for shape, document in zip(shapes, plan.documents, strict=True):
        positions = document.positions.tolist()
        assert positions == sorted(set(positions))
        if budget >= present and shape.tokens:
            assert positions[-1] == shape.tokens - 1
        pieces = document.allocation
        assert sum(piece.kept for piece in pieces) == len(positions)
        ranges = [(piece.start, piece.end) for piece in pieces]
        assert [at for start, end in ranges for at in range(start, end)] == list(range(shape.tokens))
    assert bool(plan.notes) == (budget < present)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 50), st.floats(0.01, 100), st.integers(0, 3)), min_size=1, max_size=8),
    st.integers(0, 300),
)
def test_parts_add_up_and_stay_in_their_bounds(rows: list[tuple[int, float, int]], extra: int) -> None:
    sizes = [size for size, _, _ in rows]
    least = [min(size, least) for size, _, least in rows]
    parts = split_budget(sum(least) + extra, sizes, [density for _, density, _ in rows], least)
    assert sum(parts) == min(sum(least) + extra, sum(sizes))
    assert all(low <= part <= size for low, part, size in zip(least, parts, sizes, strict=True))


def test_denser_documents_get_more() -> None:
    assert split_budget(30, [100, 100, 100], [4, 1, 1]) == [20, 5, 5]
    assert densities_from_scores([3.0, 1.0, 2.0], contrast=4) == [4.0, 1.0, 2.0]
    assert densities_from_scores([0.5, 0.5]) == [1.0, 1.0]


def test_the_most_important_spans_keep_every_token() -> None:
    focus = [FocusSpan(0, 10, 20, 0.9), FocusSpan(0, 40, 50, 0.5)]
    plan = allocate(24, [Shape("a", 100)], focus, focus_share=0.5)
    whole = [(piece.start, piece.end) for piece in plan.documents[0].allocation if piece.ratio == 1]
    assert whole == [(10, 20)]
    assert not plan.documents[0].prefix
    reasons = [piece.reason for piece in plan.documents[0].allocation]
    assert reasons == ["uniform", "whole", "uniform"]


def test_uniform_plans_are_prefixes_of_the_nested_order() -> None:
    plan = allocate(25, [Shape("a", 100), Shape("b", 100)])
    assert [document.prefix for document in plan.documents] == [True, True]


def test_misuse_is_refused() -> None:
    with pytest.raises(UsageError, match="budget"):
        allocate(0, [Shape("a", 3)])
    with pytest.raises(UsageError, match="focus_share"):
        allocate(1, [Shape("a", 3)], focus_share=2)
    with pytest.raises(UsageError, match="outside"):
        allocate(3, [Shape("a", 3)], [FocusSpan(0, 2, 4, 1.0)], focus_share=1, focus_ratio=2)
    with pytest.raises(UsageError, match="positive"):
        split_budget(1, [3], [0.0])
    with pytest.raises(UsageError, match="contrast"):
        densities_from_scores([1.0], contrast=0.5)
