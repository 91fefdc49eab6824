"""The columns of the Parquet tables, and how metadata becomes one of them.

Metadata is one column of JSON text: the values are of several types and every document has its own keys, for which
Parquet has no column type that tools agree on, while all of them read JSON. Types survive: ``1``, ``1.0``, ``true`` and
``"1"`` stay different. Every file carries its table's name and schema version, and files of later versions are refused.
"""

from __future__ import annotations

import json
import math
from typing import Literal

import pyarrow as pa

from lightrag.errors import ArtifactError, UsageError
from lightrag.types import Metadata, MetadataValue

TableName = Literal["documents", "chunks", "gists", "errors"]

SCHEMA_VERSION = 1
_TABLE_KEY = b"lightrag.table"
_VERSION_KEY = b"lightrag.schema_version"


def _required(name: str, kind: pa.DataType) -> pa.Field:
    return pa.field(name, kind, nullable=False)


def _strings(*names: str) -> list[pa.Field]:
    return [_required(name, pa.string()) for name in names]


_SECTION = pa.struct(
    [
        *_strings("kind", "label"),
        _required("start", pa.int64()),
        _required("end", pa.int64()),
        _required("level", pa.int32()),
    ]
)

FIELDS: dict[TableName, list[pa.Field]] = {
    "documents": [
        *_strings("document_id", "content_key", "content_hash", "settings_hash", "source", "title", "media_type"),
        *_strings("language"),
        *(_required(name, pa.int64()) for name in ("chars", "bytes", "chunks", "tokens")),
        _required("sections", pa.list_(_required("element", _SECTION))),
        *_strings("metadata"),
        _required("deleted", pa.bool_()),
        _required("version", pa.int64()),
    ],
    "chunks": [
        *_strings("chunk_id", "document_id", "content_key"),
        _required("ordinal", pa.int32()),
        *_strings("text"),
        _required("start", pa.int64()),
        _required("end", pa.int64()),
        _required("tokens", pa.int32()),
        *_strings("title", "source", "page", "heading", "language", "metadata"),
    ],
    "gists": [
        *_strings("gist_id", "text"),
        _required("level", pa.int32()),
        _required("chunk_ids", pa.list_(_required("element", pa.string()))),
        *_strings("document_id"),
        _required("tokens", pa.int32()),
        *_strings("method"),
    ],
    "errors": [
        *_strings("document_id", "source", "stage", "reason", "message", "content_hash"),
        _required("retryable", pa.bool_()),
        _required("time", pa.timestamp("us", tz="UTC")),
    ],
}


def schema(table: TableName, *, dimension: int | None = None) -> pa.Schema:
    """The columns of a table.

    Args:
        table: which.
        dimension: length of the vectors of gists and chunks, in a column ``embedding`` of float32; ``None`` for tables
            without vectors.
    """
    fields = list(FIELDS[table])
    if dimension is not None:
        fields.append(_required("embedding", pa.list_(_required("element", pa.float32()), dimension)))
    return pa.schema(fields, metadata={_TABLE_KEY: table.encode(), _VERSION_KEY: str(SCHEMA_VERSION).encode()})


def require(found: pa.Schema, table: TableName) -> None:
    """Refuse a schema that is not of this table and of a version that this release knows.

    Raises:
        ArtifactError: it is something else.
    """
    about = found.metadata or {}
    name, version = about.get(_TABLE_KEY, b"").decode(), about.get(_VERSION_KEY, b"").decode()
    if name != table:
        raise ArtifactError(f"expected a {table} table of this product, got {name or 'another table'!r}")
    if version != str(SCHEMA_VERSION):
        raise ArtifactError(f"a {table} table has schema version {version!r}, this release reads {SCHEMA_VERSION}")


def metadata_to_json(metadata: Metadata) -> str:
    """Write metadata as JSON text with sorted keys.

    Raises:
        UsageError: a value is not a string, number, truth value or sequence of strings.
    """
    return json.dumps({name: _checked(name, metadata[name]) for name in sorted(metadata)}, ensure_ascii=False)


def metadata_from_json(text: str) -> dict[str, MetadataValue]:
    """Read metadata back with its types.

    Raises:
        ArtifactError: the text was not written by :func:`metadata_to_json`.
    """
    try:
        values = json.loads(text)
        return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    except (ValueError, AttributeError) as error:
        raise ArtifactError(f"metadata {text[:80]!r} is not a JSON object") from error


def _checked(name: str, value: object) -> object:
    if isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return value
    raise UsageError(
        f"metadata {name!r} is {value!r}: use a string, a finite number, true or false, or a sequence of strings",
        subject=name,
    )


__all__ = ["FIELDS", "SCHEMA_VERSION", "TableName", "metadata_from_json", "metadata_to_json", "require", "schema"]
