"""What an ingest job is asked to do, as a value that travels as JSON between the command, the service and the job.

It holds no secrets: credentials come from the environment of the process that runs the job.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self

import pydantic
from pydantic import Field, field_validator, model_validator

from lightrag.config import Description, Section
from lightrag.types import CorpusId, check_name


class SourceSpec(Section):
    """Where documents come from."""

    location: str = Field(min_length=1)
    """A folder, a file, a glob (``docs/**/*.md``), an object store's URL (``s3://bucket/prefix``, globs too), or
    another corpus of the same tenant (``corpus://name``, ``corpus://name@version``)."""
    name: str = ""
    """Identity of the source within its corpus. Empty: its location. Documents are known by name and relative path, so
    give a name where the same documents may come from another place next time."""
    format: Literal["auto", "documents", "parquet", "jsonl", "none"] = "auto"
    """``auto``: a location that ends in ``.parquet`` or ``.jsonl`` is a table of documents, all others hold files.
    ``none``: there is no source; the job only removes."""
    text_column: str = "text"
    id_column: str = ""
    """Column that names a record. Empty: its position in the file."""
    title_column: str = ""
    metadata_columns: tuple[str, ...] = ()
    """Columns carried through as metadata."""
    options: dict[str, str] = Field(default_factory=dict)
    """For the object store's client, for example ``{"endpoint": "http://127.0.0.1:9000"}``."""


class IngestSpec(Description):
    """One ingest job."""

    corpus: str
    source: SourceSpec
    tenant: str = "default"
    keep_missing: bool = False
    """Keep documents that this source delivered before and does not list any more."""
    retry_failed: bool = False
    """Try documents again that failed before, though neither they nor the settings have changed."""
    address: str = ""
    """Ray cluster to run on; empty: the one of ``RAY_ADDRESS``, else a private one for the time of the job."""
    remove: tuple[str, ...] = ()
    """Ids of documents that leave the corpus. A source that still lists one brings it back with its next job."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Overrides of :class:`~lightrag.config.Settings`, nested."""

    @field_validator("corpus", "tenant")
    @classmethod
    def _legal(cls, value: str, info: pydantic.ValidationInfo) -> str:
        return check_name(value, info.field_name or "name")

    @model_validator(mode="after")
    def _removes_only(self) -> Self:
        # What a source lists and a job removes at once could mean either.
        if bool(self.remove) != (self.source.format == "none"):
            raise ValueError("documents to remove and a source of format 'none' go together")
        return self

    @property
    def corpus_id(self) -> CorpusId:
        """The corpus that is written."""
        return CorpusId(self.tenant, self.corpus)

    @classmethod
    def removal(cls, corpus: CorpusId, documents: Sequence[str]) -> Self:
        """The job that removes documents, and nothing else."""
        source = SourceSpec(location="removal", name=f"removal from {corpus.corpus}", format="none")
        return cls(corpus=corpus.corpus, tenant=corpus.tenant, source=source, remove=tuple(documents))

    def to_json(self) -> str:
        """The text that :meth:`parse` reads back."""
        return self.model_dump_json(exclude_defaults=True)


__all__ = ["IngestSpec", "SourceSpec"]
