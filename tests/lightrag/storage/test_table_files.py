"""Tables come back whole from the files that they were spread over, and nothing is left on the way."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, BackendError
from lightrag.storage import table_files, tables
from lightrag.storage.artifacts import CorpusLog, FileEntry
from lightrag.storage.objects import open_object_store
from lightrag.storage.table_files import TableFiles
from tests.lightrag.storage.conftest import CORPUS


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def documents(*names: str) -> pa.Table:
    return tables.documents_to_table([tables.DocumentRow(name, f"key of {name}") for name in names])


def by_number(number: int) -> str:
    return f"part-{number}.parquet"


@limits(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 7), max_size=12),
    st.integers(1, 4000),
    st.integers(1, 2000),
)
def test_rows_keep_their_order_over_files_and_groups(pieces: list[int], file_bytes: int, group_bytes: int) -> None:
    log = CorpusLog(open_object_store("memory://"), CORPUS)
    names = [f"document {number}" for number in range(sum(pieces))]
    waiting = iter(names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table_files, "GROUP_BYTES", group_bytes)
        with TableFiles(log, "documents", by_number, file_bytes) as files:
            for size in pieces:
                files.add(documents(*(next(waiting) for _ in range(size))))
            entries = files.done()
    stored = [tables.read_table(log, entry) for entry in entries]
    assert [entry.name for entry in entries] == [by_number(number) for number in range(len(entries))]
    assert [entry.rows for entry in entries] == [table.num_rows for table in stored]
    assert [name for table in stored for name in table["document_id"].to_pylist()] == names
    # Every file but the last is full.
    assert all(table.nbytes >= file_bytes for table in stored[:-1])


def test_a_file_is_written_a_group_at_a_time(memory_log: CorpusLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_files, "GROUP_BYTES", 1)
    with TableFiles(memory_log, "documents", by_number, 10_000_000) as files:
        files.add(documents("a", "b"))
        files.add(documents())
        files.add(documents("c"))
        (entry,) = files.done()
    file = pq.ParquetFile(pa.BufferReader(memory_log.read_file(entry)))
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [2, 1]


def test_no_rows_are_no_file(memory_log: CorpusLog, temporary: Path) -> None:
    with TableFiles(memory_log, "documents", by_number, 100) as files:
        files.add(documents())
        assert files.done() == []
    assert list(memory_log.store.list()) == []
    assert not list(temporary.iterdir())


def write_all(log: CorpusLog, *pieces: pa.Table) -> list[FileEntry]:
    with TableFiles(log, "documents", by_number, 100) as files:
        for piece in pieces:
            files.add(piece)
        return files.done()


def test_temporary_files_go_also_after_a_failure(memory_log: CorpusLog, temporary: Path) -> None:
    with pytest.raises(ArtifactError, match="expected a documents table"):
        write_all(memory_log, pa.table({"document_id": ["a"]}))
    assert not list(temporary.iterdir())


def test_a_folder_that_is_gone_is_named_with_the_cure(memory_log: CorpusLog, temporary: Path) -> None:
    temporary.rmdir()
    with pytest.raises(BackendError, match=r"temporary files failed while a table was written.*TMPDIR"):
        write_all(memory_log, documents("a"))
