"""What has become of users and conversations: receipts of workers, progress and summaries of jobs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, NamedTuple, Self


class FailedConversation(NamedTuple):
    """A conversation, or a record, that is not in anybody's memory."""

    user: str
    """Empty where the record does not say."""
    conversation: str
    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Receipt:
    """What has become of some users. Add them up with ``+``."""

    users: int = 0
    """Who went through."""
    changed: int = 0
    """Of these, whose memory is another now."""
    conversations: int = 0
    imported: int = 0
    unchanged: int = 0
    messages: int = 0
    """That were accepted now."""
    ignored: int = 0
    """Instructions, calls of tools, empty messages."""
    entries: int = 0
    operations: int = 0
    """Changes by consolidation."""
    queued: int = 0
    """Extractions and decisions that failed and are tried again by the next run."""
    calls: int = 0
    """Of a language model."""
    tokens: int = 0
    _: KW_ONLY
    failed: tuple[FailedConversation, ...] = ()
    problems: tuple[str, ...] = ()
    index: tuple[str, ...] = ()
    """Users whose vectors are still to be made."""

    def __add__(self, other: Receipt) -> Receipt:
        return Receipt(**{name: getattr(self, name) + getattr(other, name) for name in _FIELDS})

    def to_json(self) -> str:
        """For carriage between processes."""
        return json.dumps({name: getattr(self, name) for name in _FIELDS})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo :meth:`to_json`."""
        plain = json.loads(text)
        failed = tuple(FailedConversation(*each) for each in plain.pop("failed"))
        rest: dict[str, Any] = {name: tuple(plain.pop(name)) for name in ("problems", "index")}
        return cls(**plain, **rest, failed=failed)


_FIELDS = tuple(name for name in Receipt.__dataclass_fields__ if name != "_")


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job is."""

    stage: str
    """``list`` or ``process``."""
    done: int = 0
    total: int = 0
    """Users."""
    messages: int = 0
    entries: int = 0
    failed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class JobSummary:
    """What a job did."""

    tenant: str
    receipt: Receipt
    _: KW_ONLY
    source: str = ""
    passed_over: int = 0
    """Users who have not changed since the last time."""
    errors_at: str = ""
    """Where all failed conversations are listed."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def complete(self) -> bool:
        """Whether nothing waits for another run."""
        return not self.receipt.queued

    def to_json(self) -> str:
        """As one line."""
        plain = asdict(self.receipt)
        plain.pop("index")
        plain["failed"] = [each._asdict() for each in self.receipt.failed]
        rest = {name: getattr(self, name) for name in ("source", "passed_over", "errors_at", "complete")}
        told = {"tenant": self.tenant, **rest, **plain, "seconds": dict(self.seconds), "notes": list(self.notes)}
        return json.dumps(told, ensure_ascii=False)


Report = Callable[[JobProgress], None]

__all__ = ["FailedConversation", "JobProgress", "JobSummary", "Receipt", "Report"]
