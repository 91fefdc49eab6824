"""The stages as Serve deployments: each holds one library component and adds nothing to it.

Heavy libraries load inside the replicas that need them, never with this module, which the ingress imports too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import TYPE_CHECKING

from deployments.losses import telling
from deployments.models import open_remote_model
from deployments.turns import turns
from lightrag.compression import CompressedContext, CompressionRequest
from lightrag.config import HoldingReplicaSettings, Settings
from lightrag.errors import UsageError
from lightrag.generation.base import GenerationDelta, GenerationRequest
from lightrag.memory.base import RecallRequest, Recollection
from lightrag.models.base import Completion, CompletionDelta, LanguageModel, Prompt, Sampling
from lightrag.models.text_embedding import EmbeddedTexts, LocalTextEmbedder
from lightrag.retrieval.base import RetrievalRequest, RetrievalResult
from lightrag.tracing import Carrier, open_tracing, traced
from lightrag.types import CorpusVersion
from lightrag.workload import StageReport, Workload

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

    from lightrag.corpora import Corpora
    from lightrag.engine import Components


class Stage:
    """What every stage answers besides its work."""

    _workload: Workload

    async def ready(self, trace: Carrier | None = None) -> None:
        """Answer, which a replica only does once it is warm."""

    async def report(self) -> StageReport:
        """Say how this replica is."""
        return self._workload.report()


class SignallingStage(Stage):
    """A stage that says itself how many replicas it needs."""

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Say for how many replicas there is work; Serve asks."""
        return self._workload.signals()


class HoldingStage(SignallingStage):
    """A stage that holds corpora in memory."""

    _corpora: Corpora

    async def hold(self, corpus: CorpusVersion, trace: Carrier | None = None) -> None:
        """Load a version that will be asked about."""
        with self._workload.work(f"{type(self).__name__}.hold", trace, corpus):
            await self._corpora.hold(corpus)


class Recall(HoldingStage):
    """Recalls clues from the memory of a corpus; where generation holds a model, with that one."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, settings: Settings, generation: DeploymentHandle | None = None
    ) -> None:
        from lightrag.engine import Components, open_recaller

        open_tracing(settings.service.traces)
        self._components = components = Components(settings, model=open_remote_model(settings, generation))
        self._component = open_recaller(settings, components)
        self._corpora = components.corpora
        self._workload = _holding("recall", settings, settings.service.recall, components)
        asks = settings.generator.backend != "extractive" or bool(settings.memory.model)
        self._turns = turns(settings, settings.service.recall, computes=not asks)
        await components.warm()

    async def recall(self, request: RecallRequest, trace: Carrier | None = None) -> Recollection:
        """Recall; cancelled with the request."""
        with self._workload.work("Recall.recall", trace, request.corpus):
            async with self._turns.slot(request.corpus.tenant), telling(self.check_health):
                return await self._component.recall(request)

    async def check_health(self) -> None:
        """Fail where the engine that reads memories has died: Serve then replaces the replica."""
        await self._components.check_health()


class Retrieval(HoldingStage):
    """Finds evidence in a corpus."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        from lightrag.engine import Components, open_retriever
        from lightrag.generation.extractive import ExtractiveAnswerer

        open_tracing(settings.service.traces)
        components = Components(settings)
        self._component = open_retriever(settings, components)
        self._quoting = ExtractiveAnswerer(components.embedder)
        self._embedder = LocalTextEmbedder(components.embedder)
        self._corpora = components.corpora
        self._workload = _holding("retrieve", settings, settings.service.retrieval, components)
        self._turns = turns(settings, settings.service.retrieval, computes=True)
        await components.warm()

    async def retrieve(self, request: RetrievalRequest, trace: Carrier | None = None) -> RetrievalResult:
        """Retrieve; cancelled with the request."""
        with self._workload.work("Retrieval.retrieve", trace, request.corpus):
            async with self._turns.slot(request.corpus.tenant):
                return await self._component.retrieve(request)

    async def embed_texts(self, texts: Sequence[str], trace: Carrier | None = None) -> EmbeddedTexts:
        """Embed texts for clients, with the model that embeds questions."""
        with self._workload.work("Retrieval.embed_texts", trace):
            return await self._embedder.embed_texts(texts)

    async def retrieve_many(
        self, requests: Sequence[RetrievalRequest], trace: Carrier | None = None
    ) -> tuple[RetrievalResult, ...]:
        """Retrieve for several queries of one request; cancelled with it."""
        if not requests:
            return ()
        corpus = requests[0].corpus
        with self._workload.work("Retrieval.retrieve_many", trace, corpus):
            async with self._turns.slot(corpus.tenant):
                return await self._component.retrieve_many(requests)

    async def quote(
        self, request: GenerationRequest, trace: Carrier | None = None
    ) -> AsyncGenerator[list[GenerationDelta], None]:
        """Answer with quotes where generation has failed: the embedder that chooses them is here."""
        with self._workload.work("Retrieval.quote", trace, request.corpus):
            deltas = aiter(self._quoting.answer(request))
            async with self._turns.slot(request.corpus.tenant), aclosing(_gathered(deltas)) as batches:
                async for batch in batches:
                    yield batch


