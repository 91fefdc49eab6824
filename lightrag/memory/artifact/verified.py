"""Local files that were verified once and have not changed since, so that their bytes need not be hashed again.

Knows nothing of memories. A file is told by its device, inode, size and change time, which the kernel sets at every
write and nobody can set back, together with the digests that it was found to have. What is known lasts a day and ends
with a restart of the machine, so that damage below the file system is found in the end.

The process remembers, and a mark in a folder of the user's own tells the user's other processes: an empty file whose
name is a hash of all that was said above. The folder is used only if it belongs to this user and nobody else may write
there. Who can act as this user could forge a mark, but could change the files and their digests as well: hashes find
damage, they do not keep out an owner. A mark names no tenant and opens no file; it only says that one is undamaged.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

_LOG = logging.getLogger(__name__)

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_DAY: Final = 86_400.0
_SETTLED: Final = 2.0
"""Seconds without a write after which a file is remembered. A later write then surely has another change time, however
coarse the clock of the file system is."""
_MOST: Final = 4096
"""Files remembered at once; the oldest are forgotten."""


class FileState(NamedTuple):
    """Changes whenever the content of a file may have changed."""

    device: int
    inode: int
    size: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileState:
        """Take the state from what the kernel says."""
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)


class VerifiedFiles:
    """Remembers verified files; thread-safe.

    Args:
        folder: of the marks; ``None`` for one below ``XDG_RUNTIME_DIR`` or the folder for temporary files.
        settled: seconds that a file must have been left alone before it is remembered.
        lasting: seconds after which a file is verified again.
    """

    def __init__(self, folder: Path | None = None, *, settled: float = _SETTLED, lasting: float = _DAY) -> None:
        self._folder, self._settled, self._lasting = folder, settled, lasting
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()
        self._said = False

    def knows(self, state: FileState | None, digests: Sequence[str]) -> bool:
        """Tell whether a file in this state was found to have these digests."""
        if state is None:
            return False
        name = _name(state, digests)
        if self._until.get(name, 0.0) > time.monotonic():
            return True
        marks = self._marks(make=False)
        if marks is None:
            return False
        try:
            age = time.time() - (marks / name).lstat().st_mtime
        except OSError:
            return False
        return 0 <= age < self._lasting

    def add(self, state: FileState | None, digests: Sequence[str]) -> None:
        """Remember that a file in this state has these digests; not if it was written to just now."""
        if state is None or time.time() - state.changed_ns / 1e9 < self._settled:
            return
        name = _name(state, digests)
        with self._lock:
            self._until.pop(name, None)
            self._until[name] = time.monotonic() + self._lasting
            if len(self._until) > _MOST:
                del self._until[next(iter(self._until))]
        marks = self._marks(make=True)
        if marks is not None:
            try:
                (marks / name).touch(mode=0o600)
                _thin_out(marks)
            except OSError as error:
                self._say(f"{str(marks)!r} cannot be written: {error}")

    def _marks(self, *, make: bool) -> Path | None:
        """The folder of marks, where there is one that only this user can write to."""
        if not _boot_id():
            return None
        folder = self._folder or _usual_folder()
        try:
            if make:
                folder.mkdir(mode=0o700, exist_ok=True)
            found = folder.lstat()
        except OSError as error:
            if make:
                self._say(f"{str(folder)!r} cannot be made: {error}")
            return None
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            self._say(f"{str(folder)!r} is not a folder that only this user can write to")
            return None
        return folder

    def _say(self, reason: str) -> None:
        if not self._said:
            self._said = True
            _LOG.warning("other processes will verify memory files again: %s", reason)


def _name(state: FileState, digests: Sequence[str]) -> str:
    from blake3 import blake3

    return blake3(f"{_boot_id()} {tuple(state)} {' '.join(digests)}".encode()).hexdigest(24)


def _boot_id() -> str:
    """Of the running kernel; empty where it has none."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _usual_folder() -> Path:
    own = os.environ.get("XDG_RUNTIME_DIR")
    if own and Path(own).is_dir():
        return Path(own, "lightrag-verified")
    return Path(tempfile.gettempdir(), f"lightrag-verified-{os.geteuid()}")


def _thin_out(marks: Path) -> None:
    """Remove the older half once there are too many."""
    with os.scandir(marks) as entries:
        found = sorted((entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in entries)
    for _, path in found[: len(found) // 2 if len(found) > _MOST else 0]:
        Path(path).unlink(missing_ok=True)


__all__ = ["FileState", "VerifiedFiles"]
