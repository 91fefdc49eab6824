"""Long-term memory of conversations, one user at a time: the asynchronous implementation and its blocking face."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from lightrag.conversation.adding import Adding, consolidated, read_call
from lightrag.conversation.answering import Answering
from lightrag.conversation.arguments import (
    positive,
    share,
)
from lightrag.conversation.context import prompt_block
from lightrag.conversation.editing import withdraw_entry
from lightrag.conversation.engine import Engine
from lightrag.conversation.graph import MemoryGraph, build_graph
from lightrag.conversation.index.search import Strategy
from lightrag.conversation.searching import Searching
from lightrag.conversation.summaries import RelatedFrom, SummaryOptions, SummaryReport
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
from lightrag.errors import ConfigurationError, UsageError

DEFAULT_CONVERSATION = "default"
CONTEXT_TOKENS = 600
CONTEXT_CANDIDATES = 120


class ConversationMemory:
    """The memory of one user. Everything it reads or writes is that user's.

    Get one from ``LightMemory(...).for_user(tenant, user).aio``. Safe to use from many tasks.
    """

    def __init__(self, engine: Engine, scope: Scope) -> None:
        self.engine = engine
        self.scope = scope
        self.adding = Adding(engine, scope)
        self._searching = Searching(engine, scope)
        self._answering = Answering(engine, scope, self._searching)

    # --- Adding -------------------------------------------------------------------------------------------------------

    async def add_memory(
        self,
        messages: Messages,
        *,
        force_segment: bool = False,
        force_extract: bool = False,
        METADATA_GENERATE_PROMPT: str | Mapping[str, str] | None = None,  # the published name
        boundmem_tags: Sequence[str] = (),
        conversation: str = DEFAULT_CONVERSATION,
        request_id: str | None = None,
        extract_seconds: float | None = None,
    ) -> AddReport:
        """Accept messages; they are durable, and found by searches, when this returns.

        Args:
            messages: one or several, see :func:`lightrag.conversation.intake.read_messages`.
            force_segment: the topic ends here: nothing stays in the sensory buffer.
            force_extract: extract now, without waiting for more; implies ``force_segment``.
            METADATA_GENERATE_PROMPT: own instructions for extraction: text, or ``factual`` and ``relational``.
            boundmem_tags: labels that a search may ask for.
            conversation: messages of different conversations of a user are never mixed in one buffer.
            request_id: makes the call repeatable: the same id stores nothing again.
            extract_seconds: how long this call may work on entries; what is not done by then is queued and reported.

        Raises:
            MessageError: a message cannot be accepted; nothing of the call was stored.
            ConflictError: the request id was used for other messages.
            BackendError: the history failed; nothing of the call was stored. Failures of models and of the vector store
                are no errors here: the work is queued and reported.
        """
        call = read_call(
            messages,
            self.engine.options.intake,
            force_segment=force_segment,
            force_extract=force_extract,
            instructions=METADATA_GENERATE_PROMPT,
            tags=boundmem_tags,
            conversation=conversation,
            request_id=request_id,
            seconds=extract_seconds,
        )
        return await self.adding.add(call)

    async def flush(self) -> AddReport:
        """Extract everything that waits in buffers or in the queue, in all conversations of this user."""
        return await self.adding.flush()

    # --- Consolidation ------------------------------------------------------------------------------------------------

    async def construct_update_queue_all_entries(
        self, top_k: int = 20, keep_top_n: int = 10, max_workers: int | None = None
    ) -> int:
        """Find which older entries each new one may update. Costs what is new since the last time.

        Args:
            top_k: neighbours looked at per entry.
            keep_top_n: of these, how many are kept.
            max_workers: accepted for compatibility; one matrix product needs no workers.

        Returns:
            Number of entries whose queue changed.
        """
        positive(top_k=top_k, keep_top_n=keep_top_n, max_workers=max_workers)
        return await self.engine.consolidator.build_queues(self.scope, top_k, keep_top_n)

    async def offline_update_all_entries(
        self, score_threshold: float = 0.9, max_workers: int | None = None
    ) -> UpdateReport:
        """Let later entries update, merge or end earlier ones, as the queues say. Unchanged data cost nothing.

        Args:
            score_threshold: least similarity, 0 to 1.
            max_workers: decisions asked of the model at the same time.
        """
        positive(max_workers=max_workers)
        share(score_threshold)
        report = await self.engine.consolidator.consolidate(self.scope, score_threshold, workers=max_workers)
        return await self._answering.refresh(await consolidated(self.engine, self.scope, report))

    async def offline_update(
        self,
        *,
        construct_update_queue_trigger: bool = True,
        offline_update_trigger: bool = True,
        top_k: int = 20,
        keep_top_n: int = 10,
        score_threshold: float = 0.8,
    ) -> UpdateReport:
        """Both steps of consolidation in one call."""
        if construct_update_queue_trigger:
            await self.construct_update_queue_all_entries(top_k, keep_top_n)
        if not offline_update_trigger:
            return UpdateReport()
        return await self.offline_update_all_entries(score_threshold)

    # --- Reading ------------------------------------------------------------------------------------------------------

    async def search(
        self,
        query: str,
        limit: int = 10,
        filters: Mapping[str, Any] | None = None,
        *,
        exclude_ids: Sequence[str] = (),
        as_of: datetime | str | None = None,
        boundmem_tags: Sequence[str] = (),
        strategy: Strategy | None = None,
    ) -> SearchResult:
        """Find entries, with scores and reasons.

        Args:
            query: the question.
            limit: at most so many.
            filters: see :func:`lightrag.conversation.index.fields.read_filter`; applied inside the search.
            exclude_ids: entries that must not be found.
            as_of: search what held at that time instead of what holds now.
            boundmem_tags: only entries with one of these labels.
            strategy: ``embedding``, ``context`` (BM25) or ``hybrid``; ``None``: as configured.

        Raises:
            UsageError: the question is empty, or a filter is not valid.
            BackendError: the embedder, the history or the vector store failed.
        """
        return await self._searching.search(
            query,
            limit,
            filters,
            exclude_ids=exclude_ids,
            as_of=as_of,
            boundmem_tags=boundmem_tags,
            strategy=strategy,
        )

    async def retrieve(
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
        """Find entries as lines of text: time, weekday, memory. Arguments and errors are those of :meth:`search`."""
        found = await self.search(
            query,
            limit,
            filters,
            exclude_ids=exclude_ids,
            as_of=as_of,
            boundmem_tags=boundmem_tags,
            strategy=strategy,
        )
        return [hit.entry.line for hit in found.entries]

    async def context(
        self,
        query: str,
        max_tokens: int = CONTEXT_TOKENS,
        filters: Mapping[str, Any] | None = None,
        *,
        as_of: datetime | str | None = None,
        boundmem_tags: Sequence[str] = (),
    ) -> str:
        """The best memory text for a budget, ready for a prompt: by day, in order. Empty where nothing is known.

        Args:
            query: the question.
            max_tokens: budget in tokens of the embedder's tokenizer.
            filters: as in :meth:`search`.
            as_of: as in :meth:`search`.
            boundmem_tags: as in :meth:`search`.
        """
        positive(max_tokens=max_tokens)
        found = await self.search(query, CONTEXT_CANDIDATES, filters, as_of=as_of, boundmem_tags=boundmem_tags)
        return prompt_block(found.entries, max_tokens, self.engine.vectorizer.embedder.tokenizer)[0]

    async def prepare(self) -> PreparedMemory:
        """Let the local model of ``kv_cache`` read what is remembered now, so that the next answer need not wait.

        Consolidation does this by itself. Costs nothing where nothing changed.

        Raises:
            ConfigurationError: the configuration has no ``kv_cache``.
            BackendError: the model or the store of encodings failed.
            LimitError: the memory text is longer than the model reads.
        """
        return await self._answering.prepare()

    async def answer(self, question: str, max_tokens: int = 256) -> MemoryAnswer:
        """Answer from memory with the local model of ``kv_cache``, reading only the question.

        What changed since the memory was encoded is encoded first: an answer is never from an older state.

        Args:
            question: in plain words.
            max_tokens: longest answer.

        Raises:
            UsageError: the question is empty.
            ConfigurationError: the configuration has no ``kv_cache``.
            BackendError: the model or a store failed.
            LimitError: memory, question and answer together are longer than the model reads.
        """
        return await self._answering.answer(question, max_tokens)

    async def entries(self, *, include_superseded: bool = False) -> list[MemoryEntry]:
        """Everything that is remembered of this user, in order; messages that no entry stands for included."""
        view = await self.engine.keeper.view(self.scope, vectors=False)
        return [row.entry for row in view.rows if include_superseded or row.entry.state != "superseded"]

    async def picture(self, reference: str) -> bytes:
        """The image file behind one of ``MemoryEntry.images``, as it was added; needs ``multimodal_embedder``.

        Raises:
            NotFoundError: no message of this user has it, or images were not read when it was added.
        """
        return await asyncio.to_thread(self.engine.history.pictures.get, self.scope, reference)

    async def graph(self) -> MemoryGraph:
        """Entities and dated relations over what holds now."""
        view = await self.engine.keeper.view(self.scope, vectors=False)
        kinds = ("fact", "relation")
        return build_graph(row.entry for row in view.rows if row.entry.state == "current" and row.entry.kind in kinds)

    async def summarize(
        self,
        SUMMARY_PROMPT: str | None = None,  # the published name
        *,
        time_window: float = 3600.0,
        process_all: bool = False,
        enable_cross_event: bool = True,
        retrieval_scope: RelatedFrom = "global",
        top_k_seeds: int = 15,
        top_k: int | None = None,
    ) -> SummaryReport:
        """Summarise the earliest period without a summary, or all of them; summaries are found by searches.

        Args:
            SUMMARY_PROMPT: own instructions.
            time_window: length of a period in seconds.
            process_all: all periods, one summary each.
            enable_cross_event: show related entries of other periods to the model.
            retrieval_scope: ``historical``: only earlier ones.
            top_k_seeds: how many of them.
            top_k: another published name of the same.

        Raises:
            ConfigurationError: the configuration has no ``summary_retriever``.
            UsageError: the scope is unknown or a number not positive.
            BackendError: the model failed; finished periods stay.
        """
        if self.engine.summarizer is None:
            raise ConfigurationError(
                "summarize needs the option 'summary_retriever': add it to the configuration",
                subject="summary_retriever",
            )
        if retrieval_scope not in ("global", "historical"):
            raise UsageError(f"retrieval_scope is 'global' or 'historical', not {retrieval_scope!r}")
        count = top_k_seeds if top_k is None else top_k
        positive(top_k=count)
        if time_window <= 0:
            raise UsageError(f"time_window must be positive, not {time_window}", subject="time_window")
        options = SummaryOptions(
            SUMMARY_PROMPT or "",
            timedelta(seconds=time_window),
            process_all,
            count if enable_cross_event else 0,
            retrieval_scope,
        )
        report = await self.engine.summarizer.summarize(self.scope, options)
        self.engine.meter.add("summarize", report.usage)
        return report

    # --- History ------------------------------------------------------------------------------------------------------

    async def history_of(self, entry_id: str) -> list[Change]:
        """Everything that was ever decided about an entry, oldest first.

        Raises:
            NotFoundError: this user has no such entry.
        """
        return await asyncio.to_thread(self.engine.history.entries.changes, self.scope, entry_id)

    async def delete(self, entry_id: str, reason: str = "deleted by request", *, revision: int | None = None) -> str:
        """Take an entry out of memory, with the messages that nothing else was made of: no search finds them.

        Args:
            entry_id: the entry, or a message of which no entry was made.
            reason: for the history of the entry.
            revision: that the entry must have; ``None``: any.

        Returns:
            The operation, which :meth:`undo` takes back.

        Raises:
            NotFoundError: this user has no such entry, or it holds no longer.
            UsageError: the message waits for extraction, or has entries of its own.
            ConflictError: the entry has another revision.
        """
        history = self.engine.history
        operation = await asyncio.to_thread(withdraw_entry, history, self.scope, entry_id, revision, reason)
        await self._answering.forget()
        return operation

    async def undo(self, operation: str) -> tuple[str, ...]:
        """Take back an operation of a consolidation or a deletion. Returns the entries touched.

        Raises:
            NotFoundError: there is no such operation of this user, or it is undone already.
            UsageError: a later operation built on it.
        """
        return await asyncio.to_thread(self.engine.history.entries.undo, self.scope, operation)

    async def forget(self) -> int:
        """Delete everything of this user for good: messages, entries, history, vectors. Returns the rows deleted."""
        deleted = await asyncio.to_thread(self.engine.history.ledger.forget, self.scope)
        await asyncio.to_thread(self.engine.keeper.forget, self.scope)
        if self.engine.images is not None:
            await asyncio.to_thread(self.engine.images.forget, self.scope)
        await self._answering.forget()
        return deleted


__all__ = ["CONTEXT_TOKENS", "DEFAULT_CONVERSATION", "ConversationMemory"]
