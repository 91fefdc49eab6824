"""What a bulk job is asked to do, as values that travel as JSON. They hold no secrets."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from lightrag.config import Description, Section
from lightrag.types import check_name

LayoutName = Literal["messages", "conversations", "locomo", "longmemeval"]


class JobSpec(Description):
    """What both jobs have in common."""

    tenant: str = "default"
    address: str = ""
    """Ray cluster to run on; empty: the one of ``RAY_ADDRESS``, else a private one for the time of the job."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Overrides of :class:`~lightrag.config.Settings`, nested."""

    @field_validator("tenant")
    @classmethod
    def _legal(cls, value: str) -> str:
        return check_name(value, "tenant")


class Columns(Section):
    """Names of fields in records; each falls back to the usual other names of the same thing."""

    user: str = "user"
    conversation: str = "conversation"
    content: str = "content"
    role: str = "role"
    time: str = "time_stamp"


class ImportSpec(JobSpec):
    """Import conversations into memories."""

    location: str = Field(min_length=1)
    """A file, folder or glob, here or in an object store: ``.jsonl``, ``.ndjson``, ``.json``, ``.parquet``."""
    name: str = ""
    """Identity of the source. Empty: its location. What was imported is known by it, so give a name where the same
    conversations may come from another place next time."""
    layout: Literal["auto"] | LayoutName = "auto"
    user: str = ""
    """Whose memory all of it is; empty: as the records say."""
    columns: Columns = Columns()
    options: dict[str, str] = Field(default_factory=dict)
    """For the object store's client."""


class ConsolidationSpec(JobSpec):
    """Consolidate the memories of a tenant."""

    user: str = ""
    """Only this one; empty: everybody who has changed."""
    top_k: int = Field(default=20, ge=1)
    keep_top_n: int = Field(default=10, ge=1)
    score_threshold: float = Field(default=0.8, ge=0, le=1)
    flush: bool = False
    """First extract what waits in buffers and in the queue."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal options; who was consolidated with others is consolidated again."""
        return f"{self.top_k}/{self.keep_top_n}/{self.score_threshold:g}"


__all__ = ["Columns", "ConsolidationSpec", "ImportSpec", "JobSpec", "LayoutName"]
