"""Memories of conversations through a running service: the ``memories`` of a client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any, Protocol

from lightrag.api.memory_schemas import (
    ADD_REPORT,
    CHANGES,
    ENTRY,
    SEARCH_RESULT,
    UPDATE_REPORT,
    EditedMemory,
    Ended,
    Forgotten,
    MemoryPage,
    MemoryText,
    Undone,
)
from lightrag.conversation.types import AddReport, Change, MemoryEntry, SearchResult, UpdateReport

Messages = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class Send(Protocol):
    """Sends one request and returns the body of the answer, or raises the error that it describes."""

    async def __call__(self, method: str, path: str, **options: Any) -> bytes:
        """Send it; ``options`` are those of ``httpx``."""
        ...


class AsyncMemories:
    """Memories of the users of one tenant. Every method raises the branch that the service reports.

    Example::

        async with AsyncClient("http://127.0.0.1:8700") as client:
            await client.memories.add({"role": "user", "content": "I play the cello.", "time_stamp": "2024-01-15"},
                                      user="ada")
            found = await client.memories.search("What do I play?", user="ada")
    """

    def __init__(self, send: Send) -> None:
        self._send = send

    async def add(self, messages: Messages, *, user: str, **options: Any) -> AddReport:
        """Remember messages; ``options`` are ``conversation``, ``request_id``, ``force_segment``, ``force_extract`` and
        ``tags``.

        With a ``request_id`` the call can be repeated after a lost connection: nothing is stored twice.
        """
        listed = dict(messages) if isinstance(messages, Mapping) else [dict(message) for message in messages]
        body = {"user": user, "messages": listed, **options}
        return ADD_REPORT.validate_json(await self._send("POST", "/v1/memories", json=body))

    async def search(self, query: str, *, user: str, limit: int = 10, **options: Any) -> SearchResult:
        """Find entries; ``options`` are ``filter``, ``as_of``, ``tags`` and ``strategy``."""
        body = {"user": user, "query": query, "limit": limit, **options}
        return SEARCH_RESULT.validate_json(await self._send("POST", "/v1/memories/search", json=body))

    async def context(self, query: str, *, user: str, max_tokens: int = 600, **options: Any) -> str:
        """The best memory text for a budget; ``options`` are ``filter``, ``as_of`` and ``tags``."""
        body = {"user": user, "query": query, "max_tokens": max_tokens, **options}
        return MemoryText.model_validate_json(await self._send("POST", "/v1/memories/context", json=body)).text

    async def page(
        self, *, user: str, cursor: str | None = None, limit: int = 100, include_superseded: bool = False
    ) -> MemoryPage:
        """Part of everything that is remembered, in order of time; :meth:`all` reads all of it."""
        asked: dict[str, Any] = {"user": user, "limit": limit, "include_superseded": include_superseded}
        if cursor is not None:
            asked["cursor"] = cursor
        return MemoryPage.model_validate_json(await self._send("GET", "/v1/memories", params=asked))

    async def all(self, *, user: str, include_superseded: bool = False) -> AsyncIterator[MemoryEntry]:
        """Everything that is remembered, in order of time, page by page."""
        page = await self.page(user=user, include_superseded=include_superseded)
        while True:
            for entry in page.entries:
                yield entry
            if page.next is None:
                return
            page = await self.page(user=user, cursor=page.next, include_superseded=include_superseded)

    async def get(self, entry_id: str, *, user: str) -> MemoryEntry:
        """One entry of any state."""
        return ENTRY.validate_json(await self._send("GET", f"/v1/memories/{entry_id}", params={"user": user}))

    async def history(self, entry_id: str, *, user: str) -> list[Change]:
        """Everything that was ever decided about an entry, oldest first."""
        body = await self._send("GET", f"/v1/memories/{entry_id}/history", params={"user": user})
        return CHANGES.validate_json(body)

    async def edit(self, entry_id: str, text: str, *, user: str, revision: int | None = None) -> EditedMemory:
        """Give an entry another text; with a ``revision``, only if it still has that one (else ConflictError)."""
        body = {"user": user, "text": text}
        sent = await self._send("PATCH", f"/v1/memories/{entry_id}", json=body, headers=_if_match(revision))
        return EditedMemory.model_validate_json(sent)

    async def delete(self, entry_id: str, *, user: str, revision: int | None = None) -> str:
        """End an entry; returns the operation, which :meth:`undo` takes back."""
        path = f"/v1/memories/{entry_id}"
        sent = await self._send("DELETE", path, params={"user": user}, headers=_if_match(revision))
        return Ended.model_validate_json(sent).operation

    async def undo(self, operation: str, *, user: str) -> list[str]:
        """Take back an operation; returns the entries that are as they were."""
        body = {"user": user, "operation": operation}
        return Undone.model_validate_json(await self._send("POST", "/v1/memories/undo", json=body)).entries

    async def consolidate(self, *, user: str, **options: Any) -> UpdateReport:
        """Consolidate; ``options`` are ``top_k``, ``keep_top_n``, ``score_threshold`` and ``flush``."""
        body = {"user": user, **options}
        return UPDATE_REPORT.validate_json(await self._send("POST", "/v1/memories/consolidate", json=body))

    async def forget(self, *, user: str) -> int:
        """Delete everything of a user for good; returns the rows deleted."""
        sent = await self._send("DELETE", "/v1/memories", params={"user": user})
        return Forgotten.model_validate_json(sent).rows


class Memories:
    """The blocking face of :class:`AsyncMemories`, with the same methods."""

    def __init__(self, memories: AsyncMemories, loop: asyncio.Runner) -> None:
        self._memories = memories
        self._loop = loop

    def add(self, messages: Messages, *, user: str, **options: Any) -> AddReport:
        """See :meth:`AsyncMemories.add`."""
        return self._loop.run(self._memories.add(messages, user=user, **options))

    def search(self, query: str, *, user: str, limit: int = 10, **options: Any) -> SearchResult:
        """See :meth:`AsyncMemories.search`."""
        return self._loop.run(self._memories.search(query, user=user, limit=limit, **options))

    def context(self, query: str, *, user: str, max_tokens: int = 600, **options: Any) -> str:
        """See :meth:`AsyncMemories.context`."""
        return self._loop.run(self._memories.context(query, user=user, max_tokens=max_tokens, **options))

    def page(self, *, user: str, **options: Any) -> MemoryPage:
        """See :meth:`AsyncMemories.page`."""
        return self._loop.run(self._memories.page(user=user, **options))

    def all(self, *, user: str, include_superseded: bool = False) -> Iterator[MemoryEntry]:
        """See :meth:`AsyncMemories.all`."""
        cursor: str | None = None
        while True:
            page = self.page(user=user, cursor=cursor, include_superseded=include_superseded)
            yield from page.entries
            cursor = page.next
            if cursor is None:
                return

    def get(self, entry_id: str, *, user: str) -> MemoryEntry:
        """See :meth:`AsyncMemories.get`."""
        return self._loop.run(self._memories.get(entry_id, user=user))

    def history(self, entry_id: str, *, user: str) -> list[Change]:
        """See :meth:`AsyncMemories.history`."""
        return self._loop.run(self._memories.history(entry_id, user=user))

    def edit(self, entry_id: str, text: str, *, user: str, revision: int | None = None) -> EditedMemory:
        """See :meth:`AsyncMemories.edit`."""
        return self._loop.run(self._memories.edit(entry_id, text, user=user, revision=revision))

    def delete(self, entry_id: str, *, user: str, revision: int | None = None) -> str:
        """See :meth:`AsyncMemories.delete`."""
        return self._loop.run(self._memories.delete(entry_id, user=user, revision=revision))

    def undo(self, operation: str, *, user: str) -> list[str]:
        """See :meth:`AsyncMemories.undo`."""
        return self._loop.run(self._memories.undo(operation, user=user))

    def consolidate(self, *, user: str, **options: Any) -> UpdateReport:
        """See :meth:`AsyncMemories.consolidate`."""
        return self._loop.run(self._memories.consolidate(user=user, **options))

    def forget(self, *, user: str) -> int:
        """See :meth:`AsyncMemories.forget`."""
        return self._loop.run(self._memories.forget(user=user))


def _if_match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"If-Match": f'"{revision}"'}


__all__ = ["AsyncMemories", "Memories"]
