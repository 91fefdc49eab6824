"""What a job is, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
JobKind = Literal["ingest"]

ENDED: Final[tuple[JobState, ...]] = ("succeeded", "failed", "cancelled")

MODULES: Final[Mapping[JobKind, str]] = {"ingest": "pipelines.ingest"}
"""What runs a job of each kind: it takes ``--json @SPEC --job-id ID``, and writes JSON lines: events ``progress``, then
``summary`` or ``error``. SIGTERM stops it, and what it has finished stays."""


@dataclass(frozen=True, slots=True)
class StageProgress:
    """How far one step of a job is."""

    stage: str
    done: int
    total: int
    """0 where it is not known yet."""
    _: KW_ONLY
    tokens: int = 0
    bytes: int = 0
    failed: int = 0
    seconds: float = 0.0
    """Wall-clock time in this step."""

    @property
    def rate(self) -> float:
        """Of ``done`` a second."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; ``None`` where nothing can be said."""
        if not self.total or not self.rate:
            return None
        return (self.total - self.done) / self.rate


@dataclass(frozen=True, slots=True)
class Job:
    """One job as recorded."""

    job_id: str
    """Later jobs have greater ids."""
    tenant: str
    corpus: str
    kind: JobKind
    spec: Mapping[str, Any]
    """What to do; holds no secrets."""
    state: JobState
    _: KW_ONLY
    priority: int = 0
    """Higher ones start first."""
    attempt: int = 1
    progress: tuple[StageProgress, ...] = ()
    """Steps of this attempt, in order; the last one is where it is."""
    summary: Mapping[str, Any] = field(default_factory=dict)
    """What it did; empty until it has succeeded."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """``documents tokens bytes cpu_seconds wall_seconds``."""
    error: str = ""
    cancel_requested: bool = False
    place: str = ""
    """Where the work is done: ``process@host`` or ``ray``."""
    created: datetime
    started: datetime | None = None
    """Of this attempt."""
    ended: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended; a retry begins it anew."""
        return self.state in ENDED


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some jobs, newest first."""

    jobs: tuple[Job, ...]
    next: str | None = None
    """Cursor of the following page; ``None`` on the last one."""


__all__ = ["ENDED", "MODULES", "Job", "JobKind", "JobPage", "JobState", "StageProgress"]
