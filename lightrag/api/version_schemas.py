"""What goes over HTTP about versions of a corpus and their pins."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from lightrag.api.schemas import LARGEST_VERSION, Body
from lightrag.storage.commits import Commit


class PinBody(Body):
    """What a pin keeps."""

    version: int = Field(ge=1, le=LARGEST_VERSION)


class PinInfo(BaseModel):
    """A name that keeps a version from being removed."""

    name: str
    version: int


class PinList(BaseModel):
    """All pins of a corpus, in order of name."""

    pins: list[PinInfo]


class CommitInfo(BaseModel):
    """One version of a corpus."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    version: int
    committed_at: str
    """ISO 8601."""
    counts: dict[str, int]
    """Documents, chunks, gists and so on, as the job counted them."""
    pins: list[str]
    """Names that keep it."""

    @classmethod
    def of(cls, commit: Commit, pins: list[str]) -> Self:
        """The same over HTTP."""
        committed = commit.created.isoformat(timespec="seconds")
        return cls(version=commit.version, committed_at=committed, counts=commit.counts, pins=pins)


class CommitPage(BaseModel):
    """Some versions, newest first."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    versions: list[CommitInfo]
    next: str | None
    """Cursor of the following page."""


__all__ = ["CommitInfo", "CommitPage", "PinBody", "PinInfo", "PinList"]
