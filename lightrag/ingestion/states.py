"""A document on its way through the stages, and its form as rows of an Arrow table.

Rows are how documents cross process walls and wait in staging: one row is one document with all that is known of it,
so however rows are split into batches, a document stays whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, asdict, dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from lightrag.errors import ArtifactError
from lightrag.ingestion.items import SourceItem
from lightrag.ingestion.recipe import StageKeys
from lightrag.models.base import FloatMatrix
from lightrag.storage.tables import DocumentRow
from lightrag.types import Chunk, Gist, Section

StageName = Literal["read", "embed", "gist"]


class Failure(NamedTuple):
    """Why a document got no further."""

    stage: str
    reason: str
    """A stable code, as in :class:`~lightrag.errors.DocumentError`."""
    message: str
    permanent: bool
    """Whether the same bytes under the same settings will fail again."""


@dataclass(frozen=True, slots=True)
class DocumentState:
    """One document with the results of the stages that it has passed."""

    item: SourceItem
    document_id: str
    keys: StageKeys
    _: KW_ONLY
    row: DocumentRow | None = None
    """What the corpus will say of it; ``None`` before it has been read."""
    chunks: tuple[Chunk, ...] = ()
    vectors: FloatMatrix | None = None
    """Unit rows of shape (chunks, dimension); ``None`` before embedding."""
    gists: tuple[Gist, ...] | None = None
    """Of level 0; ``None`` before they are made."""
    failure: Failure | None = None
    staged: tuple[str, ...] = ()
    """Where its results wait in staging, earliest stage first."""
    seconds: Mapping[StageName, float] = field(default_factory=dict)
    """Processor time that this run spent on the document."""

    def failed(self, stage: StageName, reason: str, message: str, *, permanent: bool) -> DocumentState:
        """Give the document up: results so far are dropped."""
        failure = Failure(stage, reason, message, permanent)
        return replace(self, row=None, chunks=(), vectors=None, gists=None, failure=failure)

    def spent(self, stage: StageName, seconds: float) -> DocumentState:
        """Note the time that a stage took."""
        return replace(self, seconds={**self.seconds, stage: seconds})


_TEXT, _NUMBER = pa.string(), pa.int64()
_CHUNK: dict[str, pa.DataType] = {
    "chunk_id": _TEXT,
    "ordinal": _NUMBER,
    "text": _TEXT,
    "start": _NUMBER,
    "end": _NUMBER,
    "tokens": _NUMBER,
    "page": _TEXT,
    "heading": _TEXT,
}
_GIST: dict[str, pa.DataType] = {
    "gist_id": _TEXT,
    "text": _TEXT,
    "level": _NUMBER,
    "chunk_ids": pa.list_(_TEXT),
    "tokens": _NUMBER,
    "method": _TEXT,
}
SCHEMA = pa.schema(
    {
        "document_id": _TEXT,
        **{f"{stage}_key": _TEXT for stage in StageKeys._fields},
        "head": _TEXT,
        "chunks": pa.list_(pa.struct(list(_CHUNK.items()))),
        "vectors": pa.large_list(pa.float32()),
        "gists": pa.list_(pa.struct(list(_GIST.items()))),
    }
)
"""Columns of the rows. Chunks repeat nothing of what their document says; vectors are flat; the rest is JSON."""


def encode(states: Sequence[DocumentState]) -> pa.Table:
    """Write states as rows; equal states give equal rows."""
    columns: dict[str, Any] = {
        "document_id": [state.document_id for state in states],
        **{f"{stage}_key": [getattr(state.keys, stage) for state in states] for stage in StageKeys._fields},
        "head": [_head(state) for state in states],
        "chunks": [[_plain(chunk, _CHUNK) for chunk in state.chunks] for state in states],
        "vectors": _flat_vectors(states),
        "gists": [None if state.gists is None else [_plain(gist, _GIST) for gist in state.gists] for state in states],
    }
    return pa.table(columns, schema=SCHEMA)


def decode(table: pa.Table) -> list[DocumentState]:
    """Undo :func:`encode`.

    Raises:
        ArtifactError: the rows are damaged.
    """
    try:
        vectors = table.column("vectors")
        rows = table.drop_columns(["vectors"]).to_pylist()
        return [_decode_row(row, vectors[index]) for index, row in enumerate(rows)]
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ArtifactError(f"rows of documents in progress are damaged: {error!r}") from error


class Head(NamedTuple):
    """What a row says of its document as a whole."""

    row: DocumentRow | None
    staged: tuple[str, ...]


def read_head(text: str) -> Head:
    """Read the column ``head`` of a row, as far as the commit needs it.

    Raises:
        ArtifactError: it is damaged.
    """
    try:
        head = json.loads(text)
        return Head(head["row"] and _decode_about(head["row"]), tuple(head["staged"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"rows of documents in progress are damaged: {error!r}") from error


def _head(state: DocumentState) -> str:
    """Everything that is small."""
    head = {
        "item": state.item.to_plain(),
        "row": state.row and asdict(state.row),
        "failure": state.failure,
        "staged": state.staged,
        "seconds": dict(state.seconds),
    }
    return json.dumps(head)


def _decode_row(row: Mapping[str, Any], vectors: Any) -> DocumentState:
    head = json.loads(row["head"])
    identity = row["document_id"]
    about = head["row"] and _decode_about(head["row"])
    inherited = {} if about is None else _inherited(about)
    chunks = tuple(Chunk(document_id=identity, **plain, **inherited) for plain in row["chunks"])
    matrix = None
    if vectors.is_valid:
        flat = vectors.values.to_numpy(zero_copy_only=True)
        matrix = np.asarray(flat, dtype=np.float32).reshape(len(chunks), -1 if chunks else 0)
    gists = row["gists"]
    return DocumentState(
        SourceItem.from_plain(head["item"]),
        identity,
        StageKeys(row["read_key"], row["embed_key"], row["gist_key"]),
        row=about,
        chunks=chunks,
        vectors=matrix,
        gists=None if gists is None else tuple(_decode_gist(identity, plain) for plain in gists),
        failure=Failure(*head["failure"]) if head["failure"] else None,
        staged=tuple(head["staged"]),
        seconds=head["seconds"],
    )


def _decode_about(plain: dict[str, Any]) -> DocumentRow:
    metadata = {
        name: tuple(value) if isinstance(value, list) else value for name, value in (plain["metadata"] or {}).items()
    }
    return DocumentRow(
        **{**plain, "sections": tuple(Section(**section) for section in plain["sections"]), "metadata": metadata}
    )


def _inherited(row: DocumentRow) -> dict[str, Any]:
    """What a document's chunks have from it."""
    return {"title": row.title, "source": row.source, "language": row.language, "metadata": row.metadata or {}}


def _decode_gist(document_id: str, plain: Mapping[str, Any]) -> Gist:
    return Gist(document_id=document_id, **{**plain, "chunk_ids": tuple(plain["chunk_ids"])})


def _plain(value: Chunk | Gist, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: getattr(value, name) for name in fields}


def _flat_vectors(states: Sequence[DocumentState]) -> pa.Array:
    parts = [np.zeros(0, np.float32) if state.vectors is None else state.vectors.ravel() for state in states]
    offsets = np.cumsum([0, *map(len, parts)], dtype=np.int64)
    flat = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    missing = pa.array([state.vectors is None for state in states], pa.bool_())
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(flat, pa.float32()), mask=missing)


__all__ = ["SCHEMA", "DocumentState", "Failure", "Head", "StageName", "decode", "encode", "read_head"]
