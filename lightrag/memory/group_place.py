"""A memory's files as files of a corpus, in one folder per group of documents; no version refers to them yet."""

from __future__ import annotations

from collections.abc import Iterable

from lightrag.errors import NotFoundError
from lightrag.memory.artifact.places import FileBytes, StorePlace
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import FileEntry
from lightrag.storage.groups import GroupRole
from lightrag.storage.objects import Buffer


class GroupPlace:
    """Files of one group; a :class:`~lightrag.memory.artifact.places.MemoryPlace`.

    Args:
        log: of the corpus.
        role: what the group is for.
        key: of the group.
    """

    def __init__(self, log: CorpusLog, role: GroupRole, key: str) -> None:
        self._log = log
        self._role: GroupRole = role
        self._key = key
        self._entries: dict[str, FileEntry] = {}

    @property
    def label(self) -> str:
        """Corpus and group."""
        return f"{self._log.corpus}: {self._role} {self._key}"

    @property
    def entries(self) -> tuple[FileEntry, ...]:
        """What has been written, to be committed."""
        return tuple(self._entries.values())

    def read(self, name: str) -> bytes:
        """Read a file that was written here."""
        return self._log.read_file(self._entry(name))

    def open(self, name: str, size: int) -> FileBytes:
        """Open a large file that was written here."""
        path = self._log.layout.file(self._entry(name).path)
        return StorePlace(self._log.store, paths={name: path}).open(name, size)

    def write(self, name: str, parts: Iterable[Buffer]) -> None:
        """Send a file in parts."""
        self._entries[name] = self._log.write_file(self._role, f"{self._key}/{name}", parts)

    def _entry(self, name: str) -> FileEntry:
        if name not in self._entries:
            raise NotFoundError(f"there is no {name} in {self.label}", subject=self.label)
        return self._entries[name]


__all__ = ["GroupPlace"]
