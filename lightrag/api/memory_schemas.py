"""What goes over HTTP about memories of conversations and is not already a value of ``lightrag.conversation``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from lightrag.api.schemas import LONGEST_QUESTION, Body
from lightrag.conversation.types import AddReport, Change, MemoryEntry, SearchResult, UpdateReport

ADD_REPORT = TypeAdapter(AddReport)
SEARCH_RESULT = TypeAdapter(SearchResult)
UPDATE_REPORT = TypeAdapter(UpdateReport)
ENTRY = TypeAdapter(MemoryEntry)
CHANGES = TypeAdapter(list[Change])

LARGEST_PAGE = 1000


class AddBody(Body):
    """Messages to remember."""

    user: str
    """Whose memory: any printable text of at most 256 characters."""
    messages: dict[str, Any] | list[dict[str, Any]]
    """One message or a list: ``role``, ``content``, ``time_stamp``; ``speaker_name``, ``speaker_id``, ``images``."""
    conversation: str = Field(default="default", min_length=1, max_length=256)
    """Messages of different conversations are never mixed in one buffer."""
    request_id: str | None = Field(default=None, min_length=1, max_length=256)
    """Makes the call repeatable: the same id stores nothing again."""
    force_segment: bool = False
    force_extract: bool = False
    tags: tuple[str, ...] = ()

    def listed(self) -> Sequence[dict[str, Any]]:
        """The messages as a list."""
        return [self.messages] if isinstance(self.messages, dict) else self.messages


class AskMemoryBody(Body):
    """What a search and a context block have in common."""

    user: str
    query: str = Field(max_length=LONGEST_QUESTION)
    filter: dict[str, Any] | None = None
    """By ``time``, ``speaker``, ``category``, ``entity``, ``tag``, ``kind`` and so on; applied inside the search."""
    as_of: str | None = None
    """What held at that time instead of now."""
    tags: tuple[str, ...] = ()


class SearchBody(AskMemoryBody):
    """A search."""

    limit: int = Field(default=10, ge=1, le=LARGEST_PAGE)
    strategy: Literal["embedding", "context", "hybrid"] | None = None
    """As configured where left out."""


class ContextBody(AskMemoryBody):
    """A block of memory for a prompt."""

    max_tokens: int = Field(default=600, ge=1, le=100_000)


class EditBody(Body):
    """Another text for an entry."""

    user: str
    text: str = Field(min_length=1, max_length=100_000)


class UndoBody(Body):
    """An operation to take back."""

    user: str
    operation: str


class ConsolidateBody(Body):
    """A consolidation of one user's memory."""

    user: str
    top_k: int = Field(default=20, ge=1, le=1000)
    keep_top_n: int = Field(default=10, ge=1, le=1000)
    score_threshold: float = Field(default=0.8, ge=0, le=1)
    flush: bool = False
    """First extract what waits in buffers and in the queue."""


class MemoryPage(BaseModel):
    """Part of a listing."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    entries: list[MemoryEntry]
    next: str | None
    """Cursor of the following page; null on the last one."""


class MemoryText(BaseModel):
    """A block of memory for a prompt."""

    text: str


class EditedMemory(BaseModel):
    """What an edit made."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    entry: MemoryEntry
    """What holds now."""
    operation: str
    """Takes the edit back."""


class Ended(BaseModel):
    """An entry was ended."""

    operation: str


class Undone(BaseModel):
    """Entries that are as they were."""

    entries: list[str]


class Forgotten(BaseModel):
    """Everything of a user was deleted for good."""

    rows: int


__all__ = [
    "ADD_REPORT",
    "CHANGES",
    "ENTRY",
    "LARGEST_PAGE",
    "SEARCH_RESULT",
    "UPDATE_REPORT",
    "AddBody",
    "AskMemoryBody",
    "ConsolidateBody",
    "ContextBody",
    "EditBody",
    "EditedMemory",
    "Ended",
    "Forgotten",
    "MemoryPage",
    "MemoryText",
    "SearchBody",
    "UndoBody",
    "Undone",
]
