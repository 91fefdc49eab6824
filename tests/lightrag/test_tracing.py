"""Spans of questions, recorded by the real OpenTelemetry in this process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import StatusCode

from lightrag import tracing
from lightrag.errors import BackendError


class Recorded:
    """Spans that have ended."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=ParentBased(ALWAYS_ON))
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))

    def __getitem__(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return found

    def parent(self, name: str) -> str:
        """Name of the span that one is part of."""
        parent = self[name].parent
        assert parent is not None
        (found,) = [
            span.name
            for span in self.exporter.get_finished_spans()
            if span.context is not None and span.context.span_id == parent.span_id
        ]
        return found


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorded]:
    spans = Recorded()
    monkeypatch.setattr(tracing, "_tracing", None)
    tracing.record_with(spans.provider)
    yield spans
    monkeypatch.setattr(tracing, "_tracing", None)


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


async def numbers(fail: bool = False) -> AsyncGenerator[int, None]:
    for number in range(3):
        yield number
    if fail:
        raise BackendError("the model said: secret")


def test_a_span_belongs_to_the_one_around_it_also_in_another_process(recorded: Recorded) -> None:
    with tracing.span("request"), tracing.of_tenant("acme", "gold"), tracing.span("stage"):
        sent = tracing.carried()
        assert sent is not None
        assert "acme" not in str(sent)
    with tracing.span("work", {"lightrag.stage": "recall"}, parent=sent, kind="server"):
        pass
    assert (recorded.parent("work"), recorded.parent("stage")) == ("stage", "request")
    assert attributes(recorded["work"]) == {"lightrag.stage": "recall", "lightrag.tenant_class": "gold"}
    assert attributes(recorded["request"]) == {"lightrag.tenant": "acme", "lightrag.tenant_class": "gold"}


def test_a_failure_is_named_and_its_message_is_not_told(recorded: Recorded) -> None:
    with pytest.raises(BackendError), tracing.span("stage"):
        raise BackendError("the model said: secret")
    failed = recorded["stage"]
    assert failed.status.status_code is StatusCode.ERROR
    assert attributes(failed) == {"error.type": "BackendError"}
    assert "secret" not in failed.to_json()


async def test_work_that_is_left_early_ends_as_cancelled(recorded: Recorded) -> None:
    async with aclosing(tracing.traced(numbers(), "generate")) as items:
        assert await anext(items) == 0
    assert attributes(recorded["generate"]) == {"lightrag.cancelled": True}
    assert recorded["generate"].status.status_code is StatusCode.UNSET


async def test_a_source_works_inside_its_span_and_the_reader_outside(recorded: Recorded) -> None:
    async def source() -> AsyncIterator[int]:
        for number in range(2):
            with tracing.span("inner"):
                pass
            yield number

    with tracing.span("request"):
        async for number in tracing.traced(source(), "generate"):
            with tracing.span(f"reader {number}"):
                pass
    assert recorded.parent("reader 0") == recorded.parent("reader 1") == "request"
    inner = [span for span in recorded.exporter.get_finished_spans() if span.name == "inner"]
    work = recorded["generate"].context
    assert work is not None
    assert [span.parent.span_id for span in inner if span.parent] == [work.span_id] * 2


async def test_a_failing_source_fails_its_span_and_its_reader(recorded: Recorded) -> None:
    with pytest.raises(BackendError):
        async for _ in tracing.traced(numbers(fail=True), "generate"):
            pass
    assert attributes(recorded["generate"]) == {"error.type": "BackendError"}


def test_a_trace_that_is_not_to_be_kept_is_not(recorded: Recorded) -> None:
    parent = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-00"}
    with tracing.span("request", parent=parent):
        sent = tracing.carried()
    assert sent is not None
    assert sent["traceparent"].endswith("-00")
    assert recorded.exporter.get_finished_spans() == ()


@pytest.mark.parametrize("given", ["", "nonsense", f"00-{'0' * 32}-{'b' * 16}-01", "00-" + "x" * 500])
def test_a_malformed_place_in_a_trace_begins_a_new_one(recorded: Recorded, given: str) -> None:
    with tracing.span("request", parent={"traceparent": given}):
        pass
    assert recorded["request"].parent is None


async def test_items_pass_unchanged_where_nothing_is_traced() -> None:
    items = numbers()
    assert [number async for number in tracing.traced(items, "generate")] == [0, 1, 2]
    source = numbers()
    async with aclosing(tracing.traced(source, "generate")) as some:
        assert await anext(some) == 0
    with pytest.raises(StopAsyncIteration):
        await anext(source)
    assert (tracing.carried(), tracing.current_trace()) == (None, "")


def test_nothing_is_imported_where_nothing_is_traced() -> None:
    program = (
        "import sys, lightrag.rag, lightrag.api.app, lightrag.tracing as tracing\n"
        "with tracing.span('request'), tracing.of_tenant('acme', 'gold'): tracing.carried()\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
