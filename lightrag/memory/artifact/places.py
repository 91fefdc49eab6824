"""Where the files of a memory lie: a local folder, or an object store. Nothing here knows what is in them."""

from __future__ import annotations

import contextlib
import mmap
import os
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

import torch
from torch import Tensor

from lightrag.errors import ArtifactError, BackendError, NotFoundError
from lightrag.memory.artifact.verified import FileState
from lightrag.storage.objects import Buffer, ObjectStore

_POPULATE_READ: Final = 22
"""``MADV_POPULATE_READ`` of Linux 5.14, which Python 3.11 does not name."""


class FileBytes(Protocol):
    """A large file as one buffer, filled range by range from several threads."""

    @property
    def buffer(self) -> Tensor:
        """Uint8, shape (size,); a range holds the file's bytes once it was fetched."""
        ...

    @property
    def state(self) -> FileState | None:
        """As it was when the file was opened; ``None`` where the place cannot tell."""
        ...

    def unchanged(self) -> bool:
        """Tell whether the state is still the same."""
        ...

    def fetch(self, start: int, end: int) -> None:
        """Make sure that a range is there."""


class MemoryPlace(Protocol):
    """Files of one memory by name."""

    @property
    def label(self) -> str:
        """For error messages."""
        ...

    def read(self, name: str) -> bytes:
        """Read a small file.

        Raises:
            NotFoundError: there is none.
        """
        ...

    def open(self, name: str, size: int) -> FileBytes:
        """Open a large file of a known size.

        Raises:
            ArtifactError: there is none, or it has another size.
        """
        ...

    def write(self, name: str, parts: Iterable[Buffer]) -> None:
        """Write a file; it appears whole or not at all."""
        ...


class FolderPlace:
    """A folder on this machine. Its files are mapped, so processes that load one memory share its pages."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    @property
    def label(self) -> str:
        """The folder."""
        return str(self._folder)

    def read(self, name: str) -> bytes:
        """Read a small file."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError as error:
            raise NotFoundError(f"there is no {name} in {self.label!r}", subject=self.label) from error
        except OSError as error:
            raise BackendError(f"{name} in {self.label!r} cannot be read: {error}", subject=self.label) from error

    def open(self, name: str, size: int) -> FileBytes:
        """Map a large file."""
        return _MappedFile(self._folder / name, size)

    def write(self, name: str, parts: Iterable[Buffer]) -> None:
        """Write beside the target and rename."""
        staged = self._folder / f".{name}.{uuid.uuid4().hex}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with staged.open("wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            staged.replace(self._folder / name)
        except OSError as error:
            raise BackendError(f"{name} in {self.label!r} cannot be written: {error}", subject=self.label) from error
        finally:
            staged.unlink(missing_ok=True)


class StorePlace:
    """Objects of a store.

    Args:
        store: holds them.
        prefix: their folder.
        paths: object path of each name where they are not simply below ``prefix``, as in a corpus version.
    """

    def __init__(self, store: ObjectStore, prefix: str = "", *, paths: Mapping[str, str] | None = None) -> None:
        self._store = store
        self._prefix = prefix.strip("/")
        self._paths = paths or {}

    @property
    def label(self) -> str:
        """The store and the folder."""
        return f"{self._store.url}/{self._prefix}"

    def read(self, name: str) -> bytes:
        """Read a small object."""
        return self._store.get(self._path(name))

    def open(self, name: str, size: int) -> FileBytes:
        """Open a large object; those of a local folder are mapped."""
        path = self._path(name)
        url = urlsplit(self._store.url)
        if url.scheme == "file":
            return _MappedFile(Path(unquote(url.path)) / path, size)
        try:
            found = self._store.head(path).size
        except NotFoundError as error:
            raise ArtifactError(f"{self.label}: {name} is missing", subject=self.label) from error
        _check_size(f"{self.label}: {name}", found, size)
        return _FetchedObject(self._store, path, size)

    def write(self, name: str, parts: Iterable[Buffer]) -> None:
        """Send an object in parts."""
        self._store.put_parts(self._path(name), parts)

    def _path(self, name: str) -> str:
        return self._paths.get(name) or (f"{self._prefix}/{name}" if self._prefix else name)


class _MappedFile:
    """A file in the page cache, mapped privately: never copied, and never written back.

    Artifacts are never changed in place; a file that shrinks while it is mapped would end the process.
    """

    def __init__(self, path: Path, size: int) -> None:
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                _check_size(str(path), found.st_size, size)
                self.state = FileState.of(found)
                # Writable, because tensors are; a write would stay in this process.
                protection = mmap.PROT_READ | mmap.PROT_WRITE
                self._pages = mmap.mmap(file.fileno(), size, flags=mmap.MAP_PRIVATE, prot=protection)
        except (OSError, ValueError) as error:
            raise ArtifactError(f"{str(path)!r} cannot be opened: {error}", subject=str(path)) from error
        self._path = path
        self._advise(getattr(mmap, "MADV_HUGEPAGE", None), 0, size)
        self.buffer = torch.frombuffer(self._pages, dtype=torch.uint8)

    def unchanged(self) -> bool:
        """Ask the kernel again."""
        try:
            return FileState.of(self._path.stat()) == self.state
        except OSError:
            return False

    def fetch(self, start: int, end: int) -> None:
        """Map a range in one system call, instead of a page fault for every 4 KiB."""
        begin = start - start % mmap.PAGESIZE
        self._advise(_POPULATE_READ, begin, end - begin)

    def _advise(self, advice: int | None, start: int, length: int) -> None:
        # Kernels that cannot do it fault small pages in one by one when they are read.
        if advice is not None:
            with contextlib.suppress(OSError, ValueError):
                self._pages.madvise(advice, start, length)


class _FetchedObject:
    """An object of a remote store, copied into memory of our own."""

    def __init__(self, store: ObjectStore, path: str, size: int) -> None:
        self._store, self._path = store, path
        self.state = None
        self.buffer = torch.empty(size, dtype=torch.uint8)

    def unchanged(self) -> bool:
        """Nobody knows."""
        return False

    def fetch(self, start: int, end: int) -> None:
        """Get a range."""
        self.buffer.numpy().data[start:end] = self._store.get_range(self._path, start, end - start)


def _check_size(subject: str, found: int, expected: int) -> None:
    if found != expected:
        raise ArtifactError(f"{subject} has {found} bytes, the manifest says {expected}", subject=subject)


__all__ = ["FileBytes", "FolderPlace", "MemoryPlace", "StorePlace"]
