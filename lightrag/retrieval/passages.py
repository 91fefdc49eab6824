"""Chunk rows as one Parquet buffer, in the order of the index.

The index carries its own rows, so that a row number means the same passage wherever the index was loaded.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from lightrag.errors import ArtifactError
from lightrag.types import Chunk

COMPRESSION = "zstd"
_COLUMNS = tuple(field.name for field in fields(Chunk))


def write_chunks(chunks: Sequence[Chunk]) -> bytes:
    """Encode chunks as Parquet; metadata becomes JSON text."""
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    columns: dict[str, list[Any]] = {
        name: [getattr(chunk, name) for chunk in chunks] for name in _COLUMNS if name != "metadata"
    }
    columns["metadata"] = [json.dumps(dict(chunk.metadata), ensure_ascii=False) for chunk in chunks]
    sink = arrow.BufferOutputStream()
    parquet.write_table(arrow.table(columns, schema=passage_schema()), sink, compression=COMPRESSION)
    return bytes(sink.getvalue())


def passage_schema() -> Any:
    """Columns of the rows: the fields of a chunk."""
    import pyarrow as arrow

    integers = {"ordinal", "start", "end", "tokens"}
    return arrow.schema([(name, arrow.int64() if name in integers else arrow.string()) for name in _COLUMNS])


def read_chunks(buffer: bytes) -> tuple[Chunk, ...]:
    """Decode what :func:`write_chunks` wrote.

    Raises:
        ArtifactError: the buffer is damaged.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        return tuple(decoded(parquet.read_table(arrow.BufferReader(buffer))))
    except (arrow.ArrowException, KeyError, OSError) as error:
        raise ArtifactError(f"the passages of the index are damaged: {error}", subject="chunks.parquet") from error


def decoded(table: Any) -> Iterator[Chunk]:
    """Chunks of an Arrow table that has their fields as columns, whatever else it has."""
    columns = {name: table.column(name).to_pylist() for name in _COLUMNS}
    columns["metadata"] = [_metadata(text) for text in columns["metadata"]]
    for row in zip(*columns.values(), strict=True):
        yield Chunk(**dict(zip(_COLUMNS, row, strict=True)))


def _metadata(text: str) -> dict[str, Any]:
    if text == "{}":
        return {}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in json.loads(text).items()}


__all__ = ["COMPRESSION", "decoded", "passage_schema", "read_chunks", "write_chunks"]
