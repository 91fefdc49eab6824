"""A network between a client and the real app that fails as often as a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal

import httpx

Failure = httpx.Response | type[httpx.TransportError] | Literal["lost", "cut"]
"""What becomes of one request: an answer from somewhere else; an error before it is sent; an answer of the app that is
lost as a whole; or one that is lost after its first event."""


class FailingTransport(httpx.AsyncBaseTransport):
    """Fails with each failure in turn, then passes everything on."""

    def __init__(self, behind: httpx.AsyncBaseTransport, failures: Sequence[Failure] = ()) -> None:
        self._behind = behind
        self._failures = list(failures)
        self.sent: list[httpx.Request] = []

    @property
    def keys(self) -> list[str | None]:
        """Idempotency keys of the requests, in order."""
        return [request.headers.get("idempotency-key") for request in self.sent]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        failure = self._failures.pop(0) if self._failures else None
        if isinstance(failure, httpx.Response):
            return failure
        if isinstance(failure, type):
            raise failure("a test says so", request=request)
        response = await self._behind.handle_async_request(request)
        if failure is None:
            return response
        body = await response.aread()
        if failure == "lost":
            raise httpx.ReadError("a test says so", request=request)
        return httpx.Response(response.status_code, headers=response.headers, stream=_Cut(body))


class _Cut(httpx.AsyncByteStream):
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body[: self._body.index(b"\n\n") + 2]
        raise httpx.ReadError("a test says so")


__all__ = ["FailingTransport", "Failure"]
