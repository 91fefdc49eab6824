"""One user's questions to the memory: checked, embedded, searched, with notes on what limited the search."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lightrag.conversation.arguments import entry_ids, positive, tag_names
from lightrag.conversation.clock import parse_time
from lightrag.conversation.engine import Engine
from lightrag.conversation.index.fields import read_filter, valid_at
from lightrag.conversation.index.search import MemoryQuery, MemorySearch, Strategy
from lightrag.conversation.index.view import MemoryView
from lightrag.conversation.types import Scope, SearchResult
from lightrag.errors import MessageError, UsageError
from lightrag.retrieval.filters import And, Equal, FilterNode


class Searching:
    """Searches one user's memory."""

    def __init__(self, engine: Engine, scope: Scope) -> None:
        self._engine = engine
        self._scope = scope

    async def search(
        self,
        query: str,
        limit: int,
        filters: Mapping[str, Any] | None = None,
        *,
        exclude_ids: Sequence[str] = (),
        as_of: datetime | str | None = None,
        boundmem_tags: Sequence[str] = (),
        strategy: Strategy | None = None,
    ) -> SearchResult:
        """See :meth:`lightrag.conversation.memory.ConversationMemory.search`."""
        if not isinstance(query, str) or not query.strip():
            given = "empty" if isinstance(query, str) else f"{query!r}, not text"
            raise UsageError(f"the query is {given}: ask something", subject="query")
        positive(limit=limit)
        excluded = entry_ids(exclude_ids)
        engine = self._engine
        strategy = self._strategy(strategy)
        condition = _condition(filters, as_of, tag_names(boundmem_tags))
        view = await engine.keeper.view(self._scope, vectors=strategy != "context")
        if not len(view):
            return SearchResult(())
        vector = None if strategy == "context" else await engine.vectorizer.query(query)
        depth = engine.options.lexical_depth
        pictured = await self._pictured(view, query, strategy)
        asked = MemoryQuery(query, vector, strategy, condition, excluded, lexical_depth=depth, pictured=pictured)
        run = MemorySearch(self._scope, view, engine.store, asked, engine.options.weights)
        found = await asyncio.to_thread(run.run, limit)
        return SearchResult(tuple(found), self._notes(query, strategy))

    async def _pictured(self, view: MemoryView, query: str, strategy: Strategy) -> Mapping[int, float]:
        images = self._engine.images
        if images is None or strategy == "context":
            return {}
        return await asyncio.to_thread(images.evidence, self._scope, view, query)

    def _strategy(self, asked: Strategy | None) -> Strategy:
        options = self._engine.options
        strategy = asked or options.strategy
        if strategy not in options.indexed:
            raise UsageError(
                f"strategy {strategy!r} needs an index that is not built: set index_strategy to 'hybrid', or ask with "
                f"{', '.join(repr(name) for name in sorted(options.indexed))}",
                subject="strategy",
            )
        return strategy

    def _notes(self, query: str, strategy: Strategy) -> tuple[str, ...]:
        embedder = self._engine.vectorizer.embedder
        tokens = embedder.tokenizer.count(query)
        if strategy == "context" or tokens <= embedder.max_tokens:
            return ()
        return (f"the question has {tokens} tokens; its vector is the mean over windows of {embedder.max_tokens}",)


def _condition(filters: Mapping[str, Any] | None, as_of: datetime | str | None, tags: tuple[str, ...]) -> FilterNode:
    parts = [valid_at(None if as_of is None else _time(as_of))]
    if filters:
        parts.append(read_filter(filters))
    if tags:
        parts.append(Equal(field="tag", values=tags))
    return And(parts=tuple(parts))


def _time(as_of: datetime | str) -> datetime:
    try:
        return parse_time(as_of)
    except MessageError as error:
        raise UsageError(f"as_of is no time: {error}", subject="as_of") from error


__all__ = ["Searching"]
