"""The nouns of conversation memory as frozen values: scopes, messages, segments, entries, changes, reports.

Knows nothing of stores, models or configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any, Literal

from blake3 import blake3

from lightrag.errors import UsageError
from lightrag.types import FoundBy, LinkStep, Usage, check_name

Role = Literal["user", "assistant"]
EntryState = Literal["provisional", "current", "superseded", "deleted"]
EntryKind = Literal["turn", "fact", "relation", "summary"]
ChangeAction = Literal["add", "repeat", "supersede", "update", "merge", "delete", "undo"]

USER_CHARACTERS = 256


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Whose memory: a user of a tenant. Every call that reads or writes memory takes one."""

    tenant: str
    user: str
    """Any printable text without line breaks, for example an e-mail address."""

    def __post_init__(self) -> None:
        check_name(self.tenant, "tenant")
        if not isinstance(self.user, str) or not self.user.strip():
            raise UsageError(f"user {self.user!r} is empty: name the user whose memory this is", subject=self.tenant)
        if len(self.user) > USER_CHARACTERS or not self.user.isprintable():
            raise UsageError(
                f"user {self.user[:40]!r} must be printable and have at most {USER_CHARACTERS} characters",
                subject=self.tenant,
            )

    def __str__(self) -> str:
        return f"{self.tenant}/{self.user}"

    @property
    def key(self) -> str:
        """A name for folders and filters: equal for equal scopes, different for different ones."""
        return blake3(f"{self.tenant}\0{self.user}".encode()).hexdigest(length=16)


@dataclass(frozen=True, slots=True)
class Message:
    """One accepted turn of a conversation."""

    role: Role
    content: str
    time: datetime
    """As given; naive times stay naive. Order inside a conversation is (time, arrival)."""
    _: KW_ONLY
    speaker: str = ""
    """Name of who speaks; empty where only the role is known."""
    speaker_id: str = ""
    images: tuple[str, ...] = ()
    """URLs, data URIs or paths of attached images."""
    tags: tuple[str, ...] = ()
    """Labels that a search may ask for; never part of the text."""

    @property
    def who(self) -> str:
        """The speaker's name, or the role as a name."""
        return self.speaker or self.role.capitalize()


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message as the history holds it."""

    message_id: str
    seq: int
    """Position in order of arrival, over all conversations of all users."""
    conversation: str
    message: Message
    compressed: str | None = None
    """What pre-compression kept; the original text always stays in ``message``."""
    segment: int | None = None
    extracted: bool = False
    revision: int = 0
    """When it was accepted or extracted, counted in changes of the scope."""

    @property
    def working_text(self) -> str:
        """What extraction reads."""
        return self.message.content if self.compressed is None else self.compressed


@dataclass(frozen=True, slots=True)
class TopicSegment:
    """Neighbouring messages about one topic."""

    segment: int
    conversation: str
    messages: tuple[StoredMessage, ...]


@dataclass(frozen=True, slots=True)
class MemoryEntry:
    """One thing remembered. Its text never changes: an update is a new entry that supersedes this one."""

    entry_id: str
    text: str
    time: datetime
    """When it was said; the start of its validity."""
    _: KW_ONLY
    kind: EntryKind = "fact"
    state: EntryState = "current"
    valid_to: datetime | None = None
    """When a later entry took its place; ``None`` while it holds."""
    superseded_by: str | None = None
    speaker: str = ""
    speaker_id: str = ""
    conversation: str = ""
    topic: int | None = None
    """The topic segment it came from."""
    sources: tuple[str, ...] = ()
    """Ids of the messages it was extracted from, in order."""
    occurrences: int = 1
    """How often it was said."""
    method: Literal["extractive", "prompted"] = "extractive"
    """``extractive`` entries quote their sources; ``prompted`` ones were written by a language model."""
    category: str = ""
    importance: float = 1.0
    """0 to 1, as judged by extraction."""
    keywords: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    event_time: str = ""
    """ISO date of what it tells about, where the text says it."""
    tags: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
    """Entries that a summary is about."""
    revision: int = 0
    """Grows with every change in the scope."""

    @property
    def line(self) -> str:
        """The published text form: time, weekday, memory."""
        return f"{self.time.isoformat()} {self.time:%a} {self.text}"


@dataclass(frozen=True, slots=True)
class EntryDraft:
    """An entry that is not in the history yet; the history gives it its id, or finds that it holds already."""

    text: str
    time: datetime
    sources: tuple[str, ...]
    _: KW_ONLY
    kind: EntryKind = "fact"
    speaker: str = ""
    speaker_id: str = ""
    conversation: str = ""
    topic: int | None = None
    method: Literal["extractive", "prompted"] = "extractive"
    category: str = ""
    importance: float = 1.0
    keywords: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    event_time: str = ""
    tags: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()

    @property
    def live_key(self) -> str:
        """Equal for entries that say the same; at most one entry of a scope with a given key holds at a time."""
        words = " ".join(self.text.casefold().split()).rstrip(".!?。！？ ")
        parts = (self.kind, self.speaker_id or self.speaker, self.event_time, words)
        return blake3("\0".join(parts).encode()).hexdigest(length=16)


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the undo log."""

    change_id: int
    operation: str
    """Changes of one decision share it and are undone together."""
    action: ChangeAction
    entry_id: str
    before: Mapping[str, Any]
    """The entry's changeable fields before; empty for an addition."""
    after: Mapping[str, Any]
    reason: str
    at: datetime
    undone: bool = False


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """A search hit with the reasons why it is here."""

    entry: MemoryEntry
    score: float
    """Comparable within one search only."""
    found_by: tuple[FoundBy, ...] = ()
    via: tuple[LinkStep, ...] = ()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Hits, best first, and what the user should know about the search."""

    entries: tuple[FoundEntry, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that was refused, postponed or dropped, with its reason."""

    stage: Literal["compress", "segment", "extract", "index", "update", "summarize", "kv_cache"]
    reason: str
    subject: str = ""
    retried: bool = False
    """Whether the work waits in the queue and is tried again by later calls."""


