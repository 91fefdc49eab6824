"""A replica whose model is broken for good: its callers are told, so that they ask again, and Serve replaces it.

Such a replica goes on to answer, and faster than any other, until the health check has failed often enough. Its
failures must not pass for those of a model that merely failed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from lightrag.errors import BackendError


class ReplicaBroken(BackendError):
    """This replica cannot do its work any more; another one, or the one that takes its place, can."""


@asynccontextmanager
async def telling(check_health: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Raise :class:`ReplicaBroken` where the body fails and, by this check, only a new replica will help."""
    try:
        yield
    except BackendError as error:
        try:
            await check_health()
        except BackendError as broken:
            raise ReplicaBroken(str(broken), subject=broken.subject, retryable=True) from error
        raise


__all__ = ["ReplicaBroken", "telling"]
