"""Documents, chunks, gists and errors as Arrow tables and Parquet files that any Parquet tool reads.

It knows the types of :mod:`lightrag.types` and their columns (:mod:`lightrag.storage.schemas`), not which rows are
still valid (:mod:`lightrag.storage.liveness` does).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from blake3 import blake3
from numpy.typing import NDArray

from lightrag.errors import ArtifactError, DataError, UsageError
from lightrag.storage.schemas import FIELDS, TableName, metadata_from_json, metadata_to_json, require, schema
from lightrag.types import Chunk, Gist, Metadata, Section

if TYPE_CHECKING:
    from lightrag.storage.artifacts import CorpusLog, FileEntry

COMPRESSION = "zstd"
ROW_GROUP_ROWS = 16 * 1024
"""Rows read at once by whoever streams: about 40 MB of chunks with vectors of 384 numbers."""


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """What a version knows of one document. Its text is in its chunks, which say where they begin and end."""

    document_id: str
    content_key: str
    """Ties the document to its chunk rows, see :func:`content_key`."""
    content_hash: str = ""
    """blake3 of the original bytes: equal hash and equal ``settings_hash`` mean that nothing has to be done."""
    settings_hash: str = ""
    """Of all settings and models that the rows of this document depend on."""
    source: str = ""
    title: str = ""
    media_type: str = "text/plain"
    language: str = "und"
    chars: int = 0
    bytes: int = 0
    chunks: int = 0
    tokens: int = 0
    sections: tuple[Section, ...] = ()
    metadata: Metadata | None = None
    deleted: bool = False
    """A row that says: this document is gone."""
    version: int = 0
    """The version the row speaks for; 0 for the one that adds the file it stands in."""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Why a document, or a part of it, could not be processed."""

    document_id: str
    source: str
    stage: str
    reason: str
    """Stable code, as ``DocumentError.reason``."""
    message: str
    content_hash: str = ""
    """So that an unchanged document is not tried again for nothing."""
    retryable: bool = False


def content_key(document_id: str, content_hash: str, settings_hash: str, job_id: str) -> str:
    """Name one processing of one content, so that rows of two jobs that did the same work are never both valid.

    A retried batch of the same job gets the same key; a job must commit only one result of a batch.
    """
    joined = "\x1f".join((document_id, content_hash, settings_hash, job_id))
    return blake3(joined.encode()).hexdigest()[:32]


# --- Rows to tables and back ------------------------------------------------------------------------------------------


def documents_to_table(rows: Sequence[DocumentRow]) -> pa.Table:
    """Make a documents table.

    Raises:
        UsageError: a document has two rows, so that it would not be clear which one counts.
    """
    seen: set[str] = set()
    for row in rows:
        if row.document_id in seen:
            raise UsageError(f"document {row.document_id!r} has two rows in one table", subject=row.document_id)
        seen.add(row.document_id)
    columns = _columns(rows, "documents", skip=("sections", "metadata"))
    columns["sections"] = [[_section_values(section) for section in row.sections] for row in rows]
    columns["metadata"] = [metadata_to_json(row.metadata or {}) for row in rows]
    return _table(columns, "documents", schema("documents"))


def documents_from_table(table: pa.Table) -> list[DocumentRow]:
    """Read the rows of a documents table.

    Raises:
        ArtifactError: it is not a documents table, or of a later release.
    """
    require(table.schema, "documents")
    rows = table.select([field.name for field in FIELDS["documents"]]).to_pylist()
    for row in rows:
        row["sections"] = tuple(Section(**section) for section in row["sections"])
        row["metadata"] = metadata_from_json(row["metadata"])
    return [DocumentRow(**row) for row in rows]


def chunks_to_table(
    chunks: Sequence[Chunk], content_keys: Sequence[str], vectors: NDArray[np.float32] | None
) -> pa.Table:
    """Make a chunk table.

    Args:
        chunks: the rows.
        content_keys: of the document of each chunk, see :func:`content_key`.
        vectors: shape (len(chunks), dimension), or ``None`` for a table without vectors.

    Raises:
        UsageError: the three have different lengths, or a vector is not finite.
    """
    columns = _columns(chunks, "chunks", skip=("metadata", "content_key"))
    columns["content_key"] = list(content_keys)
    columns["metadata"] = [metadata_to_json(chunk.metadata) for chunk in chunks]
    return _table_with_vectors(columns, "chunks", len(chunks), vectors)


def chunks_from_table(table: pa.Table) -> list[Chunk]:
    """Read the chunks of a chunk table; raises as :func:`documents_from_table`."""
    require(table.schema, "chunks")
    names = [field.name for field in FIELDS["chunks"] if field.name != "content_key"]
    rows = table.select(names).to_pylist()
    for row in rows:
        row["metadata"] = metadata_from_json(row["metadata"])
    return [Chunk(**row) for row in rows]


def gists_to_table(gists: Sequence[Gist], vectors: NDArray[np.float32] | None = None) -> pa.Table:
    """Make a gist table, optionally with vectors of shape (len(gists), dimension); raises as `chunks_to_table`."""
    return _table_with_vectors(_columns(gists, "gists"), "gists", len(gists), vectors)


def gists_from_table(table: pa.Table) -> list[Gist]:
    """Read the gists of a gist table; raises as :func:`documents_from_table`."""
    require(table.schema, "gists")
    rows = table.select([field.name for field in FIELDS["gists"]]).to_pylist()
    return [Gist(**{**row, "chunk_ids": tuple(row["chunk_ids"])}) for row in rows]