@dataclass(frozen=True, slots=True)
class AddReport:
    """What one call of ``add_memory`` did. ``report["api_call_nums"]`` and the other published keys work too."""

    accepted: tuple[str, ...]
    """Ids of the messages that are now durable."""
    entries: tuple[str, ...] = ()
    """Ids of entries that this call created or met again."""
    buffered: int = 0
    """Messages of this conversation that wait for their topic to end; they are searchable already."""
    queued: int = 0
    """Extraction batches of this user that wait for another try."""
    repeated: bool = False
    """The request id was seen before: nothing was stored again."""
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    usage: Usage = Usage()

    def __getitem__(self, key: str) -> Any:
        """Read a published key: ``api_call_nums``, ``add_input_prompt`` or ``add_output_prompt``.

        Prompts are never handed back, so the two lists are empty.
        """
        published: Mapping[str, Any] = {
            "api_call_nums": self.usage.calls,
            "add_input_prompt": [],
            "add_output_prompt": [],
        }
        return published[key]


@dataclass(frozen=True, slots=True)
class UpdateReport:
    """What one consolidation did."""

    examined: int = 0
    """Entries that later ones were compared with."""
    updated: int = 0
    merged: int = 0
    deleted: int = 0
    ignored: int = 0
    operations: tuple[str, ...] = ()
    """One per change made; each can be undone."""
    problems: tuple[Problem, ...] = ()
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class PreparedMemory:
    """A memory that a local model has read beforehand."""

    entries: int = 0
    """Entries that it holds."""
    left_out: int = 0
    """Older entries that did not fit."""
    cells: int = 0
    """Size of the KV memory; 0 where nothing is remembered."""
    _: KW_ONLY
    revision: int = 0
    """Of the memory that it stands for."""
    encoded: bool = False
    """Whether it was encoded by this call; otherwise nothing had changed."""


@dataclass(frozen=True, slots=True)
class MemoryAnswer:
    """What a local model says from memory alone."""

    text: str
    memory: PreparedMemory
    _: KW_ONLY
    notes: tuple[str, ...] = ()
    usage: Usage = field(default_factory=Usage)


def position(entry: MemoryEntry) -> tuple[datetime, int]:
    """Order of entries: time said, then arrival. No two entries of a scope are equal under it."""
    return (comparable(entry.time), int(entry.entry_id[1:]))


def comparable(time: datetime) -> datetime:
    """A naive time that orders mixed naive and aware times alike: aware ones are taken to UTC."""
    if time.tzinfo is None:
        return time
    offset = time.utcoffset()
    return time.replace(tzinfo=None) - offset if offset is not None else time.replace(tzinfo=None)


Messages = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""What ``add_memory`` takes: one message or a list of them."""

__all__ = [
    "AddReport",
    "Change",
    "ChangeAction",
    "EntryDraft",
    "EntryKind",
    "EntryState",
    "FoundEntry",
    "MemoryAnswer",
    "MemoryEntry",
    "Message",
    "Messages",
    "PreparedMemory",
    "Problem",
    "Role",
    "Scope",
    "SearchResult",
    "StoredMessage",
    "TopicSegment",
    "UpdateReport",
    "comparable",
    "position",
]
