"""The table of jobs."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from lightrag.jobs.types import Job, JobKind, JobState, StageProgress
from lightrag.storage.records import Base, UtcDateTime

OWNER: Final = "jobs"
MIGRATIONS: Final = Path(__file__).with_name("migrations")


class JobRow(Base):
    """One job."""

    __tablename__ = "jobs"
    __table_args__ = (sa.Index("ix_jobs_tenant_job", "tenant", "job_id"), sa.Index("ix_jobs_state", "state"))

    job_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(sa.String(63))
    corpus: Mapped[str] = mapped_column(sa.String(63))
    kind: Mapped[str] = mapped_column(sa.String(31))
    spec: Mapped[str] = mapped_column(sa.Text)
    state: Mapped[str] = mapped_column(sa.String(15))
    priority: Mapped[int] = mapped_column(sa.Integer)
    attempt: Mapped[int] = mapped_column(sa.Integer)
    progress: Mapped[str] = mapped_column(sa.Text)
    summary: Mapped[str] = mapped_column(sa.Text)
    usage: Mapped[str] = mapped_column(sa.Text)
    report: Mapped[str] = mapped_column(sa.Text)
    error: Mapped[str] = mapped_column(sa.Text)
    cancel_requested: Mapped[bool] = mapped_column(sa.Boolean)
    place: Mapped[str] = mapped_column(sa.String(255))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    started: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended: Mapped[datetime | None] = mapped_column(UtcDateTime)

    def value(self) -> Job:
        """The same as a value."""
        return Job(
            self.job_id,
            self.tenant,
            self.corpus,
            cast("JobKind", self.kind),
            json.loads(self.spec),
            cast("JobState", self.state),
            priority=self.priority,
            attempt=self.attempt,
            progress=tuple(StageProgress(**stage) for stage in json.loads(self.progress)),
            summary=json.loads(self.summary),
            usage=json.loads(self.usage),
            error=self.error,
            cancel_requested=self.cancel_requested,
            place=self.place,
            created=self.created,
            started=self.started,
            ended=self.ended,
        )


def progress_text(progress: tuple[StageProgress, ...]) -> str:
    """Steps as the table holds them."""
    stages: list[dict[str, Any]] = [asdict(stage) for stage in progress]
    return json.dumps(stages)


__all__ = ["MIGRATIONS", "OWNER", "JobRow", "progress_text"]
