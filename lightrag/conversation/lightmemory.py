"""``LightMemory``: the blocking face of conversation memory, in the shape of the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Self

from lightrag.conversation._sync import run_sync
from lightrag.conversation.adding import read_call
from lightrag.conversation.assembly import open_engine
from lightrag.conversation.configuration import read_configuration
from lightrag.conversation.engine import Engine
from lightrag.conversation.graph import MemoryGraph
from lightrag.conversation.index.search import Strategy
from lightrag.conversation.memory import CONTEXT_TOKENS, DEFAULT_CONVERSATION, ConversationMemory
from lightrag.conversation.summaries import SummaryReport
from lightrag.conversation.types import (
    AddReport,
    Change,
    MemoryAnswer,
    MemoryEntry,
    Messages,
    PreparedMemory,
    Scope,
    SearchResult,
    UpdateReport,
)
from lightrag.models.base import Embedder, LanguageModel

DEFAULT_SCOPE = Scope("default", "default")


class LightMemory:
    """Long-term memory of one user; :meth:`for_user` gives that of another one over the same engine.

    Example:
        >>> store = {"model_name": "qdrant", "configs": {"path": path}}
        >>> memory = LightMemory.from_config({"embedding_retriever": store})
        >>> report = memory.add_memory(
        ...     {"role": "user", "content": "My favorite color is blue.", "time_stamp": "2024-01-15T10:30:00"},
        ...     force_extract=True,
        ... )
        >>> memory.retrieve("What color do I like?", limit=1)
        ['2024-01-15T10:30:00 Mon User: My favorite color is blue.']
        >>> memory.close()
    """

    def __init__(self, engine: Engine, scope: Scope = DEFAULT_SCOPE) -> None:
        self._engine = engine
        self.scope = scope
        self.aio = ConversationMemory(engine, scope)
        """The same methods to await. Use one event loop per engine."""

    @classmethod
    def from_config(
        cls,
        config: Mapping[str, Any],
        *,
        embedder: Embedder | None = None,
        language_model: LanguageModel | None = None,
    ) -> LightMemory:
        """Open a memory from the published configuration dictionary.

        Args:
            config: options, see :class:`lightrag.conversation.configuration.MemoryConfiguration`.
            embedder: used instead of the one that the configuration names; it stays yours to close.
            language_model: the same.

        Raises:
            ConfigurationError: options are unknown, impossible, contradictory, or need what this machine lacks.
        """
        return cls(open_engine(read_configuration(config), embedder=embedder, language_model=language_model))

    def for_user(self, tenant: str, user: str) -> LightMemory:
        """The memory of another user, over the same stores and models.

        Raises:
            UsageError: the tenant or the user is no valid name.
        """
        return LightMemory(self._engine, Scope(tenant, user))

    def users(self, tenant: str | None = None) -> list[Scope]:
        """Whose memories there are."""
        return self._engine.history.ledger.scopes(tenant)

    def add_memory(
        self,
        messages: Messages,
        METADATA_GENERATE_PROMPT: str | Mapping[str, str] | None = None,  # the published name
        *,
        force_segment: bool = False,
        force_extract: bool = False,
        boundmem_tags: Sequence[str] = (),
        conversation: str = DEFAULT_CONVERSATION,
        request_id: str | None = None,
        extract_seconds: float | None = None,
    ) -> AddReport:
        """Accept messages; see :meth:`ConversationMemory.add_memory`."""
        call = read_call(
            messages,
            self._engine.options.intake,
            force_segment=force_segment,
            force_extract=force_extract,
            instructions=METADATA_GENERATE_PROMPT,
            tags=boundmem_tags,
            conversation=conversation,
            request_id=request_id,
            seconds=extract_seconds,
        )
        return self.aio.adding.add_blocking(call)

    def flush(self) -> AddReport:
        """Extract everything that waits; see :meth:`ConversationMemory.flush`."""
        return run_sync(self.aio.flush())

    def construct_update_queue_all_entries(
        self, top_k: int = 20, keep_top_n: int = 10, max_workers: int | None = None
    ) -> int:
        """Build update queues; see :meth:`ConversationMemory.construct_update_queue_all_entries`."""
        return run_sync(self.aio.construct_update_queue_all_entries(top_k, keep_top_n, max_workers))

    def offline_update_all_entries(self, score_threshold: float = 0.9, max_workers: int | None = None) -> UpdateReport:
        """Consolidate; see :meth:`ConversationMemory.offline_update_all_entries`."""
        return run_sync(self.aio.offline_update_all_entries(score_threshold, max_workers))

    def offline_update(self, **options: Any) -> UpdateReport:
        """Both steps of consolidation; see :meth:`ConversationMemory.offline_update`."""
        return run_sync(self.aio.offline_update(**options))

    def retrieve(
        self,
        query: str,
        limit: int = 10,
        filters: Mapping[str, Any] | None = None,
        *,
        exclude_ids: Sequence[str] = (),
        as_of: datetime | str | None = None,
        boundmem_tags: Sequence[str] = (),
        strategy: Strategy | None = None,
    ) -> list[str]:
        """Find entries as lines of text; see :meth:`ConversationMemory.retrieve`."""
        return run_sync(
            self.aio.retrieve(
                query,
                limit,
                filters,
                exclude_ids=exclude_ids,
                as_of=as_of,
                boundmem_tags=boundmem_tags,
                strategy=strategy,
            )
        )

    def search(
        self, query: str, limit: int = 10, filters: Mapping[str, Any] | None = None, **options: Any
    ) -> SearchResult:
        """Find entries with reasons; see :meth:`ConversationMemory.search`."""
        return run_sync(self.aio.search(query, limit, filters, **options))

    def context(
        self,
        query: str,
        max_tokens: int = CONTEXT_TOKENS,
        filters: Mapping[str, Any] | None = None,
        *,
        as_of: datetime | str | None = None,
        boundmem_tags: Sequence[str] = (),
    ) -> str:
        """The best memory text for a budget; see :meth:`ConversationMemory.context`."""
        return run_sync(self.aio.context(query, max_tokens, filters, as_of=as_of, boundmem_tags=boundmem_tags))

    def prepare(self) -> PreparedMemory:
        """Let a local model read the memory beforehand; see :meth:`ConversationMemory.prepare`."""
        return run_sync(self.aio.prepare())

    def answer(self, question: str, max_tokens: int = 256) -> MemoryAnswer:
        """Answer from the encoded memory; see :meth:`ConversationMemory.answer`."""
        return run_sync(self.aio.answer(question, max_tokens))

    def entries(self, *, include_superseded: bool = False) -> list[MemoryEntry]:
        """Everything that is remembered; see :meth:`ConversationMemory.entries`."""
        return run_sync(self.aio.entries(include_superseded=include_superseded))

    def picture(self, reference: str) -> bytes:
        """An attached image file; see :meth:`ConversationMemory.picture`."""
        return run_sync(self.aio.picture(reference))

    def graph(self) -> MemoryGraph:
        """Entities and dated relations; see :meth:`ConversationMemory.graph`."""
        return run_sync(self.aio.graph())

    def summarize(self, SUMMARY_PROMPT: str | None = None, **options: Any) -> SummaryReport:  # published
        """Summarise periods; see :meth:`ConversationMemory.summarize`."""
        return run_sync(self.aio.summarize(SUMMARY_PROMPT, **options))

    def history_of(self, entry_id: str) -> list[Change]:
        """What was decided about an entry; see :meth:`ConversationMemory.history_of`."""
        return run_sync(self.aio.history_of(entry_id))

    def delete(self, entry_id: str, reason: str = "deleted by request", *, revision: int | None = None) -> str:
        """Take an entry out of memory; see :meth:`ConversationMemory.delete`."""
        return run_sync(self.aio.delete(entry_id, reason, revision=revision))

    def undo(self, operation: str) -> tuple[str, ...]:
        """Take back an operation; see :meth:`ConversationMemory.undo`."""
        return run_sync(self.aio.undo(operation))

    def forget(self) -> int:
        """Delete everything of this user for good; see :meth:`ConversationMemory.forget`."""
        return run_sync(self.aio.forget())

    def get_token_statistics(self) -> dict[str, Any]:
        """What this process has spent on models, by stage."""
        return self._engine.meter.statistics()

    def describe(self) -> dict[str, Any]:
        """What this memory is made of, for a person."""
        return self._engine.describe()

    def close(self) -> None:
        """Write what is pending and let go of everything, for all users of this engine."""
        run_sync(self._engine.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


__all__ = ["DEFAULT_SCOPE", "LightMemory"]
