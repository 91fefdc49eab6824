"""Batches of a streamed answer, without a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from deployments.stages import _gathered
from lightrag.errors import BackendError
from lightrag.generation.base import GenerationDelta


async def words(*pauses: float, fail: bool = False) -> AsyncIterator[GenerationDelta]:
    for number, pause in enumerate(pauses):
        await asyncio.sleep(pause)
        yield GenerationDelta(str(number))
    if fail:
        raise BackendError("model is down")


async def texts(deltas: AsyncIterator[GenerationDelta]) -> list[list[str]]:
    return [[delta.text for delta in batch] async for batch in _gathered(deltas)]


async def test_pieces_that_come_together_travel_together() -> None:
    assert await texts(words(0, 0, 0)) == [["0", "1", "2"]]


async def test_a_piece_does_not_wait_for_a_slow_one() -> None:
    assert await texts(words(0, 0, 0.1, 0)) == [["0", "1"], ["2", "3"]]


async def test_what_came_before_a_failure_is_passed_on_or_the_failure_is_raised() -> None:
    with pytest.raises(BackendError, match="model is down"):
        await texts(words(0, 0.1, fail=True))


async def test_leaving_early_stops_the_source() -> None:
    stopped = False

    async def endless() -> AsyncIterator[GenerationDelta]:
        nonlocal stopped
        try:
            while True:
                await asyncio.sleep(0.005)
                yield GenerationDelta("word")
        finally:
            stopped = True

    batches = _gathered(endless())
    await anext(batches)
    await batches.aclose()
    assert stopped
