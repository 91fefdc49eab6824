from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightrag.errors import DocumentError, NotFoundError
from lightrag.ingestion.folders import FolderSource
from lightrag.ingestion.items import Ignored, SourceItem

SUFFIXES = frozenset({".txt", ".md"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.txt", "a.md", "sub/c.txt", "sub/deep/d.MD", ".git/config.txt", ".hidden.txt", "image.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return tmp_path


def items(source: FolderSource) -> list[SourceItem]:
    return [entry for entry in source.items() if isinstance(entry, SourceItem)]


def names(source: FolderSource) -> list[str]:
    return [item.source for item in items(source)]


def test_lists_a_folder_in_order_and_passes_over_what_is_hidden(folder: Path) -> None:
    source = FolderSource(str(folder), suffixes=SUFFIXES)
    assert names(source) == ["a.md", "b.txt", "sub/c.txt", "sub/deep/d.MD"]
    assert [entry.source for entry in source.items() if isinstance(entry, Ignored)] == ["image.png"]


def test_lists_what_matches_a_glob_by_paths_below_its_fixed_part(folder: Path) -> None:
    assert names(FolderSource(f"{folder}/**/*.txt", suffixes=SUFFIXES)) == ["b.txt", "sub/c.txt"]
    assert names(FolderSource(f"{folder}/sub/*.txt", suffixes=SUFFIXES)) == ["c.txt"]


def test_takes_a_single_file_whatever_its_ending(folder: Path) -> None:
    assert names(FolderSource(str(folder / "image.png"), suffixes=SUFFIXES)) == ["image.png"]


def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(tmp_path: Path) -> None:
    odd = tmp_path / "notes [2024]"
    odd.mkdir()
    (odd / "a.txt").write_text("x", encoding="utf-8")
    assert names(FolderSource(str(odd), suffixes=SUFFIXES)) == ["a.txt"]


def test_is_known_by_its_absolute_place_unless_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    assert FolderSource(folder.name).name == FolderSource(str(folder)).name == folder.as_uri()
    assert FolderSource(str(folder), name="reports").name == "reports"


def test_fingerprints_follow_content_only(folder: Path) -> None:
    before = {item.source: item.fingerprint for item in items(FolderSource(str(folder), suffixes=SUFFIXES))}
    os.utime(folder / "b.txt", (1, 1))
    (folder / "a.md").write_text("A.md", encoding="utf-8")
    after = {item.source: item.fingerprint for item in items(FolderSource(str(folder), suffixes=SUFFIXES))}
    assert after["b.txt"] == before["b.txt"]
    assert after["a.md"] != before["a.md"]


def test_reads_what_it_listed(folder: Path) -> None:
    source = FolderSource(str(folder), suffixes=SUFFIXES)
    assert [source.read(item).decode() for item in items(source)] == names(source)


def test_a_file_that_vanishes_is_an_error_of_that_document(folder: Path) -> None:
    source = FolderSource(str(folder), suffixes=SUFFIXES)
    listed = items(source)
    (folder / "b.txt").unlink()
    with pytest.raises(DocumentError, match=r"'b\.txt' cannot be read") as caught:
        source.read(listed[1])
    assert caught.value.reason == "unreadable"


def test_names_that_are_not_utf8_are_shown_escaped_and_can_be_read(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    Path(os.fsdecode(raw)).write_bytes(b"text")
    source = FolderSource(str(tmp_path), suffixes=SUFFIXES)
    (item,) = items(source)
    assert item.source == r"caf\xe9.txt"
    assert source.read(SourceItem.from_plain(item.to_plain())) == b"text"


def test_pipes_are_ignored_instead_of_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    (entry,) = FolderSource(str(tmp_path), suffixes=SUFFIXES).items()
    assert entry == Ignored("pipe.txt", "not a regular file")


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    assert len(names(FolderSource(str(folder), suffixes=SUFFIXES))) == 4


def test_large_files_are_listed_without_being_hashed(folder: Path) -> None:
    (item,) = items(FolderSource(str(folder / "b.txt"), max_bytes=2))
    assert item.fingerprint == "size:5"


def test_a_missing_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        names(FolderSource(str(tmp_path / "nowhere")))
    with pytest.raises(NotFoundError, match="nowhere"):
        names(FolderSource(str(tmp_path / "nowhere" / "*.txt")))
