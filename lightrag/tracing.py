"""Traces: what a request did, stage by stage and process by process, as OpenTelemetry's spans.

Knows nothing of requests or stages. Nothing is traced until :func:`open_tracing` is called, and until then nothing of
OpenTelemetry is imported and a span costs a comparison. Spans hold names, corpora, versions and times, never content:
an error is named by its type, because its message may quote what a user sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from lightrag.errors import ConfigurationError
from lightrag.types import CorpusVersion

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace import TracerProvider as RecordingProvider
    from opentelemetry.trace import Span as RecordedSpan
    from opentelemetry.trace import Tracer, TracerProvider

    from lightrag.config import TraceSettings

T = TypeVar("T")

Carrier = Mapping[str, str]
"""A place in a trace as it travels to another process: headers of the W3C trace context, and the tenant's class."""
Attributes = Mapping[str, str | int | float | bool]

TENANT_CLASS = "lightrag.tenant_class"
# How long a span may wait for others to be sent with; a stopped replica loses no more than that.
_EXPORT_MILLISECONDS = 1000


@dataclass(frozen=True, slots=True)
class _Tracing:
    tracer: Tracer
    propagator: TextMapPropagator


_tracing: _Tracing | None = None


class Span:
    """A piece of work while it is done. One that is not recorded takes everything and keeps nothing."""

    __slots__ = ("_recorded",)

    def __init__(self, recorded: RecordedSpan | None = None) -> None:
        self._recorded = recorded

    def describe(self, attributes: Attributes) -> None:
        """Add attributes."""
        if self._recorded is not None:
            self._recorded.set_attributes(attributes)

    def rename(self, name: str) -> None:
        """Name it once more is known."""
        if self._recorded is not None:
            self._recorded.update_name(name)

    def fail(self, kind: str) -> None:
        """Mark it as failed.

        Args:
            kind: of failure; one of few, and no message.
        """
        if self._recorded is not None:
            from opentelemetry.trace import StatusCode

            self._recorded.set_status(StatusCode.ERROR, kind)
            self._recorded.set_attribute("error.type", kind)


_UNRECORDED = Span()


def open_tracing(settings: TraceSettings) -> None:
    """Send this process's spans where settings say. Once per process: repeating changes nothing.

    Raises:
        ConfigurationError: the package that sends spans to a collector is not installed.
    """
    if settings.exporter == "none" or _tracing is not None:
        return
    from opentelemetry import trace

    record_with(trace.get_tracer_provider() if settings.exporter == "process" else _provider(settings))


def record_with(provider: TracerProvider) -> None:
    """Hand this process's spans to a provider of OpenTelemetry."""
    global _tracing
    from opentelemetry.baggage.propagation import W3CBaggagePropagator
    from opentelemetry.propagators.composite import CompositePropagator
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    _tracing = _Tracing(provider.get_tracer("lightrag"), propagator)


def _provider(settings: TraceSettings) -> RecordingProvider:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    resource = Resource.create({"service.name": "lightrag", "service.instance.id": process_name()})
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(settings.share)), resource=resource)
    provider.add_span_processor(_processor(settings))
    return provider


def _processor(settings: TraceSettings) -> SpanProcessor:
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter

    if settings.exporter == "console":
        exporter: Any = ConsoleSpanExporter(out=sys.stderr)
    else:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise ConfigurationError(
                "service.traces.exporter is 'otlp', which needs the extra 'traces': install lightrag-ray[traces]",
                subject="service.traces.exporter",
            ) from error
        exporter = OTLPSpanExporter(f"{settings.endpoint.rstrip('/')}/v1/traces")
    return BatchSpanProcessor(exporter, schedule_delay_millis=_EXPORT_MILLISECONDS)


