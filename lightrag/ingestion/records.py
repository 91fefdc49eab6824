"""Documents that are records: lines of JSONL files and rows of Parquet files, here or in an object store."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from lightrag.errors import DocumentError, NotFoundError
from lightrag.ingestion.globs import has_wildcard, split_pattern
from lightrag.ingestion.items import Ignored, SourceItem, content_fingerprint
from lightrag.ingestion.parquet_rows import ParquetRows
from lightrag.ingestion.spec import SourceSpec
from lightrag.storage.objects import MIB, ObjectStore, open_object_store
from lightrag.types import Metadata, MetadataValue

ENDINGS: Final[Mapping[Literal["parquet", "jsonl"], tuple[str, ...]]] = {
    "parquet": (".parquet",),
    "jsonl": (".jsonl", ".ndjson"),
}
_READ_BYTES: Final = 4 * MIB


class _Record(NamedTuple):
    name: str
    text: str
    title: str
    metadata: Metadata


class RecordSource:
    """Records of tables, one document each. Always compared by content: a table is cheap to read through.

    A record is named ``file#id``, by its id column, or ``file#number`` by its position, counted from 0. A record that
    is damaged is listed without a fingerprint, so that it is reported with the other failed documents.
    """

    def __init__(self, spec: SourceSpec, *, kind: Literal["parquet", "jsonl"], max_bytes: int | None = None) -> None:
        """Describe the source; nothing is read yet.

        Args:
            spec: location, columns and options.
            kind: format of the files.
            max_bytes: a longer line of JSONL is refused instead of held.
        """
        self._spec = spec
        self._kind = kind
        self._max_bytes = max_bytes
        self._root, key = _split(spec.location)
        self.name = spec.name or f"{self._root}/{key}"
        self._key = key
        self._opened: ObjectStore | None = None
        self._tables: dict[str, ParquetRows] = {}

    complete = True

    def items(self) -> Iterator[SourceItem | Ignored]:
        """List records in the order of files and of places in them; see :class:`~lightrag.ingestion.items.Source`."""
        for path, size in self._files():
            rows = self._jsonl(path, size) if self._kind == "jsonl" else self._parquet(path)
            for number, (place, length, row) in enumerate(rows):
                yield self._item(path, number, place, length, row)

    def read(self, item: SourceItem) -> bytes:
        """Read one record's text; see :class:`~lightrag.ingestion.items.Source`."""
        if self._kind == "jsonl":
            if self._max_bytes is not None and item.size > self._max_bytes:
                raise DocumentError(
                    f"{item.source!r} is a line of {item.size} bytes, more than the {self._max_bytes} allowed",
                    subject=item.source,
                    reason="too_large",
                )
            row: Any = bytes(self._store.get_range(item.location, *item.place))
        else:
            row = self._table(item.location).row(*item.place)
        return self._record(item.source, item.place[1], row).text.encode()

    @property
    def _store(self) -> ObjectStore:
        if self._opened is None:
            self._opened = open_object_store(self._root, self._spec.options)
        return self._opened

    def _files(self) -> list[tuple[str, int]]:
        pattern = split_pattern(self._key) if has_wildcard(self._key) else None
        prefix = (pattern.base if pattern else self._key).strip("/")
        local = self._root.startswith("file://")
        if local and not Path(self._root[len("file://") :], prefix).exists():
            raise NotFoundError(f"there is no file or folder {self._spec.location!r}; check the path")
        found = sorted((info.path, info.size) for info in self._store.list(prefix))
        if pattern:
            found = [(path, size) for path, size in found if pattern.matches.fullmatch(path[len(prefix) :].lstrip("/"))]
        elif not found:
            # A listing names what lies below; the location may be the table itself.
            found = [(prefix, self._store.head(prefix).size)]
        return [(path, size) for path, size in found if path.lower().endswith(ENDINGS[self._kind]) or path == prefix]

    def _item(self, path: str, number: int, place: tuple[int, int], length: int, row: Any) -> SourceItem:
        named = os.path.basename(path) if path == self._key.strip("/") else self._relative(path)
        if row is None:
            return SourceItem(f"{named}#{number}", path, length, "", place=place)
        try:
            record = self._record(f"{named}#{number}", number, row)
        except DocumentError:
            return SourceItem(f"{named}#{number}", path, length, "", place=place)
        content = record.text.encode()
        return SourceItem(
            f"{named}#{record.name}",
            path,
            len(content),
            content_fingerprint(content),
            title=record.title,
            place=place,
            metadata=record.metadata,
        )

    def _relative(self, path: str) -> str:
        prefix = (split_pattern(self._key).base if has_wildcard(self._key) else self._key).strip("/")
        return path[len(prefix) :].lstrip("/")

    def _jsonl(self, path: str, size: int) -> Iterator[tuple[tuple[int, int], int, bytes | None]]:
        """Every line that is not blank: (offset and length in the file), length, bytes unless it is too long."""
        limit = size if self._max_bytes is None else self._max_bytes
        offset, length, pieces = 0, 0, list[bytes]()
        for start in range(0, size, _READ_BYTES):
            parts = bytes(self._store.get_range(path, start, min(_READ_BYTES, size - start))).split(b"\n")
            for number, part in enumerate(parts):
                if number:  # a line has ended before this part
                    if (line := _line(pieces, length, limit)) != b"":
                        yield (offset, length), length, line
                    offset, length, pieces = offset + length + 1, 0, []
                length += len(part)
                # Of a line that is too long nothing is kept: it may be the whole of a huge file.
                pieces = [*pieces, part] if length <= limit else []
        if (line := _line(pieces, length, limit)) != b"":
            yield (offset, length), length, line

    def _parquet(self, path: str) -> Iterator[tuple[tuple[int, int], int, Mapping[str, Any]]]:
        for place, row in self._table(path).rows():
            yield place, 0, row

    def _table(self, path: str) -> ParquetRows:
        if path not in self._tables:
            spec = self._spec
            wanted = [spec.text_column, spec.id_column, spec.title_column, *spec.metadata_columns]
            # One file is open at a time: records of a file are read one after the other.
            self._tables = {path: ParquetRows(self._store, path, [name for name in wanted if name])}
        return self._tables[path]

    def _record(self, source: str, number: int, row: Any) -> _Record:
        values = _parse(row, source) if isinstance(row, bytes) else row
        spec = self._spec
        text = values.get(spec.text_column)
        if not isinstance(text, str):
            raise DocumentError(
                f"{source!r} has no text in {spec.text_column!r}: it has {sorted(values)}; name the column with "
                "text_column",
                subject=source,
                reason="no_text" if text is None else "damaged",
            )
        identity = values.get(spec.id_column) if spec.id_column else number
        if identity is None or identity == "":
            raise DocumentError(f"{source!r} has no id in {spec.id_column!r}", subject=source, reason="damaged")
        metadata = {name: _value(values.get(name), name, source) for name in spec.metadata_columns}
        title = values.get(spec.title_column) if spec.title_column else ""
        return _Record(
            str(identity),
            text,
            str(title or ""),
            {name: value for name, value in metadata.items() if value is not None},
        )


