"""What replicas count and say, and how many of them that asks for."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightrag.errors import BackendError
from lightrag.storage.residency import Key, Loaded, Residency
from lightrag.workload import Workload, desired_replicas

shares = st.lists(st.floats(0, 100), max_size=8)


@given(st.floats(0, 1000), st.floats(0.1, 100), st.dictionaries(st.sampled_from(["tokens", "bytes"]), shares))
def test_there_are_as_many_replicas_as_the_most_demanding_signal_asks_for(
    requests: float, target: float, signals: dict[str, list[float]]
) -> None:
    replicas = desired_replicas(requests, target, signals)
    most = max(requests / target, *(sum(values) for values in signals.values()), 0)
    assert replicas >= 1
    assert most <= replicas + 1e-6
    assert replicas == 1 or most > replicas - 1


@given(st.integers(1, 50), st.integers(1, 50))
def test_work_for_whole_replicas_asks_for_no_further_one(replicas: int, parts: int) -> None:
    assert desired_replicas(0, 1, {"tokens": [replicas / parts] * parts}) == replicas


def test_what_is_in_hand_is_counted_while_it_is() -> None:
    workload = Workload("generate", target_tokens=1000)
    assert workload.signals() == {"tokens": 0}
    with workload.count(1500), workload.count(500):
        assert workload.signals() == {"tokens": 2}
        assert (workload.report().requests, workload.report().tokens) == (2, 2000)
    assert workload.signals() == {"tokens": 0}
    assert workload.report().requests == 0


def test_requests_are_counted_by_how_they_end() -> None:
    workload = Workload("recall")
    with workload.work("Recall.recall", None):
        pass
    with pytest.raises(BackendError), workload.work("Recall.recall", None):
        raise BackendError("down")
    with pytest.raises(asyncio.CancelledError), workload.work("Recall.recall", None):
        raise asyncio.CancelledError
    report = workload.report()
    assert report.outcomes == {"done": 1, "BackendError": 1, "cancelled": 1}
    assert (report.requests, report.tokens) == (0, 0)


async def test_memory_that_is_used_asks_for_replicas_and_what_is_only_there_does_not() -> None:
    async def load(key: Key) -> Loaded[str]:
        return Loaded(key.name, int(key.name))

    corpora, memories = Residency(load, capacity=1000), Residency(load, capacity=1000)
    held = {"corpora": corpora, "memories": memories}
    used = Workload("recall", lambda: held, target_bytes=100, window_seconds=60)
    leased = Workload("recall", lambda: held, target_bytes=100, window_seconds=0)
    async with corpora.lease(Key("acme", "50")), memories.lease(Key("acme", "300")):
        assert leased.signals() == {"bytes": 3}
    assert leased.signals() == {"bytes": 0}
    assert used.signals() == {"bytes": 3}
    assert used.report().held["memories"].bytes == 300
