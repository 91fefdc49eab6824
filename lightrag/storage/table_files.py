"""Tables of any size as Parquet files of a corpus, written a row group at a time.

What waits in memory is one row group, however large the files are: they grow in the machine's folder for temporary
files and are stored from there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import pyarrow as pa

from lightrag.errors import BackendError
from lightrag.storage import tables
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import FileEntry
from lightrag.storage.objects import MIB

GROUP_BYTES = 2 * MIB
"""Rows that wait in memory for their row group."""


class TableFiles:
    """Collects tables of one kind into files of about equal size. A context, which leaves no temporary file."""

    def __init__(self, log: CorpusLog, role: tables.TableName, name: Callable[[int], str], file_bytes: int) -> None:
        """Begin; nothing is written yet.

        Args:
            log: of the corpus.
            role: of the files.
            name: of a file, by its number from 0.
            file_bytes: rows in one file, as they are in memory.
        """
        self._log = log
        self._role: tables.TableName = role
        self._name = name
        self._file_bytes = file_bytes
        self._folder: TemporaryDirectory[str] | None = None
        self._path = Path()
        self._writer: Any = None
        self._waiting: list[pa.Table] = []
        self._bytes = 0
        self._rows = 0
        self._entries: list[FileEntry] = []

    def __enter__(self) -> TableFiles:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            with suppress(OSError):  # a full disk was told already; the file goes with its folder
                self._writer.close()
        if self._folder is not None:
            self._folder.cleanup()

    def add(self, table: pa.Table) -> None:
        """Take rows, whose columns are those of all rows before.

        Raises:
            BackendError: the folder for temporary files, or the store, failed.
        """
        if table.num_rows:
            self._waiting.append(table)
        waiting = sum(each.nbytes for each in self._waiting)
        if waiting >= GROUP_BYTES or self._bytes + waiting >= self._file_bytes:
            self._write_group()
        if self._bytes >= self._file_bytes:
            self._store()

    def done(self) -> list[FileEntry]:
        """Write what waits, and return all files; raises as :meth:`add`."""
        if self._waiting:
            self._write_group()
        if self._rows:
            self._store()
        return self._entries

    def _write_group(self) -> None:
        group = pa.concat_tables(self._waiting)  # pieces as they are: joining them would hold everything twice
        self._waiting = []
        try:
            if self._folder is None:
                self._folder = TemporaryDirectory(prefix="lightrag-tables-")
                self._path = Path(self._folder.name, f"{self._role}.parquet")
            if self._writer is None:
                self._writer = tables.parquet_writer(self._path, group.schema, self._role)
            self._writer.write_table(group, row_group_size=tables.ROW_GROUP_ROWS)
        except OSError as error:
            raise _full(error) from error
        self._bytes += group.nbytes
        self._rows += group.num_rows

    def _store(self) -> None:
        try:
            self._writer.close()
        except OSError as error:
            raise _full(error) from error
        finally:
            self._writer = None
        name = self._name(len(self._entries))
        self._entries.append(self._log.write_file(self._role, name, self._path, rows=self._rows))
        self._path.unlink()
        self._bytes = self._rows = 0
        # Allocators keep what is freed, so a process that writes many files would hold a piece of each.
        pa.default_memory_pool().release_unused()


def _full(error: OSError) -> BackendError:
    return BackendError(
        f"this machine's folder for temporary files failed while a table was written: {error}. Set TMPDIR to a folder "
        "that has a gigabyte free"
    )


__all__ = ["GROUP_BYTES", "TableFiles"]
