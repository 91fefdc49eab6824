"""Runs asynchronous code for callers that are not, and refuses to block those that are."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from lightrag.errors import UsageError
from lightrag.models.concurrency import run_blocking

Result = TypeVar("Result")


def run_sync(work: Coroutine[Any, Any, Result]) -> Result:
    """Run ``work`` to its end and return its result.

    Raises:
        UsageError: the caller runs inside an event loop already, which this would block; it should await ``.aio``.
    """
    try:
        refuse_inside_loop()
    except UsageError:
        work.close()
        raise
    return run_blocking(work)


def refuse_inside_loop() -> None:
    """Refuse to block an event loop.

    Raises:
        UsageError: the caller runs inside one.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError("this is a blocking call inside an event loop: await the method of the same name on '.aio'")


__all__ = ["refuse_inside_loop", "run_sync"]