def errors_to_table(rows: Sequence[ErrorRow], *, time: datetime | None = None) -> pa.Table:
    """Make an error table; ``time`` is when they were found, now by default."""
    columns = _columns(rows, "errors", skip=("time",))
    columns["time"] = [time or datetime.now(UTC)] * len(rows)
    return _table(columns, "errors", schema("errors"))


def errors_from_table(table: pa.Table) -> list[ErrorRow]:
    """Read the rows of an error table; raises as :func:`documents_from_table`."""
    require(table.schema, "errors")
    return [ErrorRow(**row) for row in table.drop_columns(["time"]).to_pylist()]


def vectors_of(table: pa.Table) -> NDArray[np.float32]:
    """The vectors of a chunk or gist table, shape (rows, dimension), without a copy where the table has one piece.

    Raises:
        ArtifactError: the table has no vectors.
    """
    if "embedding" not in table.column_names:
        raise ArtifactError(f"the table has no vectors, only {table.column_names}")
    column = table.column("embedding")
    dimension = column.type.list_size
    pieces = [piece.flatten().to_numpy(zero_copy_only=True).reshape(-1, dimension) for piece in column.chunks]
    if len(pieces) == 1:
        return pieces[0]
    return np.concatenate(pieces) if pieces else np.empty((0, dimension), np.float32)


def _section_values(section: Section) -> dict[str, object]:
    return {name: getattr(section, name) for name in ("kind", "label", "start", "end", "level")}


def _columns(rows: Sequence[object], table: TableName, skip: Iterable[str] = ()) -> dict[str, Any]:
    left_out = set(skip)
    names = [field.name for field in FIELDS[table] if field.name not in left_out]
    return {name: [getattr(row, name) for row in rows] for name in names}


def _table(columns: dict[str, Any], table: TableName, wanted: pa.Schema) -> pa.Table:
    try:
        return pa.table({name: columns[name] for name in wanted.names}, schema=wanted)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError) as error:
        # Lone surrogates, which a broken decoder leaves in a text, and numbers out of range.
        raise DataError(f"rows cannot be stored as {table}: {error}") from error


def _table_with_vectors(
    columns: dict[str, Any], table: TableName, rows: int, vectors: NDArray[np.float32] | None
) -> pa.Table:
    lengths = {name: len(values) for name, values in columns.items()}
    if vectors is None:
        wanted = schema(table)
    else:
        if vectors.ndim != 2 or len(vectors) != rows or not np.isfinite(vectors).all():
            raise UsageError(f"{rows} {table} need as many rows of finite numbers, got shape {vectors.shape}")
        flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
        wanted = schema(table, dimension=vectors.shape[1])
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, type=wanted.field("embedding").type)
    if set(lengths.values()) != {rows}:
        raise UsageError(f"{rows} {table} need as many values in every column, got {lengths}")
    return _table(columns, table, wanted)


# --- Files ------------------------------------------------------------------------------------------------------------


def to_parquet(table: pa.Table) -> pa.Buffer:
    """Write a table as one Parquet file, to be handed to :meth:`CorpusLog.write_file`."""
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(sink, table.schema, **_layout(table.schema)) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
    return sink.getvalue()


def parquet_writer(path: Path, wanted: pa.Schema, table: TableName) -> pq.ParquetWriter:
    """Open a Parquet file of a table, to be written a row group at a time and closed.

    Raises:
        ArtifactError: the columns are not those of the table.
        OSError: the file cannot be written.
    """
    require(wanted, table)
    return pq.ParquetWriter(str(path), wanted, **_layout(wanted))


def _layout(columns: pa.Schema) -> dict[str, Any]:
    # Dictionaries help only where values repeat; of vectors only the exponents compress, once they lie together.
    repeated = [name for name in columns.names if name not in ("embedding", "text", "chunk_id")]
    encoding = {"embedding.list.element": "BYTE_STREAM_SPLIT"} if "embedding" in columns.names else None
    return {"compression": COMPRESSION, "use_dictionary": repeated, "column_encoding": encoding}


def from_parquet(
    data: bytes | memoryview | pa.Buffer, table: TableName, columns: Sequence[str] | None = None
) -> pa.Table:
    """Read a Parquet file, all or some columns.

    Raises:
        ArtifactError: it is not a Parquet file of this table, lacks a column, or is of a later release.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        require(file.schema_arrow, table)
        missing = set(columns or ()) - set(file.schema_arrow.names)
        if missing:
            raise ArtifactError(f"a {table} file lacks the columns {sorted(missing)}")
        return file.read(columns=None if columns is None else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"a {table} file cannot be read as Parquet: {error}") from error


def write_table(log: CorpusLog, role: TableName, name: str, table: pa.Table) -> FileEntry:
    """Store a table as a new Parquet file of a corpus, to be committed; raises as :meth:`CorpusLog.write_file`."""
    require(table.schema, role)
    return log.write_file(role, name, to_parquet(table), rows=table.num_rows)


def read_table(log: CorpusLog, entry: FileEntry, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a verified table, all or some columns; raises as :meth:`CorpusLog.read_file` and :func:`from_parquet`."""
    if entry.role not in FIELDS:
        raise UsageError(f"{entry.path!r} is no table but {entry.role!r}", subject=entry.path)
    return from_parquet(log.read_file(entry), entry.role, columns)


__all__ = [
    "DocumentRow",
    "ErrorRow",
    "TableName",
    "chunks_from_table",
    "chunks_to_table",
    "content_key",
    "documents_from_table",
    "documents_to_table",
    "errors_from_table",
    "errors_to_table",
    "from_parquet",
    "gists_from_table",
    "gists_to_table",
    "metadata_from_json",
    "metadata_to_json",
    "parquet_writer",
    "read_table",
    "require",
    "schema",
    "to_parquet",
    "vectors_of",
    "write_table",
]