def _line(pieces: list[bytes], length: int, limit: int) -> bytes | None:
    """The line that the pieces make; empty where it is blank, and nothing where it is too long."""
    if length > limit:
        return None
    line = b"".join(pieces)
    return line if line.strip() else b""


def _parse(line: bytes, source: str) -> Mapping[str, Any]:
    try:
        values = json.loads(line)
    except ValueError as error:
        raise DocumentError(f"{source!r} is not JSON: {error}", subject=source, reason="damaged") from error
    if not isinstance(values, dict):
        raise DocumentError(f"{source!r} is not a JSON object", subject=source, reason="damaged")
    return values


def _value(value: Any, name: str, source: str) -> MetadataValue | None:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise DocumentError(
        f"{source!r} has a {type(value).__name__} in metadata column {name!r}; metadata are texts, numbers, booleans, "
        "dates or lists of texts",
        subject=source,
        reason="damaged",
    )


def _split(location: str) -> tuple[str, str]:
    """Into the URL of a store and a key below it."""
    scheme, mark, rest = location.partition("://")
    if mark and scheme != "file":
        bucket, _, key = rest.partition("/")
        return f"{scheme}://{bucket}", key.strip("/")
    path = Path(os.path.abspath(os.path.expanduser(rest if mark else location)))
    fixed = Path(split_pattern(str(path)).base) if has_wildcard(str(path)) else path.parent
    return fixed.as_uri(), path.relative_to(fixed).as_posix()


__all__ = ["ENDINGS", "RecordSource"]
