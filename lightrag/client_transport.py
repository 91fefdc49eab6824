"""Requests to a service: repeated where that is safe, with growing pauses, within one limit of time.

It does not know what a request means: whoever sends it says whether it only reads.
"""

from __future__ import annotations

import logging
import random
import time
from asyncio import sleep
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import httpx

from lightrag.api.events import read_frame
from lightrag.client_faults import Fault, lost, refused, reported
from lightrag.errors import UsageError

logger = logging.getLogger(__name__)

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 8.0
LARGEST_KEYED: Final = 8 * 1024 * 1024
"""Bytes of a request that the service takes with an idempotency key (``lightrag.api.replaying.LARGEST_BODY``)."""

_CONNECT_SECONDS: Final = 5.0


class Channel:
    """Sends the requests of one client.

    Args:
        url: of the service.
        api_key: sent with every request, unless empty.
        seconds: from the first attempt of a request to its answer.
        retries: further attempts of a request that failed in passing.
        transport: replaces the network.
    """

    def __init__(
        self, url: str, *, api_key: str, seconds: float, retries: int, transport: httpx.AsyncBaseTransport | None
    ) -> None:
        if retries < 0:
            raise UsageError(f"retries is 0 or more, not {retries}", subject="retries")
        self.url = url.rstrip("/")
        self._seconds = seconds
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            transport=transport,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def send(self, method: str, path: str, *, reads: bool = False, once: bool = False, **options: Any) -> bytes:
        """Send a request and return the body of the answer.

        Args:
            method: GET and HEAD only read.
            path: from :func:`route`.
            reads: others do so, too. All that write carry a fresh idempotency key, so that they can be repeated.
            once: done twice is not the same as done once. After an answer that leaves open whether it was done, it is
                not repeated.
            options: of ``httpx``.

        Raises:
            LightRAGError: the branch that the service reports, or BackendError where none answers.
        """
        call = self._call(method, path, reads=reads, once=once, **options)
        while True:
            try:
                response = await self._http.send(call.prepared())
                if response.is_success:
                    return response.content
                raise refused(response, call.key)
            except (httpx.HTTPError, Fault) as error:
                fault = error if isinstance(error, Fault) else lost(error, self.url)
                if not await call.again(fault):
                    raise fault.error from fault.__cause__

    async def events(
        self, method: str, path: str, *, last: str, resumes: bool = False, silence: float = 0.0, **options: Any
    ) -> AsyncGenerator[tuple[str, Any], None]:
        """Read an answer that comes as server-sent events, as (name, value). The request is one that only reads.

        Args:
            method: of the request.
            path: from :func:`route`.
            last: name of the event that ends the answer; without it the answer is lost.
            resumes: each event says all there is to know, so a lost answer is asked for again also in its middle. For
                others that ends with the first event.
            silence: seconds between two events, where that may be longer than the limit of the client.
            options: of ``httpx``.

        Raises:
            LightRAGError: as :meth:`send`, or what an ``error`` event reports.
        """
        call = self._call(method, path, reads=True, once=False, **options)
        while True:
            begun = False
            try:
                async with aclosing(self._frames(call.prepared(silence))) as frames:
                    async for name, value in frames:
                        begun = True
                        yield name, value
                        if name == last:
                            return
                raise httpx.RemoteProtocolError("the answer ended before its last event")
            except (httpx.HTTPError, Fault) as error:
                fault = error if isinstance(error, Fault) else lost(error, self.url)
                if begun and resumes:
                    call.begin()
                if (begun and not resumes) or not await call.again(fault):
                    raise fault.error from fault.__cause__

    async def answers(self, path: str, *, seconds: float) -> bool:
        """Whether a path answers 200, tried once."""
        try:
            return (await self._http.get(path, timeout=seconds)).status_code == 200
        except httpx.HTTPError:
            return False

    def _call(self, method: str, path: str, *, reads: bool, once: bool, **options: Any) -> _Call:
        request = self._http.build_request(method, path, **options)
        reads = reads or method in ("GET", "HEAD")
        large = "transfer-encoding" in request.headers or int(request.headers.get("content-length", 0)) > LARGEST_KEYED
        if not reads and not large:
            request.headers["Idempotency-Key"] = uuid4().hex
        return _Call(request, self._seconds, self._retries, reads=reads, once=once)

    async def _frames(self, request: httpx.Request) -> AsyncGenerator[tuple[str, Any], None]:
        response = await self._http.send(request, stream=True)
        try:
            if not response.is_success:
                await response.aread()
                raise refused(response)
            waiting = ""
            async with aclosing(response.aiter_text()) as pieces:  # type: ignore[type-var]  # httpx types an iterator
                async for piece in pieces:
                    *frames, waiting = (waiting + piece).split("\n\n")
                    for frame in filter(None, map(read_frame, frames)):
                        if frame[0] == "error":
                            raise reported(frame[1], int(frame[1].get("status", 500)))
                        yield frame
        finally:
            await response.aclose()


@dataclass(slots=True)
class _Call:
    """One request, and how often and until when it is tried."""

    request: httpx.Request
    seconds: float
    retries: int
    reads: bool
    once: bool
    ends: float = field(init=False)
    """By ``time.monotonic``."""
    tries: int = field(init=False)
    """Further ones."""
    pauses: int = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    @property
    def key(self) -> str:
        """Idempotency key; empty: none."""
        return str(self.request.headers.get("idempotency-key", ""))

    def begin(self) -> None:
        """Start to count anew."""
        self.ends = time.monotonic() + self.seconds
        self.tries = self.retries
        self.pauses = 0

    def prepared(self, silence: float = 0.0) -> httpx.Request:
        """The request, which may take what is left of the time."""
        left = max(self.ends - time.monotonic(), 0.001)
        timeout = httpx.Timeout(left, connect=min(_CONNECT_SECONDS, left), read=max(left, silence))
        self.request.extensions["timeout"] = timeout.as_dict()
        return self.request

    async def again(self, fault: Fault) -> bool:
        """Wait until it is sent again; false where that is not safe, or of no use, or too late."""
        if not (fault.passing and self._is_safe(fault) and (self.tries or (fault.running and self.retries))):
            return False
        longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0**self.pauses)
        # Everybody is told the same moment, and should not come at the same moment.
        pause = fault.wait + random.uniform(0, longest)  # noqa: S311  # no secret
        if pause >= self.ends - time.monotonic():
            return False
        self.pauses += 1
        self.tries -= not fault.running
        logger.info("repeating %s in %.1f s: %s", self.request.method, pause, fault.error)
        await sleep(pause)
        return True

    def _is_safe(self, fault: Fault) -> bool:
        if self.reads or fault.undone:
            return True
        return bool(self.key) and not (self.once and fault.doubtful)


def route(*names: str) -> str:
    """The path of a resource, with whatever its names hold.

    Raises:
        UsageError: a name is empty or only dots, which would make the path that of something else.
    """
    for name in names:
        if name in ("", ".", ".."):
            raise UsageError(f"{name!r} names nothing", subject=name)
    return "/v1/" + "/".join(quote(name, safe="") for name in names)


__all__ = ["Channel", "route"]
