"""Files are hashed once; whatever happens to them afterwards, they are hashed again."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from blake3 import blake3

from lightrag.errors import ArtifactError
from lightrag.memory.artifact import loading, verified
from lightrag.memory.artifact.loading import load_memory
from lightrag.memory.artifact.places import FileBytes, FolderPlace
from lightrag.memory.artifact.saving import save_memory
from lightrag.memory.artifact.verified import FileState, VerifiedFiles
from tests.lightrag.memory.artifact.test_files import make_memory, same

DIGESTS = ["a" * 64]


@pytest.fixture
def state(tmp_path: Path) -> FileState:
    (tmp_path / "file").write_bytes(b"content")
    return FileState.of((tmp_path / "file").stat())


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    return tmp_path / "marks"


def known(folder: Path) -> VerifiedFiles:
    """What another process knows."""
    return VerifiedFiles(folder, settled=0)


def test_another_process_knows_and_only_what_was_verified(state: FileState, marks: Path) -> None:
    assert not known(marks).knows(state, DIGESTS)
    known(marks).add(state, DIGESTS)
    assert known(marks).knows(state, DIGESTS)
    assert not known(marks).knows(state, ["b" * 64])
    assert not known(marks).knows(None, DIGESTS)
    for field in FileState._fields:
        assert not known(marks).knows(state._replace(**{field: getattr(state, field) + 1}), DIGESTS)


def test_a_file_that_was_just_written_is_not_remembered(state: FileState, marks: Path) -> None:
    hasty = VerifiedFiles(marks, settled=3600)
    hasty.add(state, DIGESTS)
    assert not hasty.knows(state, DIGESTS)
    assert not known(marks).knows(state, DIGESTS)


def test_what_is_known_passes_with_time_and_with_a_restart(
    state: FileState, marks: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    short = VerifiedFiles(marks, settled=0, lasting=0)
    short.add(state, DIGESTS)
    assert not short.knows(state, DIGESTS)
    [mark] = marks.iterdir()
    assert known(marks).knows(state, DIGESTS)
    os.utime(mark, (time.time() - 90_000,) * 2)
    assert not known(marks).knows(state, DIGESTS)
    os.utime(mark)
    (tmp_path / "boot").write_text("another")
    monkeypatch.setattr(verified, "_BOOT_ID", tmp_path / "boot")
    assert not known(marks).knows(state, DIGESTS)
    monkeypatch.setattr(verified, "_BOOT_ID", tmp_path / "none")
    alone = known(marks)
    alone.add(state, DIGESTS)
    assert alone.knows(state, DIGESTS)
    assert not known(marks).knows(state, DIGESTS)


def test_a_folder_that_others_can_write_to_is_not_believed(
    state: FileState, marks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known(marks).add(state, DIGESTS)
    marks.chmod(0o777)
    assert not known(marks).knows(state, DIGESTS)
    assert "only this user can write to" in caplog.text
    marks.chmod(0o700)
    elsewhere = marks.with_name("link")
    elsewhere.symlink_to(marks)
    assert not known(elsewhere).knows(state, DIGESTS)


def test_marks_are_thinned_out(state: FileState, marks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "_MOST", 8)
    files = known(marks)
    for number in range(40):
        files.add(state._replace(inode=number), DIGESTS)
        assert files.knows(state._replace(inode=number), DIGESTS)
    assert 4 <= len(list(marks.iterdir())) <= 8
    assert known(marks).knows(state._replace(inode=39), DIGESTS)


class TestLoading:
    @pytest.fixture(autouse=True)
    def remembered(self, marks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.marks, self.patch = marks, monkeypatch
        self.new_process()

    def new_process(self) -> None:
        self.patch.setattr(loading, "_VERIFIED", known(self.marks))

    def test_a_second_process_does_not_hash(self, tmp_path: Path) -> None:
        memory = make_memory()
        save_memory(memory, tmp_path / "memory")
        assert same(load_memory(tmp_path / "memory"), memory)
        self.new_process()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("blake3.blake3", _only_names)
            assert same(load_memory(tmp_path / "memory"), memory)

    @pytest.mark.parametrize("change", ["in place", "in place, times put back", "replaced", "restored from a copy"])
    def test_a_changed_file_is_hashed_again(self, change: str, tmp_path: Path) -> None:
        save_memory(make_memory(), tmp_path)
        load_memory(tmp_path)
        path = tmp_path / "cells-00000.safetensors"
        before = path.stat()
        time.sleep(0.05)  # longer than the coarsest step of a local file system's clock
        content = bytearray(path.read_bytes())
        content[-4] ^= 1
        if change.startswith("in place"):
            with path.open("r+b") as file:
                file.write(content)
        else:
            path.with_name("other").write_bytes(content)
            path.with_name("other").replace(path)
        if change != "in place":
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        if change == "restored from a copy":
            shutil.copystat(path, path)
        self.new_process()
        with pytest.raises(ArtifactError, match="is damaged"):
            load_memory(tmp_path)

    def test_a_file_that_changes_while_it_is_verified_is_not_remembered(self, tmp_path: Path) -> None:
        save_memory(make_memory(), tmp_path)

        class Touched(FolderPlace):
            def open(self, name: str, size: int) -> FileBytes:
                opened = super().open(name, size)
                time.sleep(0.05)
                os.utime(tmp_path / name)
                return opened

        load_memory(Touched(tmp_path))
        assert not self.marks.exists()
        load_memory(tmp_path)
        assert self.marks.exists()


def _only_names(data: bytes) -> blake3:
    assert len(data) < 1000, "cells were hashed"
    return blake3(data)
