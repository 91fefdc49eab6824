"""The online pipeline: recall, retrieve, compress, generate, over stage protocols.

The same code runs in one process and in the Serve ingress: a stage may be a local object or a handle to replicas. It
knows nothing of storage, models or transport. Every stage has a deadline; recall, compression and generation have a
declared fallback, and the answer names each one that was used. Closing the stream cancels every stage still running.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

from lightrag.asking import AnswerText, AskEvent, AskRequest, Finished, Recalled, Retrieved
from lightrag.compression import CompressedContext, CompressionRequest, CompressionStage
from lightrag.config import CompressionMethod, DeadlineSettings
from lightrag.errors import BackendError, DeadlineExceeded, LightRAGError, NotFoundError, UsageError
from lightrag.generation.base import Answerer, GenerationDelta, GenerationRequest
from lightrag.memory.base import Recaller, RecallRequest, Recollection
from lightrag.retrieval.base import RetrievalRequest, RetrievalResult, Retriever
from lightrag.tracing import of_corpus, span, traced
from lightrag.types import Answer, Clue, Evidence, Fallback, Usage

T = TypeVar("T")

StageName = Literal["recall", "retrieve", "compress", "generate"]

# Failures of the world, which a declared fallback may answer. Misuse and bugs are never papered over.
_DECLARED = (BackendError, DeadlineExceeded, NotFoundError)


@dataclass(frozen=True, slots=True)
class Stages:
    """What a pipeline is made of. ``None``: there is no such stage, which is no fallback."""

    retrieve: Retriever
    generate: Answerer
    _: KW_ONLY
    recall: Recaller | None = None
    compress: CompressionStage | None = None
    quote: Answerer | None = None
    """Answers with quoted evidence when ``generate`` fails before its first word."""


class QuestionPipeline:
    """Composes the stages into answers. Safe for any number of concurrent questions.

    Args:
        stages: local objects or adapters to remote replicas.
        deadlines: seconds per stage and per request.
        hedge_seconds: how long recall may take before plain retrieval is started beside it. A recall that is faster
            saves that work; a slower one costs no waiting if it fails.

    Example::

        pipeline = QuestionPipeline(stages)
        answer = await pipeline.ask(AskRequest(corpus.at(3), "Who signed the lease?"))
    """

    def __init__(
        self, stages: Stages, deadlines: DeadlineSettings | None = None, *, hedge_seconds: float = 0.25
    ) -> None:
        self._stages = stages
        self._deadlines = deadlines or DeadlineSettings()
        self._hedge_seconds = hedge_seconds
        self._observers: list[Callable[[Answer], None]] = []

    def observe(self, observer: Callable[[Answer], None]) -> None:
        """Call ``observer`` with every complete answer, before its reader gets it, in the reader's task."""
        self._observers.append(observer)

    async def recall(self, request: RecallRequest) -> Recollection:
        """Recall alone, for callers that compose their own answers.

        Raises:
            UsageError: there is no recall stage here.
            DeadlineExceeded: it took longer than ``deadlines.recall``.
            LightRAGError: what the stage raises.
        """
        if self._stages.recall is None:
            raise UsageError("this service has no recall stage")
        return await _alone("recall", self._stages.recall.recall(request), self._deadlines.recall)

    async def retrieve(self, request: RetrievalRequest) -> RetrievalResult:
        """Retrieve alone; raises as :meth:`recall`."""
        return await _alone("retrieve", self._stages.retrieve.retrieve(request), self._deadlines.retrieve)

    async def compress(self, request: CompressionRequest) -> CompressedContext:
        """Compress alone; raises as :meth:`recall`."""
        if self._stages.compress is None:
            raise UsageError("this service has no compression stage")
        return await _alone("compress", self._stages.compress.compress(request), self._deadlines.compress)

    async def ask(self, request: AskRequest) -> Answer:
        """Answer a question.

        Raises:
            UsageError: the question is empty and the task needs one, or an option makes no sense.
            NotFoundError: the corpus version does not exist.
            DeadlineExceeded: the request's time ran out before an answer was complete.
            BackendError: retrieval failed, or generation failed and no fallback is declared.
        """
        answer: Answer | None = None
        async with aclosing(self.stream(request)) as events:
            async for event in events:
                if isinstance(event, Finished):
                    answer = event.answer
        if answer is None:
            raise AssertionError("a stream ends with Finished or an error")
        return answer

    def stream(self, request: AskRequest) -> AsyncGenerator[AskEvent, None]:
        """Answer a question piece by piece; the last event is :class:`Finished`.

        Raises as :meth:`ask`: misuse at once, everything else while the events are read.
        """
        if not request.question.strip() and request.task != "summarize":
            raise UsageError("the question is empty: ask something, or use the task 'summarize'")
        if request.task in ("qa", "summarize") and self._stages.recall is None and not request.only_known:
            raise UsageError(f"task {request.task!r} needs a memory, and this service has no recall stage")
        if request.compress_to is not None and self._stages.compress is None:
            raise UsageError("compress_to was given, but this service has no compression stage")
        _check_method(request)
        return self._events(request)

    async def _events(self, request: AskRequest) -> AsyncGenerator[AskEvent, None]:
        run = _Run(request, self._stages, self._deadlines, self._hedge_seconds)
        try:
            attributes = {"lightrag.task": request.task, **of_corpus(request.corpus)}
            async with aclosing(traced(run.events(), "ask", attributes)) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        for observer in self._observers:
                            observer(event.answer)
                    yield event
        finally:
            await run.close()


