"""What the tools call: a service that runs, or the same components in this process where none does.

One process holds the vectors of an embedded store, so a server beside a running service must go through it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from lightrag.api.schemas import CorpusInfo
from lightrag.config import Settings
from lightrag.conversation.types import AddReport, MemoryEntry, Scope, SearchResult, UpdateReport
from lightrag.types import Answer, Task

if TYPE_CHECKING:
    from lightrag.engine import Engine

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


class Access(Protocol):
    """Memories and corpora of one tenant."""

    async def add(self, user: str, messages: Sequence[Mapping[str, Any]], **options: Any) -> AddReport:
        """Remember messages."""
        ...

    async def search(self, user: str, query: str, limit: int, filters: Mapping[str, Any] | None) -> SearchResult:
        """Find memories."""
        ...

    async def page(self, user: str, cursor: str | None, limit: int) -> tuple[Sequence[MemoryEntry], str | None]:
        """List memories: entries, and the cursor of the next page."""
        ...

    async def delete(self, user: str, entry_id: str) -> str:
        """End a memory; returns the operation."""
        ...

    async def undo(self, user: str, operation: str) -> Sequence[str]:
        """Take back an operation; returns the memories touched."""
        ...

    async def consolidate(self, user: str, **options: Any) -> UpdateReport:
        """Extract what waits, then let later memories update earlier ones."""
        ...

    async def corpora(self) -> list[CorpusInfo]:
        """The corpora."""
        ...

    async def ask(self, question: str, corpus: str, task: Task) -> Answer:
        """Ask a corpus."""
        ...

    async def describe(self) -> dict[str, Any]:
        """What answers, without secrets."""
        ...

    async def close(self) -> None:
        """Let go of everything."""
        ...


class ServiceAccess:
    """Through a service at a URL."""

    def __init__(self, url: str) -> None:
        from lightrag.client import AsyncClient

        self._client = AsyncClient(url)
        self._url = url

    async def add(self, user: str, messages: Sequence[Mapping[str, Any]], **options: Any) -> AddReport:
        """See :class:`Access`."""
        return await self._client.memories.add(messages, user=user, **options)

    async def search(self, user: str, query: str, limit: int, filters: Mapping[str, Any] | None) -> SearchResult:
        """See :class:`Access`."""
        return await self._client.memories.search(query, user=user, limit=limit, filter=filters)

    async def page(self, user: str, cursor: str | None, limit: int) -> tuple[Sequence[MemoryEntry], str | None]:
        """See :class:`Access`."""
        page = await self._client.memories.page(user=user, cursor=cursor, limit=limit)
        return page.entries, page.next

    async def delete(self, user: str, entry_id: str) -> str:
        """See :class:`Access`."""
        return await self._client.memories.delete(entry_id, user=user)

    async def undo(self, user: str, operation: str) -> Sequence[str]:
        """See :class:`Access`."""
        return await self._client.memories.undo(operation, user=user)

    async def consolidate(self, user: str, **options: Any) -> UpdateReport:
        """See :class:`Access`."""
        return await self._client.memories.consolidate(user=user, **options, flush=True)

    async def corpora(self) -> list[CorpusInfo]:
        """See :class:`Access`."""
        return await self._client.corpora()

    async def ask(self, question: str, corpus: str, task: Task) -> Answer:
        """See :class:`Access`."""
        return await self._client.ask(question, corpus=corpus, task=task)

    async def describe(self) -> dict[str, Any]:
        """See :class:`Access`."""
        return {"service": without_credentials(self._url), "healthy": await self._client.healthy()}

    async def close(self) -> None:
        """See :class:`Access`."""
        await self._client.close()


class LocalAccess:
    """In this process. Models are loaded by the first call that needs them."""

    def __init__(self, settings: Settings) -> None:
        from lightrag.conversation.engine_service import EngineMemories

        self._settings = settings
        self._memories = EngineMemories(settings)
        self._engine: Engine | None = None

    async def add(self, user: str, messages: Sequence[Mapping[str, Any]], **options: Any) -> AddReport:
        """See :class:`Access`."""
        from lightrag.conversation.service import Addition

        return await self._memories.add(self._scope(user), Addition(messages, **options))

    async def search(self, user: str, query: str, limit: int, filters: Mapping[str, Any] | None) -> SearchResult:
        """See :class:`Access`."""
        from lightrag.conversation.service import Question

        return await self._memories.search(self._scope(user), Question(query, filter=filters), limit)

    async def page(self, user: str, cursor: str | None, limit: int) -> tuple[Sequence[MemoryEntry], str | None]:
        """See :class:`Access`."""
        from lightrag.conversation.service import PageRequest

        return await self._memories.page(self._scope(user), PageRequest(cursor, limit))

    async def delete(self, user: str, entry_id: str) -> str:
        """See :class:`Access`."""
        return await self._memories.delete(self._scope(user), entry_id)

    async def undo(self, user: str, operation: str) -> Sequence[str]:
        """See :class:`Access`."""
        return await self._memories.undo(self._scope(user), operation)

    async def consolidate(self, user: str, **options: Any) -> UpdateReport:
        """See :class:`Access`."""
        from lightrag.conversation.service import Consolidation

        return await self._memories.consolidate(self._scope(user), Consolidation(**options, flush=True))

    async def corpora(self) -> list[CorpusInfo]:
        """See :class:`Access`."""
        from lightrag.api.catalogue import StoredCatalogue
        from lightrag.storage.objects import open_object_store

        settings = self._settings
        store = await asyncio.to_thread(open_object_store, settings.storage_url, settings.storage.options)
        return await StoredCatalogue(store, refresh_seconds=0.0).corpora(settings.tenant)

    async def ask(self, question: str, corpus: str, task: Task) -> Answer:
        """See :class:`Access`."""
        from lightrag.engine import Engine

        self._engine = self._engine or Engine(self._settings)
        return await self._engine.ask(question, corpus=corpus, task=task)

    async def describe(self) -> dict[str, Any]:
        """See :class:`Access`."""
        from lightrag.conversation.opening import memory_configuration

        made = await self._memories.describe()
        options = memory_configuration(self._settings).model_dump(mode="json", exclude_none=True)
        return _masked({**made, "options": options})

    async def close(self) -> None:
        """See :class:`Access`."""
        await self._memories.close()
        if self._engine is not None:
            await self._engine.close()

    def _scope(self, user: str) -> Scope:
        return Scope(self._settings.tenant, user)


def open_access(settings: Settings, url: str = "") -> Access:
    """The service at ``url``, or the one that runs from this home folder, or else everything in this process."""
    from lightrag.cli.process import find

    running = None if url else find(settings)
    url = running.url if running else url
    return ServiceAccess(url) if url else LocalAccess(settings)


def without_credentials(text: str) -> str:
    """A URL without user name and password."""
    return _CREDENTIALS.sub("", text)


def _masked(value: Any) -> Any:
    """The same without credentials in URLs; keys of their own are masked by their type."""
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, Mapping):
        return {name: _masked(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_masked(part) for part in value]
    return value


__all__ = ["Access", "LocalAccess", "ServiceAccess", "open_access", "without_credentials"]
