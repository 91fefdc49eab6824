"""Ingestion as plain Python: sources, stages, plans and commits; the jobs in ``pipelines`` only schedule the stages.

Example::

    from lightrag.ingestion import IngestSpec, Line, SourceSpec, ingest

    with Line(load_settings(), IngestSpec(corpus="reports", source=SourceSpec(location="reports/"))) as line:
        print(ingest(line).text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightrag.ingestion.job import ingest
    from lightrag.ingestion.line import Line
    from lightrag.ingestion.spec import IngestSpec, SourceSpec
    from lightrag.ingestion.summary import IngestSummary, Progress
    from lightrag.ingestion.uploads import Upload, UploadSource

_HOMES = {
    "IngestSpec": "spec",
    "IngestSummary": "summary",
    "Line": "line",
    "Progress": "summary",
    "SourceSpec": "spec",
    "Upload": "uploads",
    "UploadSource": "uploads",
    "ingest": "job",
}

__all__ = ["IngestSpec", "IngestSummary", "Line", "Progress", "SourceSpec", "Upload", "UploadSource", "ingest"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lightrag.ingestion' has no attribute {name!r}")
    return getattr(import_module(f"lightrag.ingestion.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
