"""Build the stages of the pipeline from settings, and run all of them in one process.

Serve replicas build one stage each with the ``open_`` functions; a library user takes :class:`Engine`, which holds them
all. Knows nothing of HTTP or Ray.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Self

from lightrag.compression import CompressionStage
from lightrag.config import Settings, load_settings
from lightrag.corpora import Corpora
from lightrag.errors import NotFoundError, UsageError
from lightrag.generation.base import Answerer
from lightrag.generation.extractive import ExtractiveAnswerer
from lightrag.generation.prompted import PromptedAnswerer
from lightrag.ingestion import IngestSpec, IngestSummary, Line, SourceSpec, ingest
from lightrag.latents.corpus_latents import CorpusLatents
from lightrag.latents.stage import CompressionByMethod
from lightrag.memory.base import Recaller
from lightrag.memory.engine_model import open_generator
from lightrag.memory.extractive_recall import LinkRecaller
from lightrag.memory.recall import GistSentenceRecaller, PromptedRecaller, TaskRecaller
from lightrag.models import open_embedder
from lightrag.models.base import Embedder, FloatMatrix, HealthChecked, LanguageModel, Warmable
from lightrag.rag import AskEvent, AskRequest, QuestionPipeline, Stages
from lightrag.retrieval.base import Retriever
from lightrag.retrieval.index import build_index
from lightrag.retrieval.matching import Query
from lightrag.retrieval.retriever import IndexRetriever
from lightrag.retrieval.search import SearchOptions, search
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.storage.residency import Residency
from lightrag.tracing import open_tracing
from lightrag.types import Answer, Chunk, CorpusId, CorpusVersion, Task

if TYPE_CHECKING:
    from lightrag.memory.corpus_recall import CorpusRecaller


class Components:
    """What several stages share when they run in one process: opened once, and only when needed.

    Args:
        settings: what to open.
        model: a language model in the place of the one that the settings describe, which another process holds.
    """

    def __init__(self, settings: Settings, *, model: LanguageModel | None = None) -> None:
        self.settings = settings
        self._embedder: Embedder | None = None
        self._model = model
        self._model_opened = model is not None
        self._store: ObjectStore | None = None
        self._corpora: Corpora | None = None
        self._memories: CorpusRecaller | None = None
        self._warm = False

    @property
    def embedder(self) -> Embedder:
        """The configured embedder."""
        self._embedder = self._embedder or open_embedder(self.settings.embedder)
        return self._embedder

    @property
    def model(self) -> LanguageModel | None:
        """The configured language model; ``None`` where answers are quoted."""
        if not self._model_opened:
            self._model, self._model_opened = open_generator(self.settings), True
        return self._model

    @property
    def store(self) -> ObjectStore:
        """Where the corpora are."""
        if self._store is None:
            self._store = open_object_store(self.settings.storage_url, self.settings.storage.options)
        return self._store

    @property
    def corpora(self) -> Corpora:
        """Loaded corpora."""
        service = self.settings.service
        self._corpora = self._corpora or Corpora(
            self.store, budget_bytes=service.residency_bytes, share=service.residency_share
        )
        return self._corpora

    def memories(self, gists: Recaller) -> CorpusRecaller:
        """Recall from KV memories, and from gists where a corpus has none; ``settings.memory`` names a model."""
        from lightrag.memory.corpus_recall import open_memory_recaller

        if self._memories is None:
            self._memories = open_memory_recaller(
                self.settings, store=self.store, embedder=self.embedder, gists=gists, generator=self.model
            )
        return self._memories

    def residencies(self) -> dict[str, Residency[Any]]:
        """What is held in memory so far, by what it is: ``corpora``, ``memories``."""
        held: dict[str, Residency[Any]] = {}
        if self._corpora is not None:
            held["corpora"] = self._corpora.residency
        if self._memories is not None and self._memories.residency is not None:
            held["memories"] = self._memories.residency
        return held

    async def warm(self) -> None:
        """Load models and search libraries now, so that no question's deadline pays for it. Repeating costs nothing."""
        if not self._warm:
            vectors = await self.embedder.embed(["warm"])
            await asyncio.to_thread(_search_once, vectors, self.embedder.fingerprint)
            model: object = self._model
            if isinstance(model, Warmable):
                await model.warm()
            if self._memories is not None:
                await self._memories.warm()
            self._warm = True

    async def check_health(self) -> None:
        """Raise ``BackendError`` when a language model, the one that reads memories among them, is broken for good."""
        model: object = self._model
        if isinstance(model, HealthChecked):
            await model.check_health()
        if self._memories is not None:
            await self._memories.check_health()

    async def close(self) -> None:
        """Free models and connections."""
        for part in (self._embedder, self._model, self._memories):
            if part is not None:
                await part.close()


def _search_once(vectors: FloatMatrix, embedder: str) -> None:
    """Run one search over one passage: its libraries are loaded when they are first used."""
    passage = Chunk("warm", "warm", 0, "warm", 0, 4, tokens=1)
    search(build_index([passage], vectors, embedder=embedder), [Query("warm", vectors[0])], SearchOptions())


