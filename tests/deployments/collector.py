"""A collector of traces on loopback: takes what services send over OTLP, and keeps it to be looked at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Sent:
    """A span as it arrived."""

    trace: str
    span: str
    parent: str
    """Empty for the first one of a trace."""
    name: str
    process: str
    attributes: dict[str, str | int | bool]


@dataclass(slots=True)
class Collector:
    """What arrived, in order."""

    url: str = ""
    spans: list[Sent] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def of(self, trace: str, enough: Callable[[list[Sent]], bool], *, within: float = 60.0) -> list[Sent]:
        """Spans of a trace, as soon as there are enough of them, or all there are when the time is over."""
        ends = time.monotonic() + within
        while True:
            found = [sent for sent in self.spans if sent.trace == trace]
            if enough(found) or time.monotonic() > ends:
                return found
            time.sleep(0.1)


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run a collector."""
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/v1/traces":
                collector.bodies.append(body)
                collector.spans.extend(_decode(body))
            self.send_response(200 if self.path == "/v1/traces" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _decode(body: bytes) -> Iterator[Sent]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        described = _values(resource.resource.attributes)
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Sent(
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    str(described["service.instance.id"]),
                    _values(span.attributes),
                )


def _values(attributes: object) -> dict[str, str | int | bool]:
    found: dict[str, str | int | bool] = {}
    for item in attributes:  # type: ignore[attr-defined]
        found[item.key] = getattr(item.value, item.value.WhichOneof("value"))
    return found
