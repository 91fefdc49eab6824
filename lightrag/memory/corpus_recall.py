"""Recall from the KV memories of corpus versions, as settings describe it, and from gists where a version has none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lightrag.config import MemorySettings, Settings
from lightrag.memory.base import Recaller, RecallRequest, Recollection
from lightrag.memory.corpus_holding import EngineMemories, HeldMemory, LocalMemories, MemoryHolder
from lightrag.memory.corpus_memory import StoredCorpusMemory, VersionMemories
from lightrag.memory.kv_recall import ChosenMemories, KVRecaller
from lightrag.models.base import Embedder, LanguageModel
from lightrag.models.files import quiet_loading, resolve_model
from lightrag.storage.group_catalogue import GroupCatalogue
from lightrag.storage.objects import ObjectStore
from lightrag.storage.residency import Residency

if TYPE_CHECKING:
    from lightrag.memory.kv_memory import KVMemory, ModelIdentity
    from lightrag.memory.text_memory import TextMemory

NO_MEMORY = "{version} has no KV memories, so clues come from its gists and links: ingest it again to make them"


class CorpusRecaller:
    """Recalls from the memories nearest to a question; satisfies :class:`~lightrag.memory.base.Recaller`.

    Args:
        store: where the corpora are.
        holder: holds and reads memories.
        embedder: the one that made the routes.
        gists: recalls where a version has no memories.
        settings: how many memories are asked, and how many clues are kept.
    """

    def __init__(
        self, store: ObjectStore, holder: MemoryHolder, embedder: Embedder, gists: Recaller, settings: Settings
    ) -> None:
        self._holder = holder
        self._embedder = embedder
        self._gists = gists
        self._settings = settings.memory
        self._catalogue = GroupCatalogue(store, "memory", VersionMemories.read)
        self._memories = KVRecaller(holder, self._choose, settings.recall)

    async def recall(self, request: RecallRequest) -> Recollection:
        """Recall from memories where the version has any, else from gists, which a note says.

        Raises:
            NotFoundError: the version does not exist, or has neither.
            ArtifactError: a memory is damaged, or another model or embedder made it.
            UsageError: the question is empty and the task needs one.
            LimitError: a memory takes more than all loaded ones may.
        """
        if len(await self._catalogue.of(request.corpus)):
            return await self._memories.recall(request)
        recollection = await self._gists.recall(request)
        return replace(recollection, notes=(*recollection.notes, NO_MEMORY.format(version=request.corpus)))

    @property
    def residency(self) -> Residency[KVMemory] | None:
        """The loaded memories, for metrics; ``None`` where an engine holds them."""
        return self._holder.residency

    async def warm(self) -> None:
        """Load the model now, so that no question's deadline pays for it."""
        await self._holder.warm()

    async def check_health(self) -> None:
        """Raise ``BackendError`` when the engine that reads the memories has died."""
        await self._holder.check_health()

    async def close(self) -> None:
        """Free the model and all memories."""
        await self._holder.close()

    async def _choose(self, request: RecallRequest) -> ChosenMemories:
        memories = await self._catalogue.of(request.corpus)
        summary = request.task == "summarize"
        limit = self._settings.memories_per_summary if summary else self._settings.memories_per_question
        chosen: Sequence[StoredCorpusMemory]
        if request.question.strip():
            vector = (await self._embedder.embed([request.question], "query"))[0]
            chosen = await asyncio.to_thread(memories.nearest, vector, limit)
        else:
            chosen = await asyncio.to_thread(memories.covering, limit)
        held = tuple(HeldMemory(memory, request.corpus, self._holder) for memory in chosen)
        return ChosenMemories(held, len(memories))


def open_memory_recaller(
    settings: Settings,
    *,
    store: ObjectStore,
    embedder: Embedder,
    gists: Recaller,
    generator: LanguageModel | None = None,
) -> CorpusRecaller:
    """Build recall from KV memories as ``settings.memory`` describes it; its model is loaded at the first use.

    Args:
        settings: ``memory.model`` must be set.
        store: where the corpora are.
        embedder: the one that corpora are ingested with.
        gists: recalls where a version has no memories.
        generator: the service's own language model, which also reads the memories where
            :func:`lightrag.memory.engine_model.shares_engine` says so; it stays the caller's to close.

    Raises:
        ConfigurationError: the configured engine is not installed.
        BackendError: there is no such model here.
    """
    memory = settings.memory
    folder = resolve_model(memory.model)
    holder: MemoryHolder
    if memory.engine == "vllm":
        holder = _engine_memories(settings, folder, generator)
    else:
        service = settings.service
        holder = LocalMemories(
            lambda: _text_memory(memory, folder), budget_bytes=service.residency_bytes, share=service.residency_share
        )
    return CorpusRecaller(store, holder, embedder, gists, settings)


def _text_memory(settings: MemorySettings, folder: Path) -> TextMemory:
    from lightrag.memory.memory_model import load_memory_model
    from lightrag.memory.text_memory import TextMemory

    with quiet_loading():
        model = load_memory_model(folder, ratios=settings.ratio, dtype=settings.dtype, device=settings.device)
        return TextMemory.load(folder, model)


def _engine_memories(settings: Settings, folder: Path, generator: LanguageModel | None) -> EngineMemories:
    from lightrag.memory.engine_model import open_memory_engine, shares_engine
    from lightrag.memory.identity import identify_model

    def identity() -> ModelIdentity:
        return identify_model(folder)

    if generator is not None and shares_engine(settings):
        return EngineMemories(generator, identity, owned=False)
    return EngineMemories(open_memory_engine(settings), identity)


__all__ = ["NO_MEMORY", "CorpusRecaller", "open_memory_recaller"]
