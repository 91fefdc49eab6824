"""The pipeline: order of stages, deadlines, declared fallbacks, cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest

from lightrag.compression import CompressedContext, CompressionRequest
from lightrag.config import DeadlineSettings
from lightrag.errors import BackendError, DeadlineExceeded, UsageError
from lightrag.generation.base import GenerationDelta, GenerationRequest
from lightrag.memory.base import RecallRequest, Recollection
from lightrag.rag import AnswerText, AskRequest, Finished, QuestionPipeline, Recalled, Retrieved, Stages
from lightrag.retrieval.base import RetrievalRequest, RetrievalResult
from lightrag.types import Chunk, Clue, CorpusVersion, Evidence, Usage

CORPUS = CorpusVersion("acme", "reports", 3)
EVIDENCE = Evidence(Chunk("c1", "d1", 0, "The lease was signed by Ada.", 0, 28, tokens=7), 1.0)


@dataclass
class Recall:
    clues: tuple[Clue, ...] = (Clue("Ada signed"),)
    delay: float = 0.0
    error: Exception | None = None
    cancelled: bool = False
    asked: list[RecallRequest] = field(default_factory=list)

    async def recall(self, request: RecallRequest) -> Recollection:
        self.asked.append(request)
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if self.error:
            raise self.error
        return Recollection(self.clues, "prompted", Usage(calls=1), ("recalled",))


@dataclass
class Retrieve:
    delay: float = 0.0
    error: Exception | None = None
    asked: list[RetrievalRequest] = field(default_factory=list)

    async def retrieve(self, request: RetrievalRequest) -> RetrievalResult:
        self.asked.append(request)
        await asyncio.sleep(self.delay)
        if self.error:
            raise self.error
        return RetrievalResult((EVIDENCE,), ("searched",))

    async def retrieve_many(self, requests: Sequence[RetrievalRequest]) -> tuple[RetrievalResult, ...]:
        return tuple([await self.retrieve(request) for request in requests])


@dataclass
class Compress:
    error: Exception | None = None
    asked: list[CompressionRequest] = field(default_factory=list)

    async def compress(self, request: CompressionRequest) -> CompressedContext:
        self.asked.append(request)
        if self.error:
            raise self.error
        return CompressedContext(("Ada",), "text", 1, 7, evidence=request.evidence, method="test")


@dataclass
class Generate:
    words: tuple[str, ...] = ("Ada ", "did.")
    delay: float = 0.0
    fail_after: int | None = None
    limited: bool = False
    closed: bool = False
    asked: list[GenerationRequest] = field(default_factory=list)

    async def answer(self, request: GenerationRequest) -> AsyncIterator[GenerationDelta]:
        self.asked.append(request)
        try:
            for position, word in enumerate(self.words):
                if position == self.fail_after:
                    raise BackendError("model is down", retryable=True)
                await asyncio.sleep(self.delay)
                yield GenerationDelta(word)
            usage = Usage(10, 2, calls=1)
            yield GenerationDelta("", done=True, kind="generated", model="test", usage=usage, limited=self.limited)
        finally:
            self.closed = True


def pipeline(
    recall: Recall | None = None,
    retrieve: Retrieve | None = None,
    generate: Generate | None = None,
    quote: Generate | None = None,
    compress: Compress | None = None,
    deadlines: DeadlineSettings | None = None,
    hedge_seconds: float = 0.02,
) -> QuestionPipeline:
    stages = Stages(
        retrieve or Retrieve(), generate or Generate(), recall=recall or Recall(), compress=compress, quote=quote
    )
    return QuestionPipeline(stages, deadlines, hedge_seconds=hedge_seconds)


async def test_clues_go_into_retrieval_and_everything_into_the_answer() -> None:
    retrieve = Retrieve()
    answer = await pipeline(retrieve=retrieve).ask(AskRequest(CORPUS, "Who signed?"))
    assert [request.clues for request in retrieve.asked] == [(Clue("Ada signed"),)]
    assert answer.text == "Ada did."
    assert answer.kind == "generated"
    assert answer.evidence == (EVIDENCE,)
    assert answer.usage == Usage(10, 2, calls=2)
    assert answer.notes == ("recalled", "searched")
    assert answer.fallbacks == ()
    assert set(answer.seconds) == {"recall", "retrieve", "generate", "total"}


async def test_events_come_in_the_order_of_the_stages() -> None:
    events = [event async for event in pipeline().stream(AskRequest(CORPUS, "Who signed?"))]
    assert [type(event) for event in events] == [Recalled, Retrieved, AnswerText, AnswerText, Finished]


async def test_plain_rag_does_not_recall() -> None:
    recall = Recall()
    await pipeline(recall).ask(AskRequest(CORPUS, "Who signed?", task="rag"))
    assert recall.asked == []


async def test_what_is_known_can_be_all_that_an_answer_rests_on() -> None:
    recall, retrieve, generate = Recall(), Retrieve(), Generate()
    request = AskRequest(CORPUS, "Who signed?", task="qa", known=(EVIDENCE,), only_known=True)
    answer = await pipeline(recall, retrieve, generate).ask(request)
    assert (answer.text, answer.evidence, recall.asked, retrieve.asked) == ("Ada did.", (EVIDENCE,), [], [])
    assert generate.asked[0].evidence == (EVIDENCE,)


@pytest.mark.parametrize("stage", ["recall", "retrieve"])
async def test_a_stage_alone_ends_at_its_deadline(stage: str) -> None:
    asked = pipeline(Recall(delay=5), Retrieve(delay=5), deadlines=DeadlineSettings(recall=0.05, retrieve=0.05))
    work = (
        asked.recall(RecallRequest(CORPUS, "Who?"))
        if stage == "recall"
        else asked.retrieve(RetrievalRequest(CORPUS, "Who?"))
    )
    with pytest.raises(DeadlineExceeded, match=f"deadlines.{stage}"):
        await work


async def test_a_stage_that_is_not_there_is_said() -> None:
    bare = QuestionPipeline(Stages(Retrieve(), Generate()))
    with pytest.raises(UsageError, match="no recall stage"):
        await bare.recall(RecallRequest(CORPUS, "Who?"))
    with pytest.raises(UsageError, match="no compression stage"):
        await bare.compress(CompressionRequest((EVIDENCE,), 10))


async def test_failed_recall_falls_back_to_plain_retrieval_and_says_so() -> None:
    answer = await pipeline(Recall(error=BackendError("memory is down"))).ask(AskRequest(CORPUS, "Who signed?"))
    assert [(item.stage, item.used, item.reason) for item in answer.fallbacks] == [
        ("recall", "plain retrieval", "memory is down")
    ]
    assert answer.evidence == (EVIDENCE,)


async def test_slow_recall_is_hedged_and_cut_at_its_deadline() -> None:
    recall, retrieve = Recall(delay=5), Retrieve()
    deadlines = DeadlineSettings(recall=0.1)
    answer = await pipeline(recall, retrieve, deadlines=deadlines).ask(AskRequest(CORPUS, "Who signed?"))
    assert recall.cancelled
    assert len(retrieve.asked) == 1
    assert "deadlines.recall" in answer.fallbacks[0].reason
    assert answer.seconds["total"] < 1


async def test_a_bug_in_a_stage_is_not_papered_over() -> None:
    with pytest.raises(ZeroDivisionError):
        await pipeline(Recall(error=ZeroDivisionError())).ask(AskRequest(CORPUS, "Who signed?"))


async def test_failed_retrieval_is_an_error() -> None:
    with pytest.raises(BackendError, match="index is gone"):
        await pipeline(retrieve=Retrieve(error=BackendError("index is gone"))).ask(AskRequest(CORPUS, "Who?"))


async def test_failed_generation_quotes_the_evidence() -> None:
    quote = Generate(words=("quoted",))
    answer = await pipeline(generate=Generate(fail_after=0), quote=quote).ask(AskRequest(CORPUS, "Who?"))
    assert answer.text == "quoted"
    assert [item.used for item in answer.fallbacks] == ["quoted evidence"]


async def test_generation_that_fails_in_the_middle_is_an_error_not_a_patchwork() -> None:
    with pytest.raises(BackendError, match="model is down"):
        await pipeline(generate=Generate(fail_after=1), quote=Generate()).ask(AskRequest(CORPUS, "Who?"))


async def test_compression_is_used_when_asked_and_falls_back_to_the_evidence() -> None:
    generate = Generate()
    stage = Compress()
    request = AskRequest(CORPUS, "Who?", compress_to=5, compress_method="entropy")
    await pipeline(generate=generate, compress=stage).ask(request)
    assert stage.asked == [CompressionRequest((EVIDENCE,), 5, "Who?", method="entropy", corpus=CORPUS)]
    assert generate.asked[0].context is not None
    broken = Compress(error=BackendError("compressor is down"))
    answer = await pipeline(compress=broken).ask(AskRequest(CORPUS, "Who?", compress_to=5))
    assert [item.stage for item in answer.fallbacks] == ["compress"]
    with pytest.raises(UsageError, match="no compression stage"):
        await pipeline().ask(AskRequest(CORPUS, "Who?", compress_to=5))
    with pytest.raises(UsageError, match="without compress_to"):
        await pipeline(compress=stage).ask(AskRequest(CORPUS, "Who?", compress_method="entropy"))
    with pytest.raises(UsageError, match="no compression method 'zip'"):
        await pipeline(compress=stage).ask(AskRequest(CORPUS, "Who?", compress_to=5, compress_method="zip"))  # type: ignore[arg-type]


async def test_the_request_deadline_ends_a_slow_answer() -> None:
    generate = Generate(delay=5)
    with pytest.raises(DeadlineExceeded, match=r"0\.1 s"):
        await pipeline(generate=generate, quote=Generate()).ask(AskRequest(CORPUS, "Who?", seconds=0.1))
    assert generate.closed


async def test_closing_the_stream_cancels_what_runs() -> None:
    recall, generate = Recall(), Generate(delay=0.01, words=("word ",) * 1000)
    async with aclosing(pipeline(recall, generate=generate).stream(AskRequest(CORPUS, "Who?"))) as events:
        async for event in events:
            if isinstance(event, AnswerText):
                break
    await asyncio.sleep(0.05)
    assert generate.closed


async def test_cancelling_the_caller_cancels_recall() -> None:
    recall = Recall(delay=5)
    task = asyncio.create_task(pipeline(recall).ask(AskRequest(CORPUS, "Who?")))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert recall.cancelled


async def test_qa_answers_with_the_draft_of_the_memory() -> None:
    recall, retrieve = Recall(clues=(Clue("Ada signed"), Clue("Ada.", "draft"))), Retrieve()
    answer = await pipeline(recall, retrieve).ask(AskRequest(CORPUS, "Who?", task="qa"))
    assert answer.text == "Ada."
    assert recall.asked[0].draft
    assert retrieve.asked == []


async def test_a_summary_looks_up_every_key_point_by_itself() -> None:
    retrieve = Retrieve()
    points = (Clue("Ada signed"), Clue("Nils kept dogs"))
    answer = await pipeline(Recall(points), retrieve).ask(AskRequest(CORPUS, "", task="summarize"))
    assert [request.question for request in retrieve.asked] == ["Ada signed", "Nils kept dogs"]
    assert answer.evidence == (EVIDENCE,)
    assert answer.notes == ("recalled", "searched")


async def test_a_summary_of_something_asked_searches_for_that() -> None:
    retrieve = Retrieve()
    await pipeline(retrieve=retrieve).ask(AskRequest(CORPUS, "the lease", task="summarize"))
    assert [(request.question, request.order) for request in retrieve.asked] == [("the lease", "corpus")]


async def test_only_a_summary_needs_no_question() -> None:
    with pytest.raises(UsageError, match="empty"):
        await pipeline().ask(AskRequest(CORPUS, "  "))
