"""Fair sharing of slots."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import BackendError, QuotaExceeded
from lightrag.tenancy.admission import FairAdmission


def admission(**options: Any) -> FairAdmission:
    return FairAdmission(
        **{"slots": 4, "slots_per_tenant": 3, "queue_per_tenant": 100, "queue_seconds": 60.0, **options}
    )


class Running:
    """Requests that hold their slot until they are told to end."""

    def __init__(self, shared: FairAdmission) -> None:
        self.shared = shared
        self.order: list[str] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ends: dict[str, list[asyncio.Event]] = {}

    async def _one(self, tenant: str) -> None:
        async with self.shared.slot(tenant):
            end = asyncio.Event()
            self.order.append(tenant)
            self.ends.setdefault(tenant, []).append(end)
            await end.wait()

    async def start(self, tenant: str, number: int = 1) -> None:
        self.tasks += [asyncio.create_task(self._one(tenant)) for _ in range(number)]
        await asyncio.sleep(0)

    async def end_one(self, tenant: str) -> None:
        self.ends[tenant].pop(0).set()
        for _ in range(5):
            await asyncio.sleep(0)

    async def cancel(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_a_burst_leaves_a_slot_for_another_tenant() -> None:
    shared = admission()
    running = Running(shared)
    await running.start("loud", 50)
    assert (shared.running, shared.waiting) == (3, 47)
    await running.start("quiet")
    assert running.order[-1] == "quiet"
    await running.cancel()
    assert (shared.running, shared.waiting) == (0, 0)


async def test_a_tenant_alone_holds_more_than_one_beside_others() -> None:
    running = Running(admission(slots_beside_others=1, company_seconds=0.5))
    await running.start("loud", 50)
    assert running.order == ["loud"] * 3
    await running.start("quiet")
    await running.end_one("quiet")
    for _ in range(2):  # what it holds ends, and it takes no more than its share
        await running.end_one("loud")
    assert running.order == ["loud"] * 3 + ["quiet"]
    await running.end_one("loud")
    assert running.order == ["loud"] * 3 + ["quiet", "loud"]
    await asyncio.sleep(0.6)  # nobody else has come for long
    await running.start("loud")
    await running.end_one("loud")
    assert running.shared.running == 3
    await running.cancel()


async def test_a_free_slot_goes_to_the_tenant_that_holds_the_fewest() -> None:
    running = Running(admission())
    await running.start("loud", 50)
    await running.start("quiet", 3)
    await running.end_one("loud")
    await running.end_one("loud")
    assert running.order == ["loud"] * 3 + ["quiet", "quiet", "loud"]
    await running.cancel()


async def test_equal_tenants_take_turns() -> None:
    running = Running(admission(slots=1, slots_per_tenant=1))
    for tenant in ("a", "b", "c"):
        await running.start(tenant, 3)
    for _ in range(8):
        await running.end_one(running.order[-1])
    assert Counter(running.order[:3]) == Counter(running.order[3:6]) == Counter({"a": 1, "b": 1, "c": 1})
    await running.cancel()


async def test_a_full_queue_refuses_its_own_tenant_only() -> None:
    running = Running(admission(queue_per_tenant=2))
    await running.start("loud", 5)
    with pytest.raises(QuotaExceeded, match="2 wait already") as caught:
        async with running.shared.slot("loud"):
            pass
    assert caught.value.retry_after == 1.0
    await running.start("quiet")
    assert running.order[-1] == "quiet"
    await running.cancel()


async def test_waiting_ends_with_a_retryable_error() -> None:
    shared = admission(queue_seconds=0.01)
    running = Running(shared)
    await running.start("loud", 3)
    with pytest.raises(BackendError, match="no room") as caught:
        async with shared.slot("loud"):
            pass
    assert caught.value.retryable
    assert shared.waiting == 0
    await running.cancel()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["start", "end", "leave"]), st.sampled_from("abc")), max_size=60))
def test_slots_are_never_lost_nor_given_twice(steps: list[tuple[str, str]]) -> None:
    async def play() -> None:
        shared = admission(slots=3, slots_per_tenant=2, queue_per_tenant=4)
        running = Running(shared)
        for step, tenant in steps:
            if step == "start":
                await running.start(tenant)
            elif step == "end" and running.ends.get(tenant):
                await running.end_one(tenant)
            elif step == "leave" and running.tasks:
                running.tasks[len(running.order) % len(running.tasks)].cancel()
                await asyncio.sleep(0)
            assert shared.running <= 3
        await running.cancel()
        assert (shared.running, shared.waiting) == (0, 0)
        for tenant in ("a", "a", "b"):
            await running.start(tenant)
        assert shared.running == 3
        await running.cancel()

    asyncio.run(play())
