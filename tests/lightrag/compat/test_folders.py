"""Folders appear whole or not at all, and what was there before survives a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightrag.compat.folders import replaced
from lightrag.errors import BackendError


def test_a_folder_takes_the_place_of_a_file_or_a_folder(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "memory.bin"
    for round_ in ("first", "second"):
        with replaced(place) as folder:
            (folder / round_).touch()
    assert [path.name for path in place.iterdir()] == ["second"]
    (tmp_path / "file.bin").write_text("published", encoding="utf-8")
    with replaced(tmp_path / "file.bin") as folder:
        (folder / "new").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "file.bin"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, ValueError])
def test_a_failure_leaves_what_was_there(error: type[BaseException], tmp_path: Path) -> None:
    place = tmp_path / "memory.bin"
    place.write_text("before", encoding="utf-8")

    def fill() -> None:
        with replaced(place) as folder:
            (folder / "half").touch()
            raise error

    with pytest.raises((BackendError, KeyboardInterrupt, ValueError)):
        fill()
    assert place.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [place]
