"""The door of a service that is about to stop: what has begun ends, and nothing new begins."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from lightrag.api.security import refusal
from lightrag.errors import BackendError

_ALWAYS = frozenset({"/healthz", "/metrics"})
"""Watched until the end."""


class Door:
    """Open until it is closed, which is for good. Belongs to one event loop."""

    def __init__(self) -> None:
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
        """Answer a request, or refuse it with 503 and ``Retry-After`` when the door is closed."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._door.closed:
            error = BackendError("this replica of the service is stopping; try again", retryable=True)
            await refusal(scope["path"], error)(scope, receive, send)
            return
        self._door.inside += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._door.inside -= 1


__all__ = ["Door", "DoorLayer"]
