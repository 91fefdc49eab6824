"""What waits in staging as tables of a corpus: chunk rows and gists, column by column, without a value per row.

It does not know which documents are wanted, nor where tables go.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lightrag.errors import ArtifactError, UsageError
from lightrag.storage import tables
from lightrag.storage.schemas import FIELDS
from lightrag.storage.tables import DocumentRow


def chunk_table(staged: pa.Table, rows: Sequence[DocumentRow]) -> pa.Table:
    """Chunk rows with vectors of staged documents.

    Args:
        staged: rows of :data:`~lightrag.ingestion.states.SCHEMA`.
        rows: what the corpus will say of the same documents.

    Raises:
        ArtifactError: a document has chunks and no vectors, or not as many.
        UsageError: a vector is not finite.
    """
    chunks = staged["chunks"].combine_chunks()
    vectors = staged["vectors"].combine_chunks()
    counts = pc.list_value_length(chunks).to_numpy(zero_copy_only=False)
    flat = vectors.flatten().to_numpy(zero_copy_only=False)
    total = int(counts.sum())
    dimension = len(flat) // max(total, 1)
    lengths = pc.fill_null(pc.list_value_length(vectors), 0).to_numpy(zero_copy_only=False)
    if lacking := np.flatnonzero(lengths != counts * dimension).tolist():
        source = rows[lacking[0]].source
        raise ArtifactError(f"staged document {source!r} has no vectors", subject=rows[lacking[0]].document_id)
    if not np.isfinite(flat).all():
        raise UsageError("vectors of staged documents are not finite: the embedder failed on their texts")
    parents = pc.list_parent_indices(chunks)
    about: dict[str, list[str]] = {
        "document_id": [row.document_id for row in rows],
        "content_key": [row.content_key for row in rows],
        "title": [row.title for row in rows],
        "source": [row.source for row in rows],
        "language": [row.language for row in rows],
        "metadata": [tables.metadata_to_json(row.metadata or {}) for row in rows],
    }
    columns = {name: pa.array(values, pa.string()).take(parents) for name, values in about.items()}
    columns |= _fields(chunks)
    schema = tables.schema("chunks", dimension=dimension)
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(
        pa.array(flat, pa.float32()), type=schema.field("embedding").type
    )
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)


def gist_table(staged: pa.Table) -> pa.Table:
    """Gists of staged documents; ``staged`` needs the columns ``document_id`` and ``gists``."""
    gists = staged["gists"].combine_chunks()
    columns = _fields(gists)
    columns["document_id"] = staged["document_id"].combine_chunks().take(pc.list_parent_indices(gists))
    return pa.table({field.name: columns[field.name] for field in FIELDS["gists"]}, schema=tables.schema("gists"))


def _fields(lists: pa.ListArray) -> dict[str, pa.Array]:
    """Columns of the values of all lists, one list after the other."""
    values = lists.flatten()
    return {values.type.field(number).name: column for number, column in enumerate(values.flatten())}


__all__ = ["chunk_table", "gist_table"]
