"""Rows of one Parquet file in an object store, streamed in order or fetched by place, columns as needed."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from lightrag.errors import DataError, UsageError
from lightrag.storage.objects import ObjectStore

_ROWS_AT_ONCE: Final = 1024


class ParquetRows:
    """Reads rows of a Parquet file without ever holding more than one row group's wanted columns."""

    def __init__(self, store: ObjectStore, path: str, columns: Sequence[str]) -> None:
        """Read the file's footer.

        Raises:
            UsageError: a column does not exist; the message lists those that do.
            DataError: it is not a Parquet file.
        """
        self._file = open_parquet(store, path)
        existing = self._file.schema_arrow.names
        missing = [name for name in columns if name not in existing]
        if missing:
            raise UsageError(
                f"Parquet file {path!r} has no column {', '.join(map(repr, missing))}; it has {existing}", subject=path
            )
        self._columns = list(columns)
        self._group: tuple[int, Any] | None = None

    def rows(self) -> Iterator[tuple[tuple[int, int], Mapping[str, Any]]]:
        """Every row with its place: row group, and row within it."""
        for group in range(self._file.num_row_groups):
            row = 0
            for batch in self._file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=self._columns):
                for values in batch.to_pylist():
                    yield (group, row), values
                    row += 1

    def row(self, group: int, row: int) -> Mapping[str, Any]:
        """Fetch one row; the last row group is kept, since neighbours tend to follow."""
        if self._group is None or self._group[0] != group:
            self._group = (group, self._file.read_row_group(group, columns=self._columns))
        values: Mapping[str, Any] = self._group[1].slice(row, 1).to_pylist()[0]
        return values


def open_parquet(store: ObjectStore, path: str) -> Any:
    """Open an object as a ``pyarrow.parquet.ParquetFile`` that fetches only what is read from it.

    Raises:
        NotFoundError: there is no such object.
        DataError: it is not a Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pa.PythonFile(_StoredFile(store, path), mode="r")
    try:
        return pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"{path!r} is not a Parquet file: {error}", subject=path) from error


class _StoredFile(io.RawIOBase):
    """An object as a file that can be read from any place."""

    def __init__(self, store: ObjectStore, path: str) -> None:
        self._store = store
        self._path = path
        self._size = store.head(path).size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        length = self._size - self._position if size is None or size < 0 else min(size, self._size - self._position)
        if length <= 0:
            return b""
        data = bytes(self._store.get_range(self._path, self._position, length))
        self._position += length
        return data


__all__ = ["ParquetRows", "open_parquet"]
