"""The outermost layer: request ids, traces, headers that clients may not send, metrics, access log, unknown errors."""

from __future__ import annotations

import json
import logging
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightrag.api.context import CURRENT, RequestContext, clean_request_id, route_of
from lightrag.api.metrics import METHODS, Metrics
from lightrag.api.problems import MEDIA_TYPE
from lightrag.tracing import Span, span

_LOG = logging.getLogger("lightrag.access")
_FORBIDDEN = frozenset(
    {b"x-session-id", b"x-request-timeout-seconds", b"x-request-disconnect-disabled", b"x-multiplexed-model-id"}
)
"""They steer Serve's routing and timeouts, which are the service's own business."""
_TRACE_HEADERS = ("traceparent", "tracestate")
"""Taken from clients: a trace that began there goes on here. What else a trace may carry is not theirs to say."""
_UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines."""
_FORBIDDEN_PREFIXES = (b"serve_", b"serve-", b"x-serve-", b"ray-serve-")


class RequestLayer:
    """Wraps an app; see the module.

    Args:
        app: what answers.
        metrics: where requests are counted.
        echo: put the id on responses.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, *, echo: bool = True) -> None:
        self._app = app
        self._echo = echo
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["headers"] = [(name, value) for name, value in scope["headers"] if not _forbidden(name)]
        headers = Headers(scope=scope)
        context = RequestContext(clean_request_id(headers.get("x-request-id")), scope["method"], scope["path"])
        if context.path in _UNTRACED:
            await self._answer(scope, receive, send, context, Span())
            return
        begun = {name: headers[name] for name in _TRACE_HEADERS if name in headers}
        with span(
            _known(context.method), {"lightrag.request_id": context.request_id}, parent=begun, kind="server"
        ) as work:
            await self._answer(scope, receive, send, context, work)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, context: RequestContext, work: Span) -> None:
        request_id = context.request_id
        token = CURRENT.set(context)
        answer = _Answer(send, request_id if self._echo else None)
        started = time.monotonic()
        try:
            await self._app(scope, receive, answer.send)
        except Exception:
            # A bug: the trace is for us, the id is for the client.
            _LOG.exception("unexpected error")
            if answer.status:
                raise
            await answer.fail(request_id)
        finally:
            self._finish(scope, context, answer.status or 499, time.monotonic() - started, work)
            CURRENT.reset(token)

    def _finish(self, scope: Scope, context: RequestContext, status: int, seconds: float, work: Span) -> None:
        route = route_of(scope)
        principal = context.principal
        tenant_class = principal.tenant_class if principal else "none"
        self._metrics.request(context.method, route, status, seconds, tenant_class)
        method = _known(context.method)
        work.rename(f"{method} {route}")
        work.describe({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        if status >= 500:
            work.fail(str(status))
        details = {"method": context.method, "route": route, "status": status, "seconds": round(seconds, 4)}
        _LOG.info("request", extra={**details, "key_id": principal.key_id if principal else ""})


class _Answer:
    """Puts the id on the response, and remembers its status."""

    def __init__(self, send: Send, request_id: str | None) -> None:
        self._send = send
        self._request_id = request_id
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._request_id is not None:
                MutableHeaders(scope=message)["X-Request-ID"] = self._request_id
        await self._send(message)

    async def fail(self, request_id: str) -> None:
        document = {
            "type": "urn:lightrag:problem:internal",
            "title": "Unexpected error",
            "status": 500,
            "detail": f"the service failed; its log has the details under the request id {request_id}",
        }
        headers = [(b"content-type", MEDIA_TYPE.encode())]
        await self.send({"type": "http.response.start", "status": 500, "headers": headers})
        await self.send({"type": "http.response.body", "body": json.dumps(document).encode()})


def _known(method: str) -> str:
    """The method, which is the client's to invent."""
    return method if method in METHODS else "other"


def _forbidden(name: bytes) -> bool:
    return name in _FORBIDDEN or name.startswith(_FORBIDDEN_PREFIXES)


__all__ = ["RequestLayer"]
