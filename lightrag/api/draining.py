"""The door of a service: where too many are inside, nobody else comes in, and before it stops, nobody at all."""

from __future__ import annotations

import math

from starlette.types import ASGIApp, Receive, Scope, Send

from lightrag.api.security import refusal
from lightrag.errors import BackendError

_ALWAYS = frozenset({"/healthz", "/metrics"})
"""Watched until the end."""


class Door:
    """Open until it is closed, which is for good. Belongs to one event loop.

    Args:
        room: requests that may be inside at once.
    """

    def __init__(self, room: float = math.inf) -> None:
        self.room = room
        self.closed = False
        self.inside = 0
        """Requests that are being answered, to the last byte."""


class DoorLayer:
    """Wraps an app; see the module.

    Args:
        app: what answers.
        door: through which requests come.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with 503 and ``Retry-After`` when the door is closed or the room is full."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._door.closed or self._door.inside >= self._door.room:
            why = "is stopping" if self._door.closed else "has as many requests as it may"
            error = BackendError(f"this replica of the service {why}; try again", retryable=True)
            await refusal(scope["path"], error)(scope, receive, send)
            return
        self._door.inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._door.inside -= 1


__all__ = ["Door", "DoorLayer"]
