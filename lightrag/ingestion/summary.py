"""What a job reports: events while it runs, and a summary at its end."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import NamedTuple


class FailedDocument(NamedTuple):
    """A document that is not in the new version, or only as it was before."""

    source: str
    stage: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is."""

    stage: str
    """``list``, ``process``, ``publish`` or ``encode``."""
    done: int = 0
    total: int = 0
    """Documents; groups of them in ``encode``."""
    _: KW_ONLY
    chunks: int = 0
    tokens: int = 0
    bytes: int = 0
    failed: int = 0
    seconds: float = 0.0
    """Wall-clock time since the job began."""


@dataclass(frozen=True, slots=True)
class IngestSummary:
    """What a job did."""

    corpus: str
    version: int | None
    """The newest version now; ``None`` where the corpus is still empty."""
    committed: bool
    """Whether this job made that version; it makes none where nothing has changed."""
    _: KW_ONLY
    source: str
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0
    failed: int = 0
    documents: int = 0
    """In the whole corpus now, other sources included."""
    chunks: int = 0
    tokens: int = 0
    """In the whole corpus now."""
    processed_chunks: int = 0
    processed_tokens: int = 0
    processed_bytes: int = 0
    """What this job had to work on."""
    resumed: int = 0
    """Documents whose results an earlier job, killed or overtaken, had left in staging."""
    groups_encoded: int = 0
    """KV memories and parts of latents that this job has made."""
    groups_carried: int = 0
    """Those that the version before had too: nothing in them has changed."""
    groups_resumed: int = 0
    """Those that an earlier job, killed or overtaken, had made."""
    groups_bytes: int = 0
    """Stored bytes of those that this job has made."""
    ignored: int = 0
    """Files of the source that are no documents."""
    ignored_examples: Sequence[str] = ()
    errors: Sequence[FailedDocument] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall-clock time per step of the job."""
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    """Processor time per stage, all workers together."""
    notes: Sequence[str] = ()
    """What the user should know."""

    def to_json(self) -> str:
        """As one line."""
        plain = asdict(self) | {"errors": [error._asdict() for error in self.errors]}
        return json.dumps(plain, ensure_ascii=False)

    @property
    def text(self) -> str:
        """One sentence."""
        parts = [
            f"{count} {word}"
            for word in ("new", "changed", "unchanged", "deleted", "failed")
            if (count := getattr(self, word))
        ]
        state = f"version {self.version}" if self.committed else "nothing to commit"
        return f"{self.corpus}: {', '.join(parts) or 'no documents'} ({state})"


Report = Callable[[Progress], None]


__all__ = ["FailedDocument", "IngestSummary", "Progress", "Report"]
