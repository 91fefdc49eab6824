"""Memories of all users over one engine in this process: what a replica, a job or a local MCP server holds."""

from __future__ import annotations

import asyncio
import base64
import binascii
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lightrag.config import Settings
from lightrag.conversation.editing import edit_entry
from lightrag.conversation.engine import Engine
from lightrag.conversation.index.rows import item_number
from lightrag.conversation.memory import CONTEXT_TOKENS, ConversationMemory
from lightrag.conversation.opening import open_conversations
from lightrag.conversation.service import Addition, Consolidation, Edited, Page, PageRequest, Question, Strategy
from lightrag.conversation.types import AddReport, Change, MemoryEntry, Scope, SearchResult, UpdateReport, comparable
from lightrag.errors import LightRAGError, NotFoundError, UsageError
from lightrag.models.base import LanguageModel


class EngineMemories:
    """Memories in this process. The engine is opened at the first call; what hinders it is said to every caller.

    Args:
        settings: which engine. Use one event loop.
        engine: instead of the one that the settings describe.
        language_model: instead of the one that the settings describe.
    """

    def __init__(
        self, settings: Settings, *, engine: Engine | None = None, language_model: LanguageModel | None = None
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._language_model = language_model
        self._lock = asyncio.Lock()
        self._opening: asyncio.Future[Engine] | None = None

    async def engine(self) -> Engine:
        """The engine, opened once.

        Raises:
            LightRAGError: as :func:`lightrag.conversation.opening.open_conversations`; the next call tries again.
        """
        async with self._lock:
            if self._engine is None:
                opening = self._opening = self._opening or asyncio.ensure_future(
                    asyncio.to_thread(open_conversations, self._settings, language_model=self._language_model)
                )
                try:
                    # A caller who is cancelled meanwhile leaves it to the next one: nobody else could open the vectors.
                    engine = await asyncio.shield(opening)
                finally:
                    if opening.done():
                        self._opening = None
                # Whoever reaches the service must not have it read files of this machine.
                pictures = engine.pictures and replace(engine.pictures, paths=False)
                self._engine = replace(engine, pictures=pictures)
            return self._engine

    async def close(self) -> None:
        """Write what is pending and let go of everything."""
        if self._opening is not None:
            # Whoever began this has gone.
            with suppress(LightRAGError):
                await self.engine()
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.close()

    def release(self) -> None:
        """Write what is pending and let go of the stores, outside an event loop; for a process that ends."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.store.close()
            engine.history.close()

    async def _of(self, scope: Scope) -> ConversationMemory:
        return ConversationMemory(await self.engine(), scope)

    async def _is_known(self, scope: Scope) -> bool:
        """Whether anything was ever stored of a user. Asking leaves no trace: anybody can ask for any name."""
        ledger = (await self.engine()).history.ledger
        return await asyncio.to_thread(ledger.revision, scope) > 0

    async def _require_known(self, scope: Scope, what: str) -> Engine:
        if not await self._is_known(scope):
            raise NotFoundError(f"{scope} has no {what}", subject=what)
        return await self.engine()

    async def add(self, scope: Scope, addition: Addition) -> AddReport:
        """See :class:`lightrag.conversation.service.Memories`."""
        memory = await self._of(scope)
        return await memory.add_memory(
            addition.messages,
            force_segment=addition.force_segment,
            force_extract=addition.force_extract,
            boundmem_tags=addition.tags,
            conversation=addition.conversation,
            request_id=addition.request_id,
            extract_seconds=addition.extract_seconds,
        )

    async def search(
        self, scope: Scope, question: Question, limit: int = 10, strategy: Strategy | None = None
    ) -> SearchResult:
        """See :class:`lightrag.conversation.service.Memories`."""
        if question.query.strip() and not await self._is_known(scope):
            return SearchResult(())
        memory = await self._of(scope)
        return await memory.search(
            question.query,
            limit,
            question.filter,
            as_of=question.as_of,
            boundmem_tags=question.tags,
            strategy=strategy,
        )

    async def context(self, scope: Scope, question: Question, max_tokens: int = CONTEXT_TOKENS) -> str:
        """See :class:`lightrag.conversation.service.Memories`."""
        if question.query.strip() and not await self._is_known(scope):
            return ""
        memory = await self._of(scope)
        return await memory.context(
            question.query, max_tokens, question.filter, as_of=question.as_of, boundmem_tags=question.tags
        )

    async def page(self, scope: Scope, request: PageRequest) -> Page:
        """See :class:`lightrag.conversation.service.Memories`."""
        after = _read_cursor(request.cursor) if request.cursor else None
        if not await self._is_known(scope):
            return Page((), None)
        memory = await self._of(scope)
        entries = await memory.entries(include_superseded=request.include_superseded)
        ordered = sorted(entries, key=_position)
        waiting = ordered if after is None else [entry for entry in ordered if _position(entry) > after]
        taken = waiting[: request.limit]
        more = len(waiting) > len(taken)
        return Page(tuple(taken), _write_cursor(_position(taken[-1])) if more else None)

    async def get(self, scope: Scope, entry_id: str) -> MemoryEntry:
        """See :class:`lightrag.conversation.service.Memories`."""
        engine = await self._require_known(scope, f"memory entry {entry_id!r}")
        if entry_id[:1] == "e":
            return await asyncio.to_thread(engine.history.entries.get, scope, entry_id)
        memory = ConversationMemory(engine, scope)
        found = {entry.entry_id: entry for entry in await memory.entries(include_superseded=True)}
        if entry_id not in found:
            raise NotFoundError(f"{scope} has no memory entry {entry_id!r}", subject=entry_id)
        return found[entry_id]

    async def history(self, scope: Scope, entry_id: str) -> list[Change]:
        """See :class:`lightrag.conversation.service.Memories`."""
        await self.get(scope, entry_id)
        if entry_id[:1] != "e":
            return []
        return await (await self._of(scope)).history_of(entry_id)

    async def edit(self, scope: Scope, entry_id: str, text: str, revision: int | None = None) -> Edited:
        """See :class:`lightrag.conversation.service.Memories`."""
        engine = await self._require_known(scope, f"memory entry {entry_id!r}")
        return await asyncio.to_thread(edit_entry, engine.history, scope, entry_id, text, revision)

    async def delete(self, scope: Scope, entry_id: str, revision: int | None = None) -> str:
        """See :class:`lightrag.conversation.service.Memories`."""
        engine = await self._require_known(scope, f"memory entry {entry_id!r}")
        return await ConversationMemory(engine, scope).delete(entry_id, revision=revision)

    async def undo(self, scope: Scope, operation: str) -> tuple[str, ...]:
        """See :class:`lightrag.conversation.service.Memories`."""
        engine = await self._require_known(scope, f"operation {operation!r}")
        return await ConversationMemory(engine, scope).undo(operation)

    async def consolidate(self, scope: Scope, options: Consolidation) -> UpdateReport:
        """See :class:`lightrag.conversation.service.Memories`."""
        if not await self._is_known(scope):
            return UpdateReport()
        memory = await self._of(scope)
        flushed = await memory.flush() if options.flush else AddReport(())
        report = await memory.offline_update(
            top_k=options.top_k, keep_top_n=options.keep_top_n, score_threshold=options.score_threshold
        )
        return replace(report, problems=(*flushed.problems, *report.problems), usage=flushed.usage + report.usage)

    async def forget(self, scope: Scope) -> int:
        """See :class:`lightrag.conversation.service.Memories`."""
        return await (await self._of(scope)).forget() if await self._is_known(scope) else 0

    async def users(self, tenant: str) -> list[str]:
        """See :class:`lightrag.conversation.service.Memories`."""
        ledger = (await self.engine()).history.ledger
        return [scope.user for scope in await asyncio.to_thread(ledger.scopes, tenant)]

    async def describe(self) -> dict[str, Any]:
        """See :class:`lightrag.conversation.service.Memories`."""
        engine = await self.engine()
        history = engine.history.ledger.engine.url.render_as_string(hide_password=True)
        return {**engine.describe(), "history": history}


# --- Cursors ----------------------------------------------------------------------------------------------------------


def _position(entry: MemoryEntry) -> tuple[str, int]:
    """Order of a listing: time said, then arrival. No two entries of a user are equal under it."""
    return comparable(entry.time).isoformat(timespec="microseconds"), item_number(entry.entry_id)


def _write_cursor(position: tuple[str, int]) -> str:
    return base64.urlsafe_b64encode(f"{position[0]} {position[1]}".encode()).decode().rstrip("=")


def _read_cursor(cursor: str) -> tuple[str, int]:
    try:
        time, _, item = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
        return time, int(item)
    except (binascii.Error, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"cursor {cursor[:80]!r} is not one of a page of memories", subject="cursor") from error


__all__ = ["EngineMemories"]
