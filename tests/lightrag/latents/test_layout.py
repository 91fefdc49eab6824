from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import UsageError
from lightrag.latents.layout import Tier, parse_layout, plan_layout


def test_a_layout_is_one_line() -> None:
    assert parse_layout("raw:2, 4x:3, 16x") == (Tier(None, 2), Tier(4.0, 3), Tier(16.0))
    assert parse_layout("2.5x") == (Tier(2.5),)
    for wrong in ("", "4", "x", "0.5x", "raw, 4x", "4x:2:3", "4x;2"):
        with pytest.raises(UsageError, match="layout"):
            parse_layout(wrong)


def test_with_room_every_passage_gets_its_tier() -> None:
    plan = plan_layout(parse_layout("raw:1, 4x:1, 16x"), [64] * 4, [64] * 4, 4, [2, 0, 1, 3], 1000)
    assert [(share.raw, share.states) for share in plan.shares] == [(False, 16), (False, 4), (True, 0), (False, 4)]
    assert plan.notes == ()
    plan = plan_layout(parse_layout("raw:1, 4x:1"), [64] * 4, [64] * 4, 4, [2, 0, 1, 3], 1000)
    assert sum(share.raw or share.states > 0 for share in plan.shares) == 2
    assert "2 of 4" in plan.notes[0]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["raw:2, 4x:3, 16x", "raw", "8x", "raw:1, 2x:1", "1x:1, 30x"]),
    st.lists(st.integers(0, 80), min_size=1, max_size=9),
    st.integers(1, 6),
    st.integers(1, 600),
)
def test_no_layout_exceeds_its_budget(line: str, lengths: list[int], frame: int, budget: int) -> None:
    plan = plan_layout(parse_layout(line), lengths, lengths, frame, list(range(len(lengths))), budget)
    spent = sum(
        frame + (length if share.raw else share.states)
        for share, length in zip(plan.shares, lengths, strict=True)
        if share.raw or share.states
    )
    assert spent <= budget
    assert all(share.states <= length for share, length in zip(plan.shares, lengths, strict=True))
