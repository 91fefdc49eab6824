"""Conversation memory as a Serve deployment, and the handle through which the ingress calls it.

All state is in the history's database and in the vector store, so a replica can be lost at any moment and any replica
can answer. Calls of one user go to one replica where that is possible, because it has the user's index in memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

from ray.serve.handle import DeploymentHandle

from deployments.handles import _call
from deployments.models import open_remote_model
from lightrag.config import Settings
from lightrag.conversation.service import Addition, Consolidation, Edited, Page, PageRequest, Question, Strategy
from lightrag.conversation.types import AddReport, Change, MemoryEntry, Scope, SearchResult, UpdateReport
from lightrag.tracing import Carrier, open_tracing
from lightrag.workload import StageReport, Workload


class Conversation:
    """Remembers conversations. The engine is opened by the first call, so a service that needs none pays for none."""

    def __init__(self, settings: Settings, generation: DeploymentHandle | None = None) -> None:
        from lightrag.conversation.engine_service import EngineMemories

        open_tracing(settings.service.traces)
        self._workload = Workload("conversation")
        self._memories = EngineMemories(settings, language_model=open_remote_model(settings, generation))

    async def call(self, method: str, *arguments: Any, trace: Carrier | None = None) -> Any:
        """Call a method of :class:`lightrag.conversation.service.Memories`; cancelled with the request."""
        with self._workload.work(f"Conversation.{method}", trace):
            return await getattr(self._memories, method)(*arguments)

    async def report(self) -> StageReport:
        """Say how this replica is."""
        return self._workload.report()

    def __del__(self) -> None:
        # Serve calls this when it stops a replica; without it, up to a batch of vectors per user is made again.
        self._memories.release()


class RemoteMemories:
    """Memories on replicas; see :class:`lightrag.conversation.service.Memories`.

    A call whose replica is lost is made again, except where doing it twice is not the same as once.
    """

    def __init__(self, handle: DeploymentHandle) -> None:
        self._handle = handle

    async def add(self, scope: Scope, addition: Addition) -> AddReport:
        """Accept messages. A lost replica is tried again, so every call has an id that makes it repeatable."""
        if addition.request_id is None:
            addition = replace(addition, request_id=f"auto-{uuid4().hex}")
        report: AddReport = await self._for(scope, "add", addition)
        return report

    async def search(self, scope: Scope, question: Question, limit: int, strategy: Strategy | None) -> SearchResult:
        """Find entries."""
        found: SearchResult = await self._for(scope, "search", question, limit, strategy)
        return found

    async def context(self, scope: Scope, question: Question, max_tokens: int) -> str:
        """The best memory text for a budget."""
        return str(await self._for(scope, "context", question, max_tokens))

    async def page(self, scope: Scope, request: PageRequest) -> Page:
        """List what is remembered."""
        page: Page = await self._for(scope, "page", request)
        return page

    async def get(self, scope: Scope, entry_id: str) -> MemoryEntry:
        """One entry."""
        entry: MemoryEntry = await self._for(scope, "get", entry_id)
        return entry

    async def history(self, scope: Scope, entry_id: str) -> list[Change]:
        """Everything that was ever decided about an entry."""
        changes: list[Change] = await self._for(scope, "history", entry_id)
        return changes

    async def edit(self, scope: Scope, entry_id: str, text: str, revision: int | None) -> Edited:
        """Give an entry another text."""
        edited: Edited = await self._for(scope, "edit", entry_id, text, revision, repeatable=False)
        return edited

    async def delete(self, scope: Scope, entry_id: str, revision: int | None) -> str:
        """End an entry."""
        return str(await self._for(scope, "delete", entry_id, revision, repeatable=False))

    async def undo(self, scope: Scope, operation: str) -> tuple[str, ...]:
        """Take back an operation."""
        entries: tuple[str, ...] = await self._for(scope, "undo", operation, repeatable=False)
        return entries

    async def consolidate(self, scope: Scope, options: Consolidation) -> UpdateReport:
        """Consolidate."""
        report: UpdateReport = await self._for(scope, "consolidate", options)
        return report

    async def forget(self, scope: Scope) -> int:
        """Delete everything of a user."""
        return int(await self._for(scope, "forget"))

    async def users(self, tenant: str) -> list[str]:
        """Users of a tenant."""
        users: list[str] = await _call(self._handle, "call", "users", tenant)
        return users

    async def describe(self) -> dict[str, Any]:
        """What the memory is made of."""
        description: dict[str, Any] = await _call(self._handle, "call", "describe")
        return description

    async def _for(self, scope: Scope, method: str, *arguments: Any, repeatable: bool = True) -> Any:
        # The key instead of the name: it travels in a header.
        handle = self._handle.options(session_id=scope.key)
        return await _call(handle, "call", method, scope, *arguments, repeatable=repeatable)


__all__ = ["Conversation", "RemoteMemories"]
