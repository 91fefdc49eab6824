"""Which source serves which location. Opening one reads nothing yet."""

from __future__ import annotations

from typing import Literal

from lightrag.ingestion.folders import FolderSource
from lightrag.ingestion.items import Source
from lightrag.ingestion.objects import ObjectSource
from lightrag.ingestion.records import ENDINGS, RecordSource
from lightrag.ingestion.spec import SourceSpec
from lightrag.ingestion.uploads import UploadSource
from lightrag.ingestion.versions import SCHEME, CorpusSource
from lightrag.storage.objects import ObjectStore
from lightrag.types import CorpusId


def open_source(
    spec: SourceSpec,
    *,
    suffixes: frozenset[str],
    max_bytes: int | None = None,
    corpora: ObjectStore,
    target: CorpusId,
) -> Source:
    """Open the source that ``spec`` describes.

    Args:
        spec: where documents come from.
        suffixes: endings of files that can be read, lower-case, with the dot.
        max_bytes: longest document; longer ones are listed and refused without being read.
        corpora: where the corpora are, one of which may be the source.
        target: the corpus that is written; only others of its tenant may be the source.

    Raises:
        UsageError: the location's URL or an option is not understood.
    """
    if spec.location.startswith(SCHEME):
        return CorpusSource(corpora, target, spec.location, name=spec.name)
    kind = _kind(spec)
    if kind == "none":
        return UploadSource((), name=spec.name)
    if kind != "documents":
        return RecordSource(spec, kind=kind, max_bytes=max_bytes)
    scheme, mark, rest = spec.location.partition("://")
    if mark and scheme != "file":
        return ObjectSource(spec.location, name=spec.name, suffixes=suffixes, max_bytes=max_bytes, options=spec.options)
    return FolderSource(rest if mark else spec.location, name=spec.name, suffixes=suffixes, max_bytes=max_bytes)


def _kind(spec: SourceSpec) -> Literal["documents", "parquet", "jsonl", "none"]:
    if spec.format != "auto":
        return spec.format
    return next((kind for kind, endings in ENDINGS.items() if spec.location.lower().endswith(endings)), "documents")


__all__ = ["open_source"]
