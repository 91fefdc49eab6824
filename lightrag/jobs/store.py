"""Records of jobs: every change of state is one transaction, and only legal ones happen.

    queued ──claim──→ running ──finish──→ succeeded | failed | cancelled ──retry──→ queued
       └─────────────request_cancel─────────────────────────┘

It starts nothing. Any number of processes may use one database.
"""

from __future__ import annotations

import json
import secrets
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.orm import Session

from lightrag.errors import ConflictError, NotFoundError, UsageError
from lightrag.jobs.table import MIGRATIONS, OWNER, JobRow, progress_text
from lightrag.jobs.types import ENDED, Job, JobKind, JobPage, JobState, StageProgress
from lightrag.storage.records import Records, open_records
from lightrag.types import check_name

LARGEST_PAGE: Final = 200
RETRY_FAILED: Final = "retry_failed"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many jobs may run."""

    at_once: int = 2
    per_tenant: int = 1


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended."""

    state: Literal["succeeded", "failed", "cancelled"]
    error: str = ""
    progress: tuple[StageProgress, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    usage: Mapping[str, float] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    """What :class:`lightrag.ingestion.report.IngestReport` is read from."""


class JobStore:
    """The jobs of all tenants."""

    def __init__(self, records: Records) -> None:
        self._records = records
        records.migrate(OWNER, MIGRATIONS)

    @classmethod
    def open(cls, url: str) -> JobStore:
        """Open the database at a URL; see :func:`lightrag.storage.records.open_records`."""
        return cls(open_records(url))

    def close(self) -> None:
        """Close the connections."""
        self._records.close()

    # --- For whoever wants work done ----------------------------------------------------------------------------------

    def add(
        self, tenant: str, corpus: str, spec: Mapping[str, Any], *, kind: JobKind, priority: int, job_id: str
    ) -> Job:
        """Queue a job."""
        row = JobRow(
            job_id=job_id,
            tenant=check_name(tenant, "tenant"),
            corpus=check_name(corpus, "corpus"),
            kind=kind,
            spec=json.dumps(spec),
            state="queued",
            priority=priority,
            attempt=1,
            progress="[]",
            summary="{}",
            usage="{}",
            report="{}",
            error="",
            cancel_requested=False,
            place="",
            created=_now(),
            started=None,
            ended=None,
        )
        with self._records.session() as session:
            session.add(row)
        return row.value()

    def get(self, tenant: str, job_id: str) -> Job:
        """Read one job.

        Raises:
            NotFoundError: this tenant has no such job.
        """
        with self._records.session(read_only=True) as session:
            return _find(session, tenant, job_id).value()

    def report(self, tenant: str, job_id: str) -> Mapping[str, Any]:
        """What the report of a job is made from; empty where it has none yet."""
        with self._records.session(read_only=True) as session:
            found: dict[str, Any] = json.loads(_find(session, tenant, job_id).report)
            return found

    def page(
        self,
        tenant: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        state: JobState | None = None,
        corpus: str = "",
    ) -> JobPage:
        """Some jobs of a tenant, newest first.

        Raises:
            UsageError: the limit is not between 1 and 200.
        """
        if not 1 <= limit <= LARGEST_PAGE:
            raise UsageError(f"a page has between 1 and {LARGEST_PAGE} jobs, not {limit}", subject="limit")
        query = sa.select(JobRow).where(JobRow.tenant == tenant).order_by(JobRow.job_id.desc()).limit(limit + 1)
        query = query.where(JobRow.job_id < cursor) if cursor else query
        query = query.where(JobRow.state == state) if state else query
        query = query.where(JobRow.corpus == corpus) if corpus else query
        with self._records.session(read_only=True) as session:
            jobs = tuple(row.value() for row in session.scalars(query))
        return JobPage(jobs[:limit], jobs[limit - 1].job_id if len(jobs) > limit else None)

    def request_cancel(self, tenant: str, job_id: str) -> Job:
        """End a queued job at once, and ask a running one to stop. Repeating changes nothing.

        Raises:
            ConflictError: it has ended otherwise already.
        """
        with self._records.session() as session:
            row = _find(session, tenant, job_id, change=True)
            if row.state == "queued":
                row.state, row.ended = "cancelled", _now()
            elif row.state in ("succeeded", "failed"):
                raise ConflictError(f"job {job_id} has {row.state} already", subject=job_id)
            row.cancel_requested = True
            return row.value()

    def retry(self, tenant: str, job_id: str) -> Job:
        """Queue an ended job again, under its own id: what it has done already is found in staging.

        One that succeeded but left documents out tries those again.

        Raises:
            ConflictError: it has not ended, or there is nothing to do again.
        """
        with self._records.session() as session:
            row = _find(session, tenant, job_id, change=True)
            if row.state not in ENDED:
                raise ConflictError(f"job {job_id} is {row.state}: cancel it first", subject=job_id)
            if row.state == "succeeded":
                if not json.loads(row.summary).get("failed"):
                    raise ConflictError(f"job {job_id} succeeded, and no document failed", subject=job_id)
                row.spec = json.dumps(json.loads(row.spec) | {RETRY_FAILED: True})
            row.state, row.attempt, row.cancel_requested = "queued", row.attempt + 1, False
            row.error, row.place, row.started, row.ended = "", "", None, None
            row.progress, row.summary, row.usage, row.report = "[]", "{}", "{}", "{}"
            return row.value()

    # --- For supervisors ----------------------------------------------------------------------------------------------

    def claim(self, place: str, limits: Limits) -> Job | None:
        """Take the next job that may start: the highest priority, then the oldest, of tenants below their limit."""
        open_ones = sa.select(JobRow).where(JobRow.state.in_(("queued", "running"))).with_for_update()
        order = (JobRow.priority.desc(), JobRow.job_id)
        with self._records.session() as session:
            rows: Sequence[JobRow] = session.scalars(open_ones.order_by(*order)).all()
            running = Counter(row.tenant for row in rows if row.state == "running")
            if running.total() >= limits.at_once:
                return None
            for row in rows:
                if row.state == "queued" and running[row.tenant] < limits.per_tenant:
                    row.state, row.place, row.started = "running", place, _now()
                    return row.value()
        return None

    def watched(self, place: str) -> list[Job]:
        """The running jobs of a place, as given to :meth:`claim`."""
        query = sa.select(JobRow).where(JobRow.state == "running", JobRow.place == place).order_by(JobRow.job_id)
        with self._records.session(read_only=True) as session:
            return [row.value() for row in session.scalars(query)]

    def unfinished(self, place: str) -> bool:
        """Whether a supervisor of this place has anything to do."""
        query = sa.select(JobRow.job_id).where(
            sa.or_(JobRow.state == "queued", sa.and_(JobRow.state == "running", JobRow.place == place))
        )
        with self._records.session(read_only=True) as session:
            return session.scalars(query.limit(1)).first() is not None

    def advance(self, job: Job, progress: tuple[StageProgress, ...]) -> None:
        """Note how far a running attempt is."""
        with self._records.session() as session:
            session.execute(_running(job).values(progress=progress_text(progress)))

    def finish(self, job: Job, ending: Ending) -> bool:
        """Note how an attempt ended; ``False`` where that is noted already."""
        values = {
            "state": ending.state,
            "error": ending.error,
            "progress": progress_text(ending.progress),
            "summary": json.dumps(ending.summary),
            "usage": json.dumps(ending.usage),
            "report": json.dumps(ending.report),
            "ended": _now(),
        }
        with self._records.session() as session:
            done = session.execute(_running(job).values(**values).returning(JobRow.job_id))
            return done.first() is not None


def new_job_id() -> str:
    """An id that sorts by time: milliseconds, then chance."""
    return f"{time.time_ns() // 1_000_000:012x}-{secrets.token_hex(5)}"


def _find(session: Session, tenant: str, job_id: str, *, change: bool = False) -> JobRow:
    query = sa.select(JobRow).where(JobRow.tenant == tenant, JobRow.job_id == job_id)
    row = session.scalars(query.with_for_update() if change else query).one_or_none()
    if row is None:
        raise NotFoundError(f"there is no job {job_id!r}; `lightrag jobs list` shows those that are", subject=job_id)
    return row


def _running(job: Job) -> sa.Update:
    """Only the attempt that is meant: another one may have begun."""
    return sa.update(JobRow).where(
        JobRow.job_id == job.job_id, JobRow.attempt == job.attempt, JobRow.state == "running"
    )


def _now() -> datetime:
    return datetime.now(UTC)


__all__ = ["LARGEST_PAGE", "Ending", "JobStore", "Limits", "new_job_id"]
