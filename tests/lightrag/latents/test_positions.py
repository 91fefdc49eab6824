from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightrag.errors import UsageError
from lightrag.latents.positions import count_at_ratio, kept_positions, nested_order
from lightrag.latents.published.plan import stride_positions


@given(st.integers(0, 600))
def test_the_order_holds_every_position_once(tokens: int) -> None:
    assert sorted(nested_order(tokens)) == list(range(tokens))


@given(st.integers(1, 600), st.data())
def test_every_size_contains_all_smaller_ones_and_ends_at_the_last_token(tokens: int, data: st.DataObject) -> None:
    small = data.draw(st.integers(1, tokens))
    large = data.draw(st.integers(small, tokens))
    assert set(kept_positions(tokens, small)) <= set(kept_positions(tokens, large))
    assert kept_positions(tokens, small)[-1] == tokens - 1


@given(st.integers(1, 600), st.sampled_from([2, 4, 8, 16, 32, 64]))
def test_powers_of_two_are_the_published_stride(tokens: int, ratio: int) -> None:
    count = count_at_ratio(tokens, ratio)
    assert kept_positions(tokens, count).tolist() == stride_positions(tokens, ratio)


@given(st.integers(1, 600), st.floats(1, 64))
def test_no_group_is_longer_than_twice_the_shortest_full_one(tokens: int, ratio: float) -> None:
    gaps = np.diff(kept_positions(tokens, count_at_ratio(tokens, ratio)), prepend=-1)
    assert gaps.sum() == tokens
    level = 2 ** int(np.ceil(np.log2(max(1.0, ratio))))
    assert gaps.max() <= level


def test_ratios_below_one_are_refused() -> None:
    for ratio in (0.5, float("nan")):
        with pytest.raises(UsageError, match="ratio"):
            count_at_ratio(10, ratio)
    with pytest.raises(UsageError, match="between 0 and 3"):
        kept_positions(3, 4)