def open_recaller(settings: Settings, components: Components | None = None) -> Recaller:
    """Build the recall stage: from KV memories where ``settings.memory`` names a model, else from gists."""
    parts = components or Components(settings)
    gists = _open_gist_recaller(settings, parts)
    return parts.memories(gists) if settings.memory.model else gists


def _open_gist_recaller(settings: Settings, parts: Components) -> Recaller:
    """Prompted where there is a language model, else by following links and reading gists."""
    if parts.model is not None:
        return PromptedRecaller(parts.model, parts.corpora.lease, settings.recall)
    return TaskRecaller(
        questions=LinkRecaller(parts.embedder, parts.corpora.index, settings.recall),
        gists=GistSentenceRecaller(parts.embedder, parts.corpora.lease, settings.recall),
    )


def open_retriever(settings: Settings, components: Components | None = None) -> Retriever:
    """Build the retrieval stage."""
    parts = components or Components(settings)
    return IndexRetriever(parts.embedder, parts.corpora.index, settings.retrieval)


def open_answerer(settings: Settings, components: Components | None = None) -> Answerer:
    """Build the generation stage: a language model where one is configured, else quotes."""
    parts = components or Components(settings)
    if parts.model is None:
        return ExtractiveAnswerer(parts.embedder)
    generator = settings.generator
    return PromptedAnswerer(parts.model, max_tokens=generator.max_tokens, temperature=generator.temperature)


def open_compression(settings: Settings, components: Components | None = None) -> CompressionStage:
    """Build the compression stage that ``settings.compression`` describes."""
    parts = components or Components(settings)
    embedder = parts.embedder if settings.compression.importance == "embedding" else None
    latents = CorpusLatents(parts.store)
    return CompressionByMethod(settings.compression, generator=parts.model, embedder=embedder, latents=latents)


class Engine:
    """Everything in one process: for notebooks, scripts, and a laptop without a cluster.

    Use it as an asynchronous context manager, or take :meth:`ask_sync` outside an event loop.

    Example::

        async with Engine() as engine:
            answer = await engine.ask("Who signed the lease?", corpus="contracts")
    """

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or load_settings()
        open_tracing(self.settings.service.traces)
        self._components = Components(self.settings)
        self.pipeline = QuestionPipeline(self._stages(), self.settings.deadlines)

    def _stages(self) -> Stages:
        parts = self._components
        answerer = open_answerer(self.settings, parts)
        quote = ExtractiveAnswerer(parts.embedder) if parts.model is not None else None
        return Stages(
            open_retriever(self.settings, parts),
            answerer,
            recall=open_recaller(self.settings, parts),
            compress=open_compression(self.settings, parts),
            quote=quote,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Free models and connections."""
        await self._components.close()

    async def ingest(self, location: str | os.PathLike[str], *, corpus: str, **options: Any) -> IngestSummary:
        """Read documents into a corpus in this process; ``options`` are further fields of the job's description.

        The Ray Data job in ``pipelines`` does the same on a cluster, with the same result.

        Raises:
            LightRAGError: as :func:`lightrag.ingestion.ingest`.
        """
        spec = IngestSpec(
            corpus=corpus, tenant=self.settings.tenant, source=SourceSpec(location=os.fspath(location)), **options
        )
        return await asyncio.to_thread(ingest, Line(self.settings, spec))

    async def ask(self, question: str, *, corpus: str, task: Task = "memorag", **options: object) -> Answer:
        """Ask the newest version of a corpus; ``options`` are further fields of :class:`lightrag.rag.AskRequest`.

        Raises:
            NotFoundError: there is no such corpus.
            LightRAGError: as :meth:`lightrag.rag.QuestionPipeline.ask`.
        """
        return await self.pipeline.ask(await self._request(question, corpus, task, options))

    async def stream(
        self, question: str, *, corpus: str, task: Task = "memorag", **options: object
    ) -> AsyncGenerator[AskEvent, None]:
        """Ask, and read the answer as it is written."""
        async for event in self.pipeline.stream(await self._request(question, corpus, task, options)):
            yield event

    def ask_sync(self, question: str, *, corpus: str, task: Task = "memorag", **options: object) -> Answer:
        """The blocking face of :meth:`ask`."""
        return asyncio.run(self.ask(question, corpus=corpus, task=task, **options))

    async def _request(self, question: str, corpus: str, task: Task, options: dict[str, object]) -> AskRequest:
        await self._components.warm()
        version = await asyncio.to_thread(self._newest, CorpusId(self.settings.tenant, corpus))
        known = {field.name for field in fields(AskRequest)}
        if unknown := sorted(set(options) - known):
            raise UsageError(f"ask has no option {unknown[0]!r}; the options are {sorted(known)!r}", subject=unknown[0])
        return AskRequest(version, question, task=task, **options)  # type: ignore[arg-type]  # names are checked above

    def _newest(self, corpus: CorpusId) -> CorpusVersion:
        commit = CorpusLog(self._components.store, corpus).latest()
        if commit is None:
            raise NotFoundError(f"there is no corpus {corpus.corpus!r}: ingest documents into it", subject=str(corpus))
        return commit.id


__all__ = ["Components", "Engine", "open_answerer", "open_compression", "open_recaller", "open_retriever"]
