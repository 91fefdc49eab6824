"""Conversation memory as a service uses it: every call names the scope, arguments and results are plain values.

The protocol crosses process walls: a Serve handle and the engine in process both answer it. Loads neither of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, NamedTuple, Protocol

from lightrag.conversation.types import AddReport, Change, MemoryEntry, Scope, SearchResult, UpdateReport

PAGE = 100
Strategy = Literal["embedding", "context", "hybrid"]


class Edited(NamedTuple):
    """What an edit made."""

    entry_id: str
    """The entry that holds now."""
    operation: str
    """Takes the edit back, see :meth:`Memories.undo`."""


@dataclass(frozen=True, slots=True)
class Addition:
    """Messages to remember; see :meth:`lightrag.conversation.memory.ConversationMemory.add_memory`."""

    messages: Sequence[Mapping[str, Any]]
    _: KW_ONLY
    conversation: str = "default"
    request_id: str | None = None
    force_segment: bool = False
    force_extract: bool = False
    tags: tuple[str, ...] = ()
    extract_seconds: float | None = None
    """How long the call may work on entries; what is not done by then is queued."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a memory; see :meth:`lightrag.conversation.memory.ConversationMemory.search`."""

    query: str
    _: KW_ONLY
    filter: Mapping[str, Any] | None = None
    as_of: str | None = None
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which part of a listing."""

    cursor: str | None = None
    """``next`` of the page before."""
    limit: int = PAGE
    include_superseded: bool = False


class Page(NamedTuple):
    """Part of everything that is remembered of a user, in order of time."""

    entries: tuple[MemoryEntry, ...]
    next: str | None
    """Cursor of the following page; ``None`` on the last one."""


@dataclass(frozen=True, slots=True)
class Consolidation:
    """How to consolidate; see :meth:`lightrag.conversation.memory.ConversationMemory.offline_update`."""

    top_k: int = 20
    keep_top_n: int = 10
    score_threshold: float = 0.8
    flush: bool = False
    """First extract what waits in buffers and in the queue."""


class Memories(Protocol):
    """Memories of all users. Raises what the methods of ``ConversationMemory`` raise."""

    async def add(self, scope: Scope, addition: Addition) -> AddReport:
        """Accept messages; they are durable when this returns."""
        ...

    async def search(self, scope: Scope, question: Question, limit: int, strategy: Strategy | None) -> SearchResult:
        """Find entries, with scores and reasons."""
        ...

    async def context(self, scope: Scope, question: Question, max_tokens: int) -> str:
        """The best memory text for a budget."""
        ...

    async def page(self, scope: Scope, request: PageRequest) -> Page:
        """List what is remembered."""
        ...

    async def get(self, scope: Scope, entry_id: str) -> MemoryEntry:
        """One entry of any state, or a message that no entry stands for."""
        ...

    async def history(self, scope: Scope, entry_id: str) -> list[Change]:
        """Everything that was ever decided about an entry."""
        ...

    async def edit(self, scope: Scope, entry_id: str, text: str, revision: int | None) -> Edited:
        """Give an entry another text."""
        ...

    async def delete(self, scope: Scope, entry_id: str, revision: int | None) -> str:
        """End an entry; returns the operation, which can be undone."""
        ...

    async def undo(self, scope: Scope, operation: str) -> tuple[str, ...]:
        """Take back an operation; returns the entries touched."""
        ...

    async def consolidate(self, scope: Scope, options: Consolidation) -> UpdateReport:
        """Let later entries update earlier ones."""
        ...

    async def forget(self, scope: Scope) -> int:
        """Delete everything of a user for good; returns the rows deleted."""
        ...

    async def users(self, tenant: str) -> list[str]:
        """Users of a tenant of whom anything is stored."""
        ...

    async def describe(self) -> dict[str, Any]:
        """What the memory is made of, without secrets."""
        ...


__all__ = [
    "PAGE",
    "Addition",
    "Consolidation",
    "Edited",
    "Memories",
    "Page",
    "PageRequest",
    "Question",
    "Strategy",
]