@contextmanager
def span(
    name: str,
    attributes: Attributes | None = None,
    *,
    parent: Carrier | None = None,
    kind: Literal["internal", "server"] = "internal",
) -> Iterator[Span]:
    """Record what is done inside, as part of what is being recorded.

    Args:
        name: one of few.
        attributes: of the work; no content, no secrets.
        parent: where the work came from, if from another process.
        kind: ``server`` for work that another process asked for.
    """
    if _tracing is None:
        yield _UNRECORDED
        return
    from opentelemetry import context

    started, inside = _start(_tracing, name, attributes, parent, kind)
    token = context.attach(inside)
    try:
        yield Span(started)
    except BaseException as error:
        _mark(started, error)
        raise
    finally:
        context.detach(token)
        started.end()


async def traced(
    items: AsyncIterator[T],
    name: str,
    attributes: Attributes | None = None,
    *,
    parent: Carrier | None = None,
    kind: Literal["internal", "server"] = "internal",
) -> AsyncGenerator[T, None]:
    """Pass items on, recording the work of their source. See :func:`span`.

    The span is the current one while the source works and not while the reader does, who may also leave early.
    """
    started, inside = _start(_tracing, name, attributes, parent, kind) if _tracing else (None, None)
    try:
        while True:
            with _current(inside):
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
            yield item
    except BaseException as error:
        if started is not None:
            _mark(started, error)
        raise
    finally:
        if started is not None:
            started.end()
        if isinstance(items, AsyncGenerator):
            await items.aclose()


@contextmanager
def of_tenant(tenant: str, tenant_class: str) -> Iterator[None]:
    """Say on whose behalf the work inside is done: the current span names both, those below it the class."""
    if _tracing is None:
        yield
        return
    from opentelemetry import baggage, context, trace

    trace.get_current_span().set_attributes({"lightrag.tenant": tenant, TENANT_CLASS: tenant_class})
    token = context.attach(baggage.set_baggage(TENANT_CLASS, tenant_class))
    try:
        yield
    finally:
        context.detach(token)


def carried() -> Carrier | None:
    """Where we are, to be sent along with a call to another process; ``None`` where nothing is recorded."""
    if _tracing is None:
        return None
    carrier: dict[str, str] = {}
    _tracing.propagator.inject(carrier)
    return carrier or None


def of_corpus(corpus: CorpusVersion) -> dict[str, str | int]:
    """Attributes that name a version of a corpus."""
    return {"lightrag.corpus": corpus.corpus, "lightrag.version": corpus.version}


def current_trace() -> str:
    """The id of the current trace, for log lines; empty where nothing is recorded."""
    if _tracing is None:
        return ""
    from opentelemetry import trace

    found = trace.get_current_span().get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""


def process_name() -> str:
    """What this process is called in traces and metrics."""
    return f"{socket.gethostname()}-{os.getpid()}"


def _start(
    tracing: _Tracing, name: str, attributes: Attributes | None, parent: Carrier | None, kind: str
) -> tuple[RecordedSpan, Context]:
    from opentelemetry import baggage, context, trace

    around = tracing.propagator.extract(parent) if parent else context.get_current()
    known = dict(attributes or {})
    tenant_class = baggage.get_baggage(TENANT_CLASS, around)
    if isinstance(tenant_class, str):
        known[TENANT_CLASS] = tenant_class
    span_kind = trace.SpanKind.SERVER if kind == "server" else trace.SpanKind.INTERNAL
    started = tracing.tracer.start_span(name, around, span_kind, known)
    return started, trace.set_span_in_context(started, around)


@contextmanager
def _current(inside: Context | None) -> Iterator[None]:
    if inside is None:
        yield
        return
    from opentelemetry import context

    token = context.attach(inside)
    try:
        yield
    finally:
        context.detach(token)


def _mark(started: RecordedSpan, error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        # Whoever asked has left, or has what it needs: no failure of the work.
        started.set_attribute("lightrag.cancelled", True)
    else:
        Span(started).fail(type(error).__name__)


__all__ = [
    "Attributes",
    "Carrier",
    "Span",
    "carried",
    "current_trace",
    "of_corpus",
    "of_tenant",
    "open_tracing",
    "process_name",
    "record_with",
    "span",
    "traced",
]
