"""Folders that are written whole: beside their place first, then put there."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightrag.errors import BackendError


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give an empty folder that takes the place of ``path``, file or folder, once it has been filled without error.

    Raises:
        BackendError: it cannot be written; what was there before is kept.
    """
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    former = staged.with_name(f"{staged.name}.old")
    try:
        staged.mkdir(parents=True)
        yield staged
        if path.exists():
            path.rename(former)
        staged.rename(path)
    except OSError as error:
        raise BackendError(f"{str(path)!r} cannot be written: {error}", subject=str(path)) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if former.exists() and not path.exists():
            former.rename(path)
    _remove(former)


def ensure_folder(path: Path) -> None:
    """Make a folder, now rather than after hours of work.

    Raises:
        BackendError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BackendError(f"folder {str(path)!r} cannot be made: {error}", subject=str(path)) from error


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        BackendError: it cannot be written.
    """
    staged = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with staged.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        staged.replace(path)
    except OSError as error:
        raise BackendError(f"{str(path)!r} cannot be written: {error}", subject=str(path)) from error
    finally:
        staged.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


__all__ = ["ensure_folder", "replaced", "write_whole"]