async def _alone(stage: StageName, work: Awaitable[T], allowed: float) -> T:
    try:
        async with asyncio.timeout(allowed):
            return await work
    except TimeoutError as error:
        raise _slow_stage(stage) from error


def _slow_stage(stage: StageName) -> DeadlineExceeded:
    return DeadlineExceeded(f"stage {stage!r} took longer than it may; raise deadlines.{stage}")


def _check_method(request: AskRequest) -> None:
    method = request.compress_method
    if method is None:
        return
    if method not in get_args(CompressionMethod):
        raise UsageError(
            f"there is no compression method {method!r}; the methods are {sorted(get_args(CompressionMethod))!r}",
            subject=str(method),
        )
    if request.compress_to is None:
        raise UsageError(f"compress_method {method!r} was given without compress_to: say to how many tokens")


@dataclass(slots=True)
class _Run:
    """One question on its way through the stages."""

    request: AskRequest
    stages: Stages
    deadlines: DeadlineSettings
    hedge_seconds: float
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    fallbacks: list[Fallback] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    running: list[asyncio.Task[Any]] = field(default_factory=list)

    async def events(self) -> AsyncGenerator[AskEvent, None]:
        if self.request.search:
            self.notes.append(f"the question refers back, so this was searched for: {self.request.search!r}")
        recollection, plain = await self._recall_hedged()
        clues = recollection.clues if recollection else ()
        if recollection:
            yield Recalled(recollection)
        evidence = self.request.known
        if self.request.only_known:
            yield Retrieved(evidence)
        elif self.request.task != "qa":
            result = await self._retrieve_with(clues, plain)
            evidence = (*evidence, *result.evidence)
            self.notes.extend(result.notes)
            yield Retrieved(evidence, result.notes)
        drafts = [clue.text for clue in clues if clue.kind == "draft"]
        if self.request.task == "qa" and recollection and drafts:
            yield AnswerText(drafts[0])
            kind: Literal["extractive", "generated"] = (
                "extractive" if recollection.method == "extractive" else "generated"
            )
            yield Finished(self._finish(drafts[0], clues, evidence, GenerationDelta("", done=True, kind=kind)))
            return
        context = await self._compress(evidence)
        pieces: list[str] = []
        last = GenerationDelta("", done=True)
        async for delta in self._generate(clues, evidence, context):
            if delta.text:
                pieces.append(delta.text)
                yield AnswerText(delta.text)
            if delta.done:
                last = delta
        yield Finished(self._finish("".join(pieces), clues, evidence, last))

    async def close(self) -> None:
        """Cancel what still runs and wait until it has stopped."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)

    # --- stages -------------------------------------------------------------------------------------------------------

    async def _recall_hedged(self) -> tuple[Recollection | None, asyncio.Task[RetrievalResult] | None]:
        """Recall; if that takes long, start plain retrieval beside it so that a failure costs no further time."""
        if self.request.task == "rag" or self.request.only_known or self.stages.recall is None:
            return None, None
        wanted = RecallRequest(
            self.request.corpus,
            self.request.searched,
            task=self.request.task,
            draft=self.request.draft or self.request.task == "qa",
        )
        recall = self._start(self._timed("recall", self.stages.recall.recall(wanted), self.deadlines.recall))
        plain: asyncio.Task[RetrievalResult] | None = None
        if self.request.task == "memorag":
            await asyncio.wait({recall}, timeout=self.hedge_seconds)
            if not recall.done():
                plain = self._start(self._retrieve(()))
        try:
            recollection = await recall
        except _DECLARED as error:
            if self.request.task != "memorag":
                raise
            self.fallbacks.append(Fallback("recall", "plain retrieval", str(error)))
            return None, plain
        self.notes.extend(recollection.notes)
        self.usage += recollection.usage
        return recollection, plain

    async def _retrieve_with(
        self, clues: tuple[Clue, ...], plain: asyncio.Task[RetrievalResult] | None
    ) -> RetrievalResult:
        if plain is not None and not clues:
            return await plain
        if plain is not None:
            plain.cancel()
        return await self._retrieve(clues)

    async def _retrieve(self, clues: tuple[Clue, ...]) -> RetrievalResult:
        if not self.request.question.strip():
            return await self._retrieve_points(clues)
        wanted = RetrievalRequest(
            self.request.corpus,
            self.request.searched,
            clues=clues,
            mode=self.request.mode,
            top_k=self.request.top_k,
            token_budget=self.request.token_budget,
            order=self.request.order or ("corpus" if self.request.task == "summarize" else None),
            # Following links is recall's part; plain retrieval is what it is measured against.
            spread=False if self.request.task == "rag" else None,
            filter=self.request.filter,
        )
        return await self._timed("retrieve", self.stages.retrieve.retrieve(wanted), self.deadlines.retrieve)

    async def _retrieve_points(self, points: tuple[Clue, ...]) -> RetrievalResult:
        """Find the best passages for each key point by itself, so that no point crowds out another."""
        if not points:
            raise NotFoundError(f"memory of {self.request.corpus} recalled nothing to summarise")
        each = -(-self.request.top_k // len(points)) if self.request.top_k else 1
        searches = [
            RetrievalRequest(
                self.request.corpus,
                point.text,
                mode=self.request.mode,
                top_k=each,
                filter=self.request.filter,
                spread=False,
            )
            for point in points
        ]
        work = self.stages.retrieve.retrieve_many(searches)
        results = await self._timed("retrieve", work, self.deadlines.retrieve)
        found = {item.chunk.chunk_id: item for result in results for item in result.evidence}
        in_order = sorted(found.values(), key=lambda item: (item.chunk.document_id, item.chunk.ordinal))
        notes = dict.fromkeys(note for result in results for note in result.notes)
        return RetrievalResult(tuple(in_order), tuple(notes))

    async def _compress(self, evidence: tuple[Evidence, ...]) -> CompressedContext | None:
        budget = self.request.compress_to
        if budget is None or self.stages.compress is None or not evidence:
            return None
        wanted = CompressionRequest(
            evidence,
            budget,
            self.request.searched,
            method=self.request.compress_method,
            corpus=None if self.request.only_known else self.request.corpus,
        )
        work = self.stages.compress.compress(wanted)
        try:
            context = await self._timed("compress", work, self.deadlines.compress)
        except _DECLARED as error:
            self.fallbacks.append(Fallback("compress", "evidence as it is", str(error)))
            return None
        self.notes.extend(context.notes)
        self.usage += context.usage
        return context

    async def _generate(
        self, clues: tuple[Clue, ...], evidence: tuple[Evidence, ...], context: CompressedContext | None
    ) -> AsyncGenerator[GenerationDelta, None]:
        wanted = GenerationRequest(
            self.request.corpus,
            self.request.task,
            self.request.question,
            evidence,
            context=context,
            clues=clues,
            max_tokens=self.request.max_tokens,
            temperature=self.request.temperature,
            instructions=self.request.instructions,
            history=self.request.history,
            search=self.request.search,
        )
        started = time.monotonic()
        spoken = False
        try:
            attributes = {"lightrag.stage": "generate", **of_corpus(wanted.corpus)}
            deltas = traced(self._bounded(self.stages.generate, wanted), "generate", attributes)
            async with aclosing(deltas):
                async for delta in deltas:
                    spoken = spoken or bool(delta.text)
                    yield delta
        except _DECLARED as error:
            if self.stages.quote is None or spoken or self._remaining() <= 0:
                raise
            self.fallbacks.append(Fallback("generate", "quoted evidence", str(error)))
            async for delta in self._bounded(self.stages.quote, replace(wanted, context=None)):
                yield delta
        finally:
            self.seconds["generate"] = time.monotonic() - started

    async def _bounded(self, answerer: Answerer, wanted: GenerationRequest) -> AsyncGenerator[GenerationDelta, None]:
        """Pass an answer on, giving up when the request's time is over."""
        deltas = aiter(answerer.answer(wanted))
        try:
            while True:
                try:
                    async with asyncio.timeout(max(self._remaining(), 0)):
                        delta = await anext(deltas)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise self._too_late("generate") from error
                yield delta
        finally:
            if isinstance(deltas, AsyncGenerator):
                await deltas.aclose()

    # --- time ---------------------------------------------------------------------------------------------------------

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        self.running.append(task)
        return task

    def _remaining(self) -> float:
        allowed = self.request.seconds or self.deadlines.request
        return allowed - (time.monotonic() - self.started)

    async def _timed(self, stage: StageName, work: Awaitable[T], allowed: float) -> T:
        started = time.monotonic()
        with span(stage, {"lightrag.stage": stage, **of_corpus(self.request.corpus)}):
            try:
                async with asyncio.timeout(max(min(allowed, self._remaining()), 0)):
                    return await work
            except TimeoutError as error:
                raise self._too_late(stage) from error
            finally:
                self.seconds[stage] = time.monotonic() - started

    def _too_late(self, stage: StageName) -> LightRAGError:
        if self._remaining() <= 0:
            allowed = self.request.seconds or self.deadlines.request
            return DeadlineExceeded(f"the request took longer than its {allowed:g} s, in stage {stage!r}")
        return _slow_stage(stage)

    # --- result -------------------------------------------------------------------------------------------------------

    def _finish(
        self, text: str, clues: tuple[Clue, ...], evidence: tuple[Evidence, ...], last: GenerationDelta
    ) -> Answer:
        return Answer(
            text,
            task=self.request.task,
            kind=last.kind,
            corpus=self.request.corpus,
            evidence=evidence,
            clues=clues,
            fallbacks=tuple(self.fallbacks),
            seconds={**self.seconds, "total": time.monotonic() - self.started},
            usage=self.usage + last.usage,
            model=last.model,
            limited=last.limited,
            notes=tuple(dict.fromkeys((*self.notes, *last.notes))),
        )


__all__ = [
    "AnswerText",
    "AskEvent",
    "AskRequest",
    "Finished",
    "QuestionPipeline",
    "Recalled",
    "Retrieved",
    "Stages",
]
