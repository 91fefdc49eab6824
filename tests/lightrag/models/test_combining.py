"""Calls of several threads in few runs, without mixing up results or errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.models.combining import Combiner


class Slow:
    """Doubles numbers; the first run lasts until so many other calls wait. Negative numbers are an error."""

    def __init__(self, until: int, **options: int) -> None:
        self.batches: list[list[int]] = []
        self.until = until
        self.running = 0
        self.combiner: Combiner[int, int] = Combiner(self.run, size=abs, **options)

    def run(self, items: Sequence[int]) -> list[int]:
        self.running += 1
        assert self.running == 1
        self.batches.append(list(items))
        late = time.monotonic() + 30
        while len(self.batches) == 1 and self.combiner.waiting < self.until and time.monotonic() < late:
            time.sleep(0.002)
        self.running -= 1
        if any(item < 0 for item in items):
            raise ValueError(f"negative: {min(items)}")
        return [2 * item for item in items]

    def together(self, calls: Sequence[list[int]]) -> list[list[int] | Exception]:
        def call(items: list[int]) -> list[int] | Exception:
            try:
                return self.combiner(items)
            except ValueError as error:
                return error

        with ThreadPoolExecutor(len(calls)) as pool:
            return list(pool.map(call, calls))


def test_calls_that_come_during_a_run_share_the_next_one() -> None:
    slow = Slow(until=4)
    assert slow.together([[1], [2, 3], [4], [], [5]]) == [[2], [4, 6], [8], [], [10]]
    assert slow.combiner.runs == len(slow.batches) == 2
    assert slow.combiner.waiting == 0


def test_a_run_is_no_larger_than_allowed_and_larger_calls_go_alone() -> None:
    slow = Slow(until=4, most=10)
    slow.together([[6], [6], [6], [99], [4, 4]])
    assert sum(len(batch) for batch in slow.batches) == 6
    assert all(sum(batch) <= 10 or len(batch) == 1 for batch in slow.batches)


def test_an_error_goes_to_the_call_that_made_it() -> None:
    slow = Slow(until=3)
    answers = slow.together([[1], [-5], [2], [3]])
    assert [answers[0], answers[2], answers[3]] == [[2], [4], [6]]
    with pytest.raises(ValueError, match="-5"):
        raise answers[1]  # type: ignore[misc]  # an exception, else the test fails


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 20), max_size=5), min_size=1, max_size=8), st.integers(1, 40))
def test_everybody_gets_their_own_results(calls: list[list[int]], most: int) -> None:
    combiner: Combiner[int, int] = Combiner(lambda items: [item + 1 for item in items], size=abs, most=most)
    with ThreadPoolExecutor(len(calls)) as pool:
        assert list(pool.map(combiner, calls)) == [[item + 1 for item in call] for call in calls]


def test_what_an_interrupted_run_leaves_is_answered_by_the_next_call() -> None:
    interrupt = threading.Event()
    interrupt.set()

    def run(items: Sequence[int]) -> list[int]:
        if interrupt.is_set():
            raise KeyboardInterrupt
        return list(items)

    combiner: Combiner[int, int] = Combiner(run)
    with pytest.raises(KeyboardInterrupt):
        combiner([1])
    interrupt.clear()
    assert combiner([2]) == [2]
