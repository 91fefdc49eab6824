"""The parts of conversation memory, wired together for all users of a process."""

from __future__ import annotations

import asyncio
from dataclasses import KW_ONLY, dataclass, field
from typing import Any

from lightrag.conversation.extraction.base import MessagesUse
from lightrag.conversation.history import History
from lightrag.conversation.images.index import ImageIndex
from lightrag.conversation.images.pictures import PictureRules
from lightrag.conversation.index.keeper import IndexKeeper
from lightrag.conversation.index.search import SearchWeights, Strategy
from lightrag.conversation.index.vectorizer import Vectorizer
from lightrag.conversation.intake import IntakeRules
from lightrag.conversation.kv_cache.cache import KVCache
from lightrag.conversation.pipeline import Pipeline
from lightrag.conversation.summaries import Summarizer
from lightrag.conversation.update import Consolidator
from lightrag.conversation.usage import UsageMeter
from lightrag.conversation.vectors import VectorStore
from lightrag.models.base import Embedder, LanguageModel


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """What all users of a process have in common."""

    _: KW_ONLY
    messages_use: MessagesUse = "user_only"
    strategy: Strategy = "hybrid"
    indexed: frozenset[Strategy] = frozenset({"embedding", "context", "hybrid"})
    """Strategies that the index serves."""
    lexical_depth: int = 200
    """Candidates that BM25 gives to a search."""
    online: bool = False
    """Reconcile every new entry at once with its neighbours."""
    intake: IntakeRules = field(default_factory=IntakeRules)
    weights: SearchWeights = field(default_factory=SearchWeights)


@dataclass(frozen=True, slots=True)
class Engine:
    """One history with everything derived from it. Shared by all users; every method of its parts takes a scope."""

    history: History
    store: VectorStore
    vectorizer: Vectorizer
    keeper: IndexKeeper
    pipeline: Pipeline
    consolidator: Consolidator
    meter: UsageMeter
    summarizer: Summarizer | None
    """``None`` where the configuration has no ``summary_retriever``."""
    options: EngineOptions
    model: LanguageModel | None = None
    kv_cache: KVCache | None = None
    images: ImageIndex | None = None
    pictures: PictureRules | None = None
    """What images may be; ``None`` where they are not read."""
    owned: tuple[Embedder | LanguageModel, ...] = ()
    """Models that were opened with the engine and are closed with it; those that were handed over are the caller's."""

    async def close(self) -> None:
        """Write what is pending and let go of models, files and connections."""
        await asyncio.to_thread(self.store.close)
        if self.images is not None:
            await asyncio.to_thread(self.images.close)
        await asyncio.to_thread(self.history.close)
        for model in self.owned:
            await model.close()

    def describe(self) -> dict[str, Any]:
        """What this engine is made of, for a person."""
        return {
            "embedder": self.vectorizer.embedder.name,
            "language_model": self.model.name if self.model else None,
            "vector_store": type(self.store).__name__,
            "messages_use": self.options.messages_use,
            "retrieve_strategy": self.options.strategy,
            "multimodal_embedder": self.images.name if self.images else None,
            "kv_cache": self.kv_cache.model if self.kv_cache else None,
            "update": "online" if self.options.online else "offline",
        }


__all__ = ["Engine", "EngineOptions"]
