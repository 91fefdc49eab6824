"""Where the work of jobs is done, as a supervisor sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from lightrag.jobs.types import Job


class Look(NamedTuple):
    """What a runner sees of an attempt."""

    alive: bool
    lines: Sequence[str]
    """Of its output, since the last look."""
    reason: str = ""
    """Why it ended, where the runner knows something that its output does not say."""


class Runner(Protocol):
    """Starts and watches attempts. Every call may be repeated, also by another process after this one was lost."""

    @property
    def place(self) -> str:
        """Name under which its jobs are recorded."""
        ...

    def start(self, job: Job) -> None:
        """Begin the attempt, unless it has begun.

        Raises:
            BackendError: it cannot be begun now.
        """
        ...

    def look(self, job: Job) -> Look:
        """See whether it goes on, and what it says."""
        ...

    def stop(self, job: Job) -> None:
        """Ask it to stop; asked again after a while, make it."""
        ...

    def log(self, job: Job) -> str:
        """Everything it wrote for people."""
        ...

    def keep(self, job: Job, files: dict[str, bytes]) -> None:
        """Store the job's reports beside what it wrote."""
        ...


__all__ = ["Look", "Runner"]
