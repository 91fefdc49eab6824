"""Batches of bounded size that shrink where memory runs out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import BackendError
from lightrag.memory.gist_batches import MOST_TOKENS, TokenBatches, free_bytes


class Device:
    """Works on numbers, each worth so many tokens, until they are too many."""

    def __init__(self, holds: int, error: Exception) -> None:
        self.holds = holds
        self.error = error
        self.batches: list[list[int]] = []

    def __call__(self, items: Sequence[int]) -> list[int]:
        if sum(items) > self.holds:
            raise self.error
        self.batches.append(list(items))
        return [-item for item in items]


ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 50), max_size=30), st.integers(50, 300), st.integers(1, 400), st.sampled_from(ERRORS))
def test_results_come_in_order_and_no_batch_is_larger_than_what_fits(
    items: list[int], holds: int, guess: int, error: Exception
) -> None:
    device = Device(holds, error)
    batches = TokenBatches(1, lambda: 2 * guess)
    assert batches.run(items, items, device) == [-item for item in items]
    assert sorted(item for batch in device.batches for item in batch) == sorted(items)
    assert all(len(batch) == 1 or sum(batch) <= guess for batch in device.batches)


def test_a_smaller_budget_is_kept_for_the_next_run() -> None:
    device = Device(100, ERRORS[0])
    batches = TokenBatches(1, lambda: 2000)
    batches.run([10] * 50, [10] * 50, device)
    assert batches.budget <= 100
    device.error = AssertionError("nothing is tried twice")
    batches.run([10] * 50, [10] * 50, device)


def test_free_memory_decides_the_first_batch() -> None:
    batches = TokenBatches(1000, lambda: 80_000)
    batches.run([1], [1], list)
    assert batches.budget == 40
    assert free_bytes(torch.device("cpu")) > 0
    endless = TokenBatches(1, lambda: 2**60)
    endless.run([1], [1], list)
    assert endless.budget == MOST_TOKENS


def test_what_never_fits_is_said_and_other_errors_pass() -> None:
    with pytest.raises(BackendError, match="one text of 20 tokens does not fit into memory"):
        TokenBatches(1, lambda: 100).run([20], [20], Device(10, ERRORS[0]))
    with pytest.raises(RuntimeError, match="shape"):
        TokenBatches(1, lambda: 100).run([20], [20], Device(10, RuntimeError("shape")))
