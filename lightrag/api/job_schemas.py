"""What goes over HTTP about jobs and documents."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from lightrag.api.schemas import Body
from lightrag.ingestion.spec import IngestSpec
from lightrag.jobs.types import Job, JobKind, JobState, StageProgress


class SourceBody(Body):
    """Where documents come from."""

    location: str = Field(min_length=1, max_length=2000)
    """A folder, file, glob or object store URL below one of the service's ``jobs.sources``."""
    name: str = Field(default="", max_length=200)
    """Identity of the source, where its location may change."""
    format: Literal["auto", "documents", "parquet", "jsonl"] = "auto"
    text_column: str = "text"
    id_column: str = ""
    title_column: str = ""
    metadata_columns: list[str] = Field(default=[], max_length=200)


class JobBody(Body):
    """One ingest job."""

    corpus: str
    source: SourceBody
    keep_missing: bool = False
    """Keep documents that this source delivered before and does not list any more."""
    retry_failed: bool = False
    """Try documents again that failed before."""
    priority: int = Field(default=0, ge=-100, le=100)
    """Higher ones start first."""

    def spec(self, tenant: str) -> IngestSpec:
        """The same for the job."""
        return IngestSpec.parse(self.model_dump(exclude={"priority"}) | {"tenant": tenant})


class StageInfo(BaseModel):
    """How far one step is."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    stage: str
    done: int
    total: int
    """0 where it is not known yet."""
    tokens: int
    bytes: int
    failed: int
    seconds: float
    rate: float
    """Of ``done`` a second."""
    seconds_left: float | None

    @classmethod
    def of(cls, stage: StageProgress) -> Self:
        """The same over HTTP."""
        return cls.model_validate(stage, from_attributes=True)


class JobInfo(BaseModel):
    """One job."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    job_id: str
    corpus: str
    kind: JobKind
    state: JobState
    cancel_requested: bool
    priority: int
    attempt: int
    spec: dict[str, Any]
    progress: list[StageInfo]
    """Steps of this attempt; the last one is where it is."""
    summary: dict[str, Any]
    usage: dict[str, float]
    error: str
    created: datetime
    started: datetime | None
    ended: datetime | None

    @classmethod
    def of(cls, job: Job) -> Self:
        """The same over HTTP."""
        plain = {name: getattr(job, name) for name in cls.model_fields if name != "progress"}
        return cls(**plain, progress=[StageInfo.of(stage) for stage in job.progress])


class JobList(BaseModel):
    """Some jobs, newest first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    jobs: list[JobInfo]
    next: str | None
    """Cursor of the following page."""


class DocumentInfo(BaseModel):
    """One document of a corpus."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    document_id: str
    source: str
    """Path, URI or file name."""
    title: str
    media_type: str
    language: str
    bytes: int
    chunks: int
    tokens: int


class DocumentPage(BaseModel):
    """Some documents, in order of their ids."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    version: int
    documents: list[DocumentInfo]
    next: str | None
    """Cursor of the following page."""


class Removed(BaseModel):
    """What deleting a corpus removed."""

    versions: int
    objects: int
    bytes: int


__all__ = ["DocumentInfo", "DocumentPage", "JobBody", "JobInfo", "JobList", "Removed", "SourceBody", "StageInfo"]
