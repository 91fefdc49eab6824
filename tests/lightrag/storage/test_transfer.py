"""Parts, digests and ranges, for sizes around the boundaries of parts."""

from __future__ import annotations

import io
import itertools
import threading
from functools import partial
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, BackendError, UsageError
from lightrag.storage import transfer
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import PART_BYTES, open_object_store
from tests.lightrag.storage.conftest import CORPUS

SIZES = [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 17]


def content(size: int) -> bytes:
    return (b"0123456789abcdef!" * (size // 17 + 1))[:size]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", ["bytes", "path", "pieces"])
def test_every_form_of_a_file_is_stored_and_read_alike(
    memory_log: CorpusLog, tmp_path: Path, size: int, form: str
) -> None:
    data = content(size)
    (tmp_path / "file").write_bytes(data)
    pieces = iter(partial(io.BytesIO(data).read, 1_000_003), b"")
    source = {"bytes": data, "path": tmp_path / "file", "pieces": pieces}[form]
    entry = memory_log.write_file("index", "file.bin", source)  # type: ignore[arg-type]
    assert (entry.size, entry.parts) == (size, max(1, -(-size // PART_BYTES)))
    assert memory_log.read_file(entry) == data
    memory_log.fetch_to(entry, tmp_path / "sub" / "copy")
    assert (tmp_path / "sub" / "copy").read_bytes() == data
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["copy"]
    if entry.parts == 1:
        assert entry.blake3 == blake3(data).hexdigest()


def test_anything_with_a_buffer_is_bytes(memory_log: CorpusLog) -> None:
    np = pytest.importorskip("numpy")
    array = np.arange(1000, dtype=np.float32).reshape(10, 100)
    entry = memory_log.write_file("index", "array", memoryview(array).cast("B"))
    assert memory_log.read_file(entry) == array.tobytes()
    assert memory_log.read_file(memory_log.write_file("index", "array", array)) == array.tobytes()


_shared_log = CorpusLog(open_object_store("memory://"), CORPUS)
_shared_data = content(3 * PART_BYTES + 17)
_shared_entry = _shared_log.write_file("index", "large", _shared_data)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, _shared_entry.size), st.integers(0, _shared_entry.size))
def test_any_range_equals_the_slice(start: int, stop: int) -> None:
    start, stop = sorted((start, stop))
    assert _shared_log.read_range(_shared_entry, start, stop - start) == _shared_data[start:stop]


def test_parts_come_in_order_and_trimmed() -> None:
    parts = list(_shared_log.read_parts(_shared_entry, 5, PART_BYTES))
    assert [(part.start, len(part.data)) for part in parts] == [(5, PART_BYTES - 5), (PART_BYTES, 5)]


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, _shared_entry.size + 1), (_shared_entry.size, 1)])
def test_ranges_outside_the_file_are_refused(start: int, length: int) -> None:
    with pytest.raises(UsageError, match="do not lie inside"):
        _shared_log.read_range(_shared_entry, start, length)


class TestDamage:
    @pytest.mark.parametrize("size", [100, 2 * PART_BYTES + 5])
    def test_a_flipped_bit_is_found_and_placed(self, memory_log: CorpusLog, size: int) -> None:
        data = bytearray(content(size))
        entry = memory_log.write_file("index", "file", bytes(data))
        data[-1] ^= 1
        memory_log.store.put(memory_log.layout.file(entry.path), data)
        begin = (entry.parts - 1) * PART_BYTES
        with pytest.raises(ArtifactError, match=f"'{entry.path}' is damaged: bytes {begin} to {size} have blake3"):
            memory_log.read_file(entry)
        with pytest.raises(ArtifactError, match="is damaged"):
            memory_log.read_range(entry, size - 4, 2)
        if entry.parts > 1:
            assert memory_log.read_range(entry, 0, 10) == bytes(data[:10])

    @pytest.mark.parametrize("size", [100, 2 * PART_BYTES + 5])
    def test_a_short_or_missing_file_is_found(self, memory_log: CorpusLog, size: int, tmp_path: Path) -> None:
        entry = memory_log.write_file("index", "file", content(size))
        memory_log.store.put(memory_log.layout.file(entry.path), content(size - 1))
        with pytest.raises(
            ArtifactError, match=rf"has {size - 1} bytes, the commit says|shorter than the {size} bytes"
        ):
            memory_log.read_file(entry)
        memory_log.store.delete([memory_log.layout.file(entry.path)])
        with pytest.raises(ArtifactError, match="is missing"):
            memory_log.fetch_to(entry, tmp_path / "copy")
        assert list(tmp_path.iterdir()) == []

    def test_damaged_digests_are_found(self, memory_log: CorpusLog) -> None:
        entry = memory_log.write_file("index", "file", content(2 * PART_BYTES))
        path = memory_log.layout.file(transfer.parts_path(entry.path))
        memory_log.store.put(path, memory_log.store.get(path)[:-1] + b"x")
        with pytest.raises(ArtifactError, match=r"digests of .* are damaged"):
            memory_log.read_file(entry)
        memory_log.store.delete([path])
        with pytest.raises(ArtifactError, match="is missing"):
            memory_log.read_file(entry)


def test_a_copy_that_cannot_be_written_says_where(memory_log: CorpusLog, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    entry = memory_log.write_file("index", "a", b"data")
    with pytest.raises(BackendError, match="cannot be written to"):
        memory_log.fetch_to(entry, tmp_path / "file" / "copy")


class TestParallel:
    def test_results_keep_their_order_and_work_may_nest_deeper_than_there_are_pools(self) -> None:
        def nested(depth: int) -> int:
            return sum(transfer.parallel(nested, [depth - 1] * 3)) if depth else 1

        assert list(transfer.parallel(nested, [2] * 40)) == [9] * 40
        assert nested(5) == 3**5

    def test_only_a_window_of_work_is_begun_ahead(self) -> None:
        begun = threading.Semaphore(0)
        results = transfer.parallel(lambda number: (begun.release(), number)[1], itertools.count(), window=3)
        assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
        results.close()  # type: ignore[attr-defined]
        assert sum(begun.acquire(blocking=False) for _ in range(100)) <= 5 + 3

    def test_an_error_comes_out(self) -> None:
        with pytest.raises(ZeroDivisionError):
            list(transfer.parallel(lambda number: 1 // number, [1, 0, 1]))
