"""The gate: whose request this is, whether its key may do this, and whether the tenant's quotas let it pass.

It stands before every route and every mounted app, and what it does not know it refuses: a route that is added later
needs a key like all others, and the right to write unless it only reads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple, cast

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightrag.api import problems
from lightrag.api.context import CURRENT, RequestContext, route_of
from lightrag.api.metrics import Metrics
from lightrag.api.openai import failure as openai_failure
from lightrag.errors import AuthenticationError, LightRAGError, UsageError
from lightrag.tenancy.audit import AuditEntry
from lightrag.tenancy.service import Tenancy
from lightrag.tenancy.types import KeyScope, Principal
from lightrag.tenancy.usage import Used
from lightrag.tracing import of_tenant

_PUBLIC = frozenset({"/healthz", "/readyz", "/version", "/docs", "/openapi.json"})
_UNCOUNTED = frozenset({"/metrics", "/v1/usage"})
"""Who asks what is left of a quota needs no quota for it."""
_READS = re.compile(
    r"/v1/(corpora/[^/]+/(ask|retrieve|recall)|compress|memories/(search|context)|chat/completions|embeddings)/?\Z"
)
_SLOTLESS = re.compile(r"/v1/(admin|usage)\b|/metrics\Z|/v1/jobs/[^/]+/events\Z")
"""Administration works when everything else is busy; whoever watches a job for hours does not work."""
_OPENAI = re.compile(r"/v1/(chat|embeddings|models)\b")


class Access(NamedTuple):
    """What a request needs."""

    scope: KeyScope
    writes: bool


def required_access(method: str, path: str) -> Access:
    """What a request needs; the right to write for whatever is not known to read only."""
    reads = method in ("GET", "HEAD", "OPTIONS") or (method == "POST" and _READS.match(path) is not None)
    if path == "/metrics" or path.startswith("/v1/admin/tenants"):
        return Access("operate", not reads)
    if path.startswith("/v1/admin"):
        return Access("admin", not reads)
    if path.startswith(("/v1/memories", "/mcp")):
        return Access("memories:read" if reads else "memories:write", not reads)
    return Access("corpora:read" if reads else "corpora:write", not reads)


def current_principal(request: Request) -> Principal:
    """FastAPI dependency: who sends this request, as the gate found out.

    Raises:
        AuthenticationError: the request did not come through the gate.
    """
    principal = request.scope.get("lightrag.principal")
    if not isinstance(principal, Principal):
        raise AuthenticationError("this request has no principal")
    return principal


def current_tenant(request: Request) -> str:
    """FastAPI dependency: the tenant of this request. Raises as :func:`current_principal`."""
    return current_principal(request).tenant


class Gate:
    """Wraps an app; see the module.

    Args:
        app: what answers.
        tenancy: knows keys, quotas and slots.
        metrics: where refusals are counted.
    """

    def __init__(self, app: ASGIApp, tenancy: Tenancy, metrics: Metrics) -> None:
        self._app = app
        self._tenancy = tenancy
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it with the reason why not."""
        if scope["type"] == "lifespan" or (scope["type"] == "http" and scope["path"] in _PUBLIC):
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":  # nothing here speaks WebSocket, and nothing may by accident
            await send({"type": "websocket.close", "code": 1008})
            return
        self._tenancy.keep_flushing()
        path = cast("str", scope["path"])
        async with AsyncExitStack() as held:
            try:
                principal = await self._admit(scope, path, held)
            except LightRAGError as error:
                self._metrics.refused(type(error).__name__)
                await refusal(path, error)(scope, receive, send)
                return
            scope["lightrag.principal"] = principal
            await self._pass(scope, receive, send, principal)

    async def _admit(self, scope: Scope, path: str, held: AsyncExitStack) -> Principal:
        if "\0" in path or b"%00" in scope["query_string"]:
            # No name has one, and PostgreSQL takes none: refused here, it is refused alike everywhere.
            raise UsageError("the address holds a NUL character")
        headers = Headers(scope=scope)
        principal = await self._tenancy.principal(_credentials(headers))
        context = CURRENT.get()
        if context is not None:
            context.principal = principal
        access = required_access(scope["method"], path)
        if self._tenancy.authenticated:
            principal.require(access.scope)
        if path not in _UNCOUNTED:
            await self._tenancy.admit(principal)
        if access.scope == "corpora:write" and scope["method"] != "DELETE":
            length = headers.get("content-length", "")
            await self._tenancy.admit_write(principal, int(length) if length.isdecimal() else 0)
        if not _SLOTLESS.match(path):
            await held.enter_async_context(self._tenancy.slot(principal))
        return principal

    async def _pass(self, scope: Scope, receive: Receive, send: Send, principal: Principal) -> None:
        status = 499

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            with of_tenant(principal.tenant, principal.tenant_class):
                await self._app(scope, receive, watched)
        finally:
            self._note(scope, principal, status)

    def _note(self, scope: Scope, principal: Principal, status: int) -> None:
        context = CURRENT.get() or RequestContext("", scope["method"], scope["path"])
        path = context.path
        # Administration writes its own lines, in the transaction of what it does.
        if required_access(context.method, path).writes and not path.startswith("/v1/admin"):
            action = f"{context.method} {route_of(scope)}"
            actor = principal.key_id or "local"
            line = AuditEntry(principal.tenant, actor, action, path, str(status), request_id=context.request_id)
            self._tenancy.note_act(line)
        if status < 400 and not context.metered and path not in _UNCOUNTED:
            corpus = scope.get("path_params", {}).get("corpus", "")
            self._tenancy.note(principal.tenant, Used(requests=1), corpus=str(corpus)[:63])


def _credentials(headers: Headers) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else headers.get("x-api-key", "").strip()


def refusal(path: str, error: LightRAGError) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """An answer that says why a request may not pass, in the shape that its route's clients expect."""
    status, document, headers = problems.problem(error)
    if _OPENAI.match(path):
        status, document, headers = openai_failure(error)
        return Response(json.dumps(document), status, headers, "application/json")
    return Response(json.dumps(document, ensure_ascii=False), status, headers, problems.MEDIA_TYPE)


__all__ = ["Access", "Gate", "current_principal", "current_tenant", "refusal", "required_access"]
