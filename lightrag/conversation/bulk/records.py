"""Records of files by their place: listed once by the job, read again by the worker whose users they belong to.

Knows JSON lines, JSON and Parquet, and nothing of conversations.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from lightrag.errors import DataError, NotFoundError, UsageError
from lightrag.ingestion.globs import has_wildcard, split_pattern
from lightrag.ingestion.parquet_rows import ParquetRows, open_parquet
from lightrag.storage.objects import MIB, ObjectStore, open_object_store

LINES: Final = (".jsonl", ".ndjson")
ENDINGS: Final = (*LINES, ".json", ".parquet")
_READ_BYTES: Final = 4 * MIB
_DECODER: Final = json.JSONDecoder()
_BETWEEN: Final = re.compile(r"[ \t\r\n,]*")


class Place(NamedTuple):
    """Neighbouring records of one file."""

    path: str
    start: int
    """First byte; in Parquet the row group."""
    length: int
    """Bytes; in Parquet the first row of the group."""
    records: int = 1


class Listed(NamedTuple):
    """A record as listed."""

    place: Place
    record: Mapping[str, Any] | None
    """``None`` where it is damaged."""
    reason: str = ""


class Records:
    """Records below a location. Opened by every process for itself."""

    def __init__(self, location: str, options: Mapping[str, str] | None = None) -> None:
        """Describe the location; nothing is read yet.

        Args:
            location: file, folder or glob.
            options: for the object store's client.
        """
        self._location = location
        self._root, self._key = _split(location)
        self._options = dict(options or {})
        self._opened: ObjectStore | None = None
        self._tables: dict[str, ParquetRows] = {}

    def all(self) -> Iterator[Listed]:
        """Every record, in the order of files and of places in them.

        Raises:
            NotFoundError: there is nothing at the location.
            UsageError: there is no file of a known kind.
            DataError: a whole file is damaged.
        """
        for path, size in self._files():
            if path.lower().endswith(LINES):
                yield from self._lines(path, size)
            elif path.lower().endswith(".parquet"):
                for (group, row), values in self._table(path).rows():
                    yield Listed(Place(path, group, row), values)
            else:
                yield from self._json(path, size)

    def read(self, place: Place) -> Iterator[Mapping[str, Any]]:
        """The records of a place."""
        if place.path.lower().endswith(".parquet"):
            table = self._table(place.path)
            yield from (table.row(place.start, place.length + number) for number in range(place.records))
            return
        data = bytes(self._store.get_range(place.path, place.start, place.length))
        for part in data.split(b"\n") if place.path.lower().endswith(LINES) else [data]:
            if part.strip():
                try:
                    yield json.loads(part)
                except ValueError as error:
                    raise DataError(f"{place.path!r} has changed while it was read", subject=place.path) from error

    # --- Files --------------------------------------------------------------------------------------------------------

    @property
    def _store(self) -> ObjectStore:
        if self._opened is None:
            self._opened = open_object_store(self._root, self._options)
        return self._opened

    def _table(self, path: str) -> ParquetRows:
        if path not in self._tables:
            columns = open_parquet(self._store, path).schema_arrow.names
            self._tables[path] = ParquetRows(self._store, path, columns)
        return self._tables[path]

    def _files(self) -> list[tuple[str, int]]:
        pattern = split_pattern(self._key) if has_wildcard(self._key) else None
        prefix = (pattern.base if pattern else self._key).strip("/")
        if self._root.startswith("file://") and not Path(self._root.removeprefix("file://"), prefix).exists():
            raise NotFoundError(f"there is no file or folder {self._location!r}; check the path")
        found = sorted((info.path, info.size) for info in self._store.list(prefix))
        if pattern:
            found = [(path, size) for path, size in found if pattern.matches.fullmatch(path[len(prefix) :].lstrip("/"))]
        elif not found:
            # A listing names what lies below; the location may be the file itself.
            found = [(prefix, self._store.head(prefix).size)]
        known = [(path, size) for path, size in found if path.lower().endswith(ENDINGS)]
        if not known:
            raise UsageError(
                f"{self._location!r} holds no conversations: files that are read end in {' '.join(ENDINGS)}",
                subject=self._location,
            )
        return known

    def _lines(self, path: str, size: int) -> Iterator[Listed]:
        offset, carried = 0, b""
        for start in range(0, size, _READ_BYTES):
            carried += bytes(self._store.get_range(path, start, min(_READ_BYTES, size - start)))
            *lines, carried = carried.split(b"\n")
            for line in lines:
                yield from _parsed(Place(path, offset, len(line)), line)
                offset += len(line) + 1
        yield from _parsed(Place(path, offset, len(carried)), carried)

    def _json(self, path: str, size: int) -> Iterator[Listed]:
        """One object, or the elements of one array; only one element at a time is kept as values."""
        try:
            text = self._store.get(path).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path!r} is not UTF-8: {error}", subject=path) from error
        if not text.lstrip().startswith("["):
            yield from _parsed(Place(path, 0, size), text.encode())
            return
        at = text.index("[") + 1
        offset = size - len(text[at:].encode())
        while True:
            found = _BETWEEN.match(text, at)
            following = found.end() if found else at
            if following >= len(text):
                raise DataError(f"{path!r} ends in the middle of its list", subject=path)
            offset, at = offset + following - at, following
            if text[at] == "]":
                return
            try:
                value, end = _DECODER.raw_decode(text, at)
            except ValueError as error:
                raise DataError(f"{path!r} is not JSON: {error}", subject=path) from error
            length = len(text[at:end].encode())
            yield _checked(Place(path, offset, length), value)
            offset, at = offset + length, end


def _parsed(place: Place, data: bytes) -> Iterator[Listed]:
    if not data.strip():
        return
    try:
        yield _checked(place, json.loads(data))
    except ValueError as error:
        yield Listed(place, None, f"not JSON: {error}")


def _checked(place: Place, value: Any) -> Listed:
    if isinstance(value, Mapping):
        return Listed(place, value)
    return Listed(place, None, f"a record is an object, this is {type(value).__name__}")


def _split(location: str) -> tuple[str, str]:
    """Into the URL of a store and a key below it."""
    scheme, mark, rest = location.partition("://")
    if mark and scheme != "file":
        bucket, _, key = rest.partition("/")
        return f"{scheme}://{bucket}", key.strip("/")
    path = Path(os.path.abspath(os.path.expanduser(rest if mark else location)))
    fixed = Path(split_pattern(str(path)).base) if has_wildcard(str(path)) else path.parent
    return fixed.as_uri(), path.relative_to(fixed).as_posix()


__all__ = ["ENDINGS", "Listed", "Place", "Records"]
