"""Writes that may be repeated: with an ``Idempotency-Key``, the first answer is given again and nothing is done twice.

Behind the gate: a key belongs to its tenant. Answers above a size, and failures that are worth repeating, are not kept.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

from blake3 import blake3
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightrag.api import problems
from lightrag.api.security import required_access
from lightrag.errors import LightRAGError, UsageError
from lightrag.tenancy.replays import Replay
from lightrag.tenancy.service import Tenancy
from lightrag.tenancy.types import Principal

LARGEST_ANSWER = 256 * 1024
"""Bytes; larger ones would be kept for a day for nothing."""
LARGEST_BODY = 8 * 1024 * 1024
"""Bytes of a request: it is read before it is claimed, since the key stands for the whole of it. Uploads have ids of
their own."""
_LONGEST_KEY = 255


class ReplayLayer:
    """Wraps an app; see the module."""

    def __init__(self, app: ASGIApp, tenancy: Tenancy) -> None:
        self._app = app
        self._tenancy = tenancy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or repeat the answer to an earlier one."""
        principal = scope.get("lightrag.principal")
        key = Headers(scope=scope).get("idempotency-key") if scope["type"] == "http" else None
        if key is None or not isinstance(principal, Principal) or not _applies(scope):
            await self._app(scope, receive, send)
            return
        try:
            body = await _read(receive)
            replay = await self._claim(scope, principal.tenant, key, body)
        except LightRAGError as error:
            status, document, headers = problems.problem(error)
            refusal = Response(json.dumps(document, ensure_ascii=False), status, headers, problems.MEDIA_TYPE)
            await refusal(scope, receive, send)
            return
        if replay is not None:
            headers = {"Idempotent-Replayed": "true", "content-type": replay.media_type}
            await Response(replay.body, replay.status, headers)(scope, receive, send)
            return
        await self._answer(scope, _again(body, receive), send, (principal.tenant, key))

    async def _claim(self, scope: Scope, tenant: str, key: str, body: bytes) -> Replay | None:
        if not key.isprintable() or not 1 <= len(key) <= _LONGEST_KEY:
            raise UsageError(f"an idempotency key has 1 to {_LONGEST_KEY} printable characters")
        request = f"{scope['method']} {scope['path']}?".encode() + scope["query_string"] + b"\n" + body
        return await asyncio.to_thread(self._tenancy.replays.claim, tenant, key, blake3(request).hexdigest())

    async def _answer(self, scope: Scope, receive: Receive, send: Send, claimed: tuple[str, str]) -> None:
        kept = _Kept(send)
        try:
            await self._app(scope, receive, kept.send)
        finally:
            answer = kept.replay
            replays = self._tenancy.replays
            # Not cancelled with the client: whether the key may be used again has to be known.
            if answer is None:
                await asyncio.shield(asyncio.to_thread(replays.release, *claimed))
            else:
                await asyncio.shield(asyncio.to_thread(replays.answer, *claimed, answer))


class _Kept:
    """Passes an answer on and keeps it."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._media_type = ""
        self._body = bytearray()
        self._complete = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._media_type = Headers(raw=message["headers"]).get("content-type", "")
        elif message["type"] == "http.response.body":
            if len(self._body) <= LARGEST_ANSWER:
                self._body += message.get("body", b"")
            self._complete = not message.get("more_body", False)
        await self._send(message)

    @property
    def replay(self) -> Replay | None:
        """What to say again; ``None`` where the request should be tried again."""
        worth_repeating = self._status >= 500 or self._status in (0, 401, 403, 409, 412, 429)
        if worth_repeating or not self._complete or len(self._body) > LARGEST_ANSWER:
            return None
        return Replay(self._status, self._media_type[:100], bytes(self._body))


def _applies(scope: Scope) -> bool:
    # A new key is shown once, so its answer is kept nowhere.
    path = scope["path"]
    return required_access(scope["method"], path).writes and not path.startswith("/v1/admin")


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            raise UsageError(f"a request with an idempotency key has at most {LARGEST_BODY} bytes")
        if not message.get("more_body", False):
            return bytes(body)


def _again(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


__all__ = ["ReplayLayer"]
