"""Documents that are files: in a folder, matching a glob, or a single one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Final

from blake3 import blake3

from lightrag.errors import DocumentError, NotFoundError, UsageError
from lightrag.ingestion.globs import has_wildcard, split_pattern
from lightrag.ingestion.items import Ignored, SourceItem

HASHING_THREADS: Final = 4
_FILES_AT_ONCE: Final = 512
_FILES_PER_TASK: Final = 32


class FolderSource:
    """Files on this machine.

    A file counts as unchanged only if its bytes hash to the same value: size and time of modification prove nothing (a
    checkout resets them, a tool may keep them), and hashing ten thousand small files takes a second or two.

    Folders are walked without following links to folders; hidden files and folders (``.git``) are passed over, and so
    is everything that is not a regular file.
    """

    def __init__(
        self, location: str, *, name: str = "", suffixes: frozenset[str] = frozenset(), max_bytes: int | None = None
    ) -> None:
        """Describe the source; nothing is read yet.

        Args:
            location: a folder, a glob or a file; ``file://`` URLs too.
            name: identity of the source; empty: its absolute location as a URL.
            suffixes: lower-case, with the dot; files of a folder or glob with any other are ignored. A single file is
                always taken, so that whoever names it learns why it cannot be read.
            max_bytes: larger files are listed without being read; they will be refused as too large.
        """
        self._pattern = None
        path = os.path.abspath(os.path.expanduser(location))
        self.name = name or Path(path).as_uri()
        if has_wildcard(location) and not os.path.lexists(path):
            self._pattern = split_pattern(path)
            path = self._pattern.base
        self._root = Path(path)
        self._location = location
        self._suffixes = suffixes
        self._max_bytes = max_bytes

    @property
    def complete(self) -> bool:
        """A folder, a glob and a file all say everything there is."""
        return True

    def items(self) -> Iterator[SourceItem | Ignored]:
        """List files in the order of their paths; see :class:`~lightrag.ingestion.items.Source`."""
        if not self._root.exists():
            raise NotFoundError(
                f"there is no file or folder {self._location!r}; check the path", subject=self._location
            )
        if self._root.is_file():
            yield self._item(self._root.name, self._root)
            return
        if not self._root.is_dir():
            raise UsageError(f"{self._location!r} is neither a file nor a folder", subject=self._location)
        entries = self._walk()
        with ThreadPoolExecutor(HASHING_THREADS) as threads:
            while several := list(islice(entries, _FILES_AT_ONCE)):
                # One task for many files: handing over a small one costs more than hashing it.
                stretches = [
                    several[start : start + _FILES_PER_TASK] for start in range(0, len(several), _FILES_PER_TASK)
                ]
                for described in threads.map(lambda stretch: [*map(self._describe, stretch)], stretches):
                    yield from described

    def read(self, item: SourceItem) -> bytes:
        """Read a file; see :class:`~lightrag.ingestion.items.Source`."""
        try:
            return Path(item.location).read_bytes()
        except OSError as error:
            raise DocumentError(
                f"{item.source!r} cannot be read: {error.strerror or error}; check that it is still there and readable",
                subject=item.source,
                reason="unreadable",
            ) from error

    def _walk(self) -> Iterator[str]:
        for folder, folders, files in os.walk(self._root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            below = os.path.relpath(folder, self._root).replace(os.sep, "/")
            for name in sorted(files):
                relative = name if below == "." else f"{below}/{name}"
                if not name.startswith(".") and (self._pattern is None or self._pattern.matches.fullmatch(relative)):
                    yield relative

    def _describe(self, relative: str) -> SourceItem | Ignored:
        suffix = os.path.splitext(relative)[1].lower()
        if suffix not in self._suffixes:
            return Ignored(_readable(relative), f"files ending in {suffix!r} are not read" if suffix else "no ending")
        return self._item(relative, self._root / relative)

    def _item(self, relative: str, path: Path) -> SourceItem | Ignored:
        try:
            state = path.stat()
            if not stat.S_ISREG(state.st_mode):
                return Ignored(_readable(relative), "not a regular file")
            if self._max_bytes is not None and state.st_size > self._max_bytes:
                fingerprint = f"size:{state.st_size}"
            else:
                fingerprint = "blake3:" + (blake3().update_mmap(path) if state.st_size else blake3()).hexdigest(32)
        except OSError:
            # Listed all the same: reading it again reports what is wrong, among the other failed documents.
            return SourceItem(_readable(relative), str(path), 0, "")
        return SourceItem(_readable(relative), str(path), state.st_size, fingerprint)


def _readable(path: str) -> str:
    """The path as text: bytes that are not UTF-8 are shown escaped."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


__all__ = ["HASHING_THREADS", "FolderSource"]
