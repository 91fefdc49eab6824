"""Memories of conversations through a running service: the ``memories`` of a client."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import date
from typing import Any
from uuid import uuid4

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
from lightrag.client_blocking import Face, blocking, iterating
from lightrag.client_transport import Channel, route
from lightrag.conversation.types import AddReport, Change, MemoryEntry, SearchResult, UpdateReport
from lightrag.errors import UsageError

Messages = Mapping[str, Any] | Sequence[Mapping[str, Any]]


class AsyncMemories:
    """Memories of the users of one tenant. Every method raises the branch that the service reports.

    Example::

        async with AsyncClient("http://127.0.0.1:8700") as client:
            await client.memories.add({"role": "user", "content": "I play the cello.", "time_stamp": "2024-01-15"},
                                      user="ada")
            found = await client.memories.search("What do I play?", user="ada")
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def add(self, /, messages: Messages, *, user: str, **options: Any) -> AddReport:
        """Remember messages; ``options`` are ``conversation``, ``request_id``, ``force_segment``, ``force_extract`` and
        ``tags``.

        With a ``request_id`` the call can be repeated at any time: nothing is stored twice. Without one it gets one of
        its own, for the attempts of this call.

        Raises:
            UsageError: messages are no dict and no list of dicts.
        """
        listed = [messages] if isinstance(messages, Mapping) else list(messages)
        if not all(isinstance(message, Mapping) for message in listed):
            raise UsageError("messages are a dict or a list of dicts with 'role', 'content' and 'time_stamp'")
        body = {"user": user, "messages": _plain(listed), "request_id": f"auto-{uuid4().hex}", **options}
        return ADD_REPORT.validate_json(await self._channel.send("POST", route("memories"), json=body))

    async def search(self, /, query: str, *, user: str, limit: int = 10, **options: Any) -> SearchResult:
        """Find entries; ``options`` are ``filter``, ``as_of``, ``tags`` and ``strategy``."""
        body = {"user": user, "query": query, "limit": limit, **_plain(options)}
        sent = await self._channel.send("POST", route("memories", "search"), reads=True, json=body)
        return SEARCH_RESULT.validate_json(sent)

    async def context(self, /, query: str, *, user: str, max_tokens: int = 600, **options: Any) -> str:
        """The best memory text for a budget; ``options`` are ``filter``, ``as_of`` and ``tags``."""
        body = {"user": user, "query": query, "max_tokens": max_tokens, **_plain(options)}
        sent = await self._channel.send("POST", route("memories", "context"), reads=True, json=body)
        return MemoryText.model_validate_json(sent).text

    async def page(
        self, *, user: str, cursor: str | None = None, limit: int = 100, include_superseded: bool = False
    ) -> MemoryPage:
        """Part of everything that is remembered, in order of time; :meth:`all` reads all of it."""
        asked: dict[str, Any] = {"user": user, "limit": limit, "include_superseded": include_superseded}
        if cursor is not None:
            asked["cursor"] = cursor
        return MemoryPage.model_validate_json(await self._channel.send("GET", route("memories"), params=asked))

    async def all(self, *, user: str, include_superseded: bool = False) -> AsyncGenerator[MemoryEntry, None]:
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
        return ENTRY.validate_json(await self._channel.send("GET", route("memories", entry_id), params={"user": user}))

    async def history(self, entry_id: str, *, user: str) -> list[Change]:
        """Everything that was ever decided about an entry, oldest first."""
        body = await self._channel.send("GET", route("memories", entry_id, "history"), params={"user": user})
        return CHANGES.validate_json(body)

    async def edit(self, entry_id: str, text: str, *, user: str, revision: int | None = None) -> EditedMemory:
        """Give an entry another text; with a ``revision``, only if it still has that one (else ConflictError)."""
        path, body = route("memories", entry_id), {"user": user, "text": text}
        sent = await self._channel.send("PATCH", path, once=True, json=body, headers=_if_match(revision))
        return EditedMemory.model_validate_json(sent)

    async def delete(self, entry_id: str, *, user: str, revision: int | None = None) -> str:
        """End an entry; returns the operation, which :meth:`undo` takes back."""
        path = route("memories", entry_id)
        sent = await self._channel.send("DELETE", path, once=True, params={"user": user}, headers=_if_match(revision))
        return Ended.model_validate_json(sent).operation

    async def undo(self, operation: str, *, user: str) -> list[str]:
        """Take back an operation; returns the entries that are as they were."""
        body = {"user": user, "operation": operation}
        sent = await self._channel.send("POST", route("memories", "undo"), once=True, json=body)
        return Undone.model_validate_json(sent).entries

    async def consolidate(self, /, *, user: str, **options: Any) -> UpdateReport:
        """Consolidate; ``options`` are ``top_k``, ``keep_top_n``, ``score_threshold`` and ``flush``."""
        body = {"user": user, **options}
        sent = await self._channel.send("POST", route("memories", "consolidate"), json=body)
        return UPDATE_REPORT.validate_json(sent)

    async def forget(self, *, user: str) -> int:
        """Delete everything of a user for good; returns the rows deleted."""
        sent = await self._channel.send("DELETE", route("memories"), params={"user": user})
        return Forgotten.model_validate_json(sent).rows


class Memories(Face[AsyncMemories]):
    """The blocking face of :class:`AsyncMemories`, with the same methods."""

    add = blocking(AsyncMemories.add)
    search = blocking(AsyncMemories.search)
    context = blocking(AsyncMemories.context)
    page = blocking(AsyncMemories.page)
    all = iterating(AsyncMemories.all)
    get = blocking(AsyncMemories.get)
    history = blocking(AsyncMemories.history)
    edit = blocking(AsyncMemories.edit)
    delete = blocking(AsyncMemories.delete)
    undo = blocking(AsyncMemories.undo)
    consolidate = blocking(AsyncMemories.consolidate)
    forget = blocking(AsyncMemories.forget)


def _plain(value: Any) -> Any:
    """The same without times and bytes, which JSON does not have and memories in process take."""
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return "data:application/octet-stream;base64," + base64.b64encode(value).decode()
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _if_match(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {"If-Match": f'"{revision}"'}


__all__ = ["AsyncMemories", "Memories"]