class Compression(Stage):
    """Fits evidence into a budget."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        from lightrag.engine import open_compression

        open_tracing(settings.service.traces)
        self._workload = Workload("compress")
        # Requests wait in threads for the pass that they share, so there are threads for all that may be here.
        threads = ThreadPoolExecutor(settings.service.compression.max_requests, thread_name_prefix="compression")
        asyncio.get_running_loop().set_default_executor(threads)
        self._component = open_compression(settings)

    async def compress(self, request: CompressionRequest, trace: Carrier | None = None) -> CompressedContext:
        """Compress; cancelled with the request."""
        with self._workload.work("Compression.compress", trace, request.corpus):
            return await self._component.compress(request)


class Generation(SignallingStage):
    """Writes answers, and whatever other stages have the same model write."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Serve awaits it
        from lightrag.engine import Components, open_answerer

        open_tracing(settings.service.traces)
        self._components = Components(settings)
        self._component = open_answerer(settings, self._components)
        self._workload = Workload("generate", target_tokens=settings.service.generation.target_tokens)
        quotes = settings.generator.backend == "extractive"
        self._turns = turns(settings, settings.service.generation, computes=quotes)
        # Quotes are not written token by token.
        self._written = 0 if quotes else settings.generator.max_tokens
        await self._components.warm()

    async def answer(
        self, request: GenerationRequest, trace: Carrier | None = None
    ) -> AsyncGenerator[list[GenerationDelta], None]:
        """Stream an answer; pieces that come together travel together."""
        written = min(request.max_tokens or self._written, self._written)
        deltas = traced(
            aiter(self._component.answer(request)),
            "Generation.answer",
            self._workload.describe(request.corpus),
            parent=trace,
            kind="server",
        )
        with self._workload.count(request.source_tokens + written):
            async with (
                self._turns.slot(request.corpus.tenant),
                telling(self.check_health),
                aclosing(_gathered(deltas)) as batches,
            ):
                async for batch in batches:
                    yield batch

    async def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling | None, trace: Carrier | None = None
    ) -> list[Completion]:
        """Complete prompts of other stages; cancelled with the request."""
        with self._workload.work("Generation.complete", trace, tokens=len(prompts) * _most_tokens(sampling)):
            async with telling(self.check_health):
                return await self._model().complete(prompts, sampling)

    async def stream(
        self, prompt: Prompt, sampling: Sampling | None, trace: Carrier | None = None
    ) -> AsyncGenerator[CompletionDelta, None]:
        """Complete one prompt of another stage piece by piece."""
        with self._workload.work("Generation.stream", trace, tokens=_most_tokens(sampling)):
            async with telling(self.check_health), aclosing(self._model().stream(prompt, sampling)) as deltas:
                async for delta in deltas:
                    yield delta

    async def check_health(self) -> None:
        """Fail where the model's engine has died: Serve then replaces the replica."""
        await self._components.check_health()

    def _model(self) -> LanguageModel:
        model = self._components.model
        if model is None:
            raise UsageError("there is no language model here: answers are quotes")
        return model


def _most_tokens(sampling: Sampling | None) -> int:
    return (sampling or Sampling()).max_tokens


def _holding(stage: str, settings: Settings, replicas: HoldingReplicaSettings, components: Components) -> Workload:
    """The workload of a stage that holds corpora."""
    service = settings.service
    return Workload(
        stage,
        components.residencies,
        target_bytes=replicas.target_bytes or max(1, service.residency_bytes * 3 // 4),
        window_seconds=service.scale_down_seconds,
    )


# A message between processes costs more than this, and a reader does not notice it.
_TOGETHER_SECONDS = 0.002


async def _gathered(deltas: AsyncIterator[GenerationDelta]) -> AsyncGenerator[list[GenerationDelta], None]:
    """Batch what arrives within a moment; a piece never waits longer than that for the next one."""
    batch: list[GenerationDelta] = []
    following = asyncio.ensure_future(anext(deltas))
    try:
        while True:
            arrived, _ = await asyncio.wait({following}, timeout=_TOGETHER_SECONDS if batch else None)
            if not arrived:
                yield batch
                batch = []
                continue
            try:
                batch.append(following.result())
            except StopAsyncIteration:
                break
            following = asyncio.ensure_future(anext(deltas))
        if batch:
            yield batch
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        if isinstance(deltas, AsyncGenerator):
            await deltas.aclose()


__all__ = ["Compression", "Generation", "Recall", "Retrieval"]
