"""Running calls: several at once so that none outlives the others' failure, and one for a caller that is not async."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


async def all_or_none(calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """Run calls concurrently and return their results in order.

    When one fails, or the caller is cancelled, the others are cancelled and have ended when this returns. Unlike a
    task group, it raises the first failure itself.
    """
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end on the process's background loop, while the calling thread waits.

    It also works in a thread whose own event loop is running, as in notebooks; that loop then stands still meanwhile.
    """
    future = asyncio.run_coroutine_threadsafe(work, _background().loop)
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


class _Background:
    """One event loop in one thread."""

    def __init__(self) -> None:
        self.process = os.getpid()
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, name="lightrag-background", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()


_lock = threading.Lock()
_current: _Background | None = None


def _background() -> _Background:
    global _current
    with _lock:
        # A forked child has the object but not the thread.
        if _current is None or _current.process != os.getpid():
            _current = _Background()
        return _current


__all__ = ["all_or_none", "run_blocking"]
