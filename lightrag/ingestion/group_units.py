"""A group to encode and what has become of it, as values that travel between processes.

Small whatever the documents' size: a unit says which files hold the rows, and its worker reads them itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Self

from lightrag.ingestion.grouping import Piece, PlannedGroup
from lightrag.storage.commits import FileEntry
from lightrag.storage.groups import GroupRole


@dataclass(frozen=True, slots=True)
class GroupUnit:
    """What one worker encodes at a time, and repeats at most."""

    role: GroupRole
    group: PlannedGroup
    content_keys: Mapping[str, str]
    """Of the documents, which tell their valid chunk rows from others."""
    _: KW_ONLY
    chunk_files: tuple[FileEntry, ...]
    gist_files: tuple[FileEntry, ...] = ()
    routes_key: str = ""
    """See :attr:`~lightrag.storage.groups.DocumentGroup.routes_key`."""
    described: str = ""
    """Description of a group that is encoded already and only needs other routes."""

    def to_json(self) -> str:
        """For carriage between processes."""
        return json.dumps(
            {
                "role": self.role,
                "key": self.group.key,
                "pieces": self.group.pieces,
                "partly": dict(self.group.partly),
                "content_keys": dict(self.content_keys),
                "chunk_files": plain_entries(self.chunk_files),
                "gist_files": plain_entries(self.gist_files),
                "routes_key": self.routes_key,
                "described": self.described,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Undo :meth:`to_json`."""
        plain = json.loads(text)
        partly = {identity: (start, end) for identity, (start, end) in plain["partly"].items()}
        group = PlannedGroup(plain["key"], tuple(Piece(*piece) for piece in plain["pieces"]), partly)
        return cls(
            plain["role"],
            group,
            plain["content_keys"],
            chunk_files=read_entries(plain["chunk_files"]),
            gist_files=read_entries(plain["gist_files"]),
            routes_key=plain["routes_key"],
            described=plain["described"],
        )


@dataclass(frozen=True, slots=True)
class GroupReceipt:
    """An encoded group: its files are in storage, and no version refers to them yet."""

    role: GroupRole
    key: str
    entries: tuple[FileEntry, ...]
    tokens: int = 0
    """Of the model that encoded it."""
    seconds: float = 0.0
    """Processor time."""

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(entry.size for entry in self.entries)

    def to_json(self) -> str:
        """For carriage between processes and for staging."""
        return json.dumps(
            {
                "role": self.role,
                "key": self.key,
                "entries": plain_entries(self.entries),
                "tokens": self.tokens,
                "seconds": self.seconds,
            }
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Undo :meth:`to_json`."""
        plain = json.loads(text)
        return cls(plain["role"], plain["key"], read_entries(plain["entries"]), plain["tokens"], plain["seconds"])


def plain_entries(entries: tuple[FileEntry, ...]) -> list[dict[str, object]]:
    """Files as JSON-ready values."""
    return [entry.model_dump(mode="json") for entry in entries]


def read_entries(plain: list[dict[str, object]]) -> tuple[FileEntry, ...]:
    """Undo :func:`plain_entries`."""
    return tuple(FileEntry.model_validate(entry) for entry in plain)


__all__ = ["GroupReceipt", "GroupUnit", "plain_entries", "read_entries"]
