"""The limit on concurrent requests."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.models.remote.limiter import ConcurrencyLimit


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.lists(st.sampled_from(["work", "shrink", "cancel"]), max_size=30))
def test_it_is_never_exceeded_and_no_place_is_lost(most: int, actions: list[str]) -> None:
    async def scenario() -> None:
        limit = ConcurrencyLimit(most)
        active = 0

        async def work(action: str) -> None:
            nonlocal active
            async with limit.slot() as generation:
                active += 1
                try:
                    assert active <= most
                    await asyncio.sleep(0)
                finally:
                    active -= 1
                if action == "shrink":
                    limit.shrink(generation, 0.0)
                else:
                    limit.grow()

        tasks = []
        for action in actions:
            task = asyncio.create_task(work(action))
            tasks.append(task)
            await asyncio.sleep(0)
            if action == "cancel":
                task.cancel()
        done = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
        assert not [result for result in done if isinstance(result, Exception)]
        assert limit._active == 0
        async with asyncio.timeout(1), limit.slot():
            pass

    asyncio.run(scenario())


async def test_requests_sent_before_a_cut_do_not_cut_again() -> None:
    limit = ConcurrencyLimit(16)
    async with limit.slot() as first, limit.slot() as second:
        limit.shrink(first, 0.0)
        limit.shrink(second, 0.0)
    assert limit.allowed == 8
    async with limit.slot() as third:
        limit.shrink(third, 0.0)
    assert limit.allowed == 4


async def test_success_raises_the_limit_slowly_up_to_the_most() -> None:
    limit = ConcurrencyLimit(4)
    async with limit.slot() as generation:
        limit.shrink(generation, 0.0)
    for _ in range(3):
        limit.grow()
    assert limit.allowed == 3
    for _ in range(50):
        limit.grow()
    assert limit.allowed == 4


async def test_nobody_starts_during_a_pause() -> None:
    limit = ConcurrencyLimit(4)
    async with limit.slot() as generation:
        limit.shrink(generation, 0.1)
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with limit.slot():
        assert loop.time() - start >= 0.09
