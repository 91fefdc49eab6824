"""Stored latents of corpus versions: which passages have any, and their states, whatever group they are in.

Opens a group when evidence first needs it and reads only the rows that a ratio asks for. It encodes nothing.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightrag.errors import ArtifactError
from lightrag.latents.positions import Positions
from lightrag.latents.resident import DEFAULT_ROW_BYTES, ResidentLatents, RowCache
from lightrag.latents.store import HEADER_NAME, LatentStore
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.group_catalogue import GroupCatalogue
from lightrag.storage.groups import StoredGroup
from lightrag.storage.objects import ObjectStore
from lightrag.storage.transfer import parallel
from lightrag.types import CorpusVersion, Evidence

if TYPE_CHECKING:
    from torch import Tensor

_OPEN_GROUPS = 256
"""Each keeps 32 bytes for every passage; a group of a million tokens takes some 160 KB."""


@dataclass(frozen=True, slots=True)
class PassageLatents:
    """Stored latents of the passages of one request; several threads may read."""

    fingerprint: str
    """Of the encoder that made them."""
    homes: Mapping[str, ResidentLatents]
    """Where the rows of each passage are, by chunk id."""
    foreign: int
    """Passages whose latents another encoder made; they are not in ``homes``."""

    def tokens(self, chunk_id: str) -> int | None:
        """Tokens of a stored passage; ``None`` where it is not stored."""
        home = self.homes.get(chunk_id)
        return home.tokens(chunk_id) if home is not None else None

    def states(self, wanted: Sequence[tuple[str, Positions]]) -> list[Tensor]:
        """States of passages at ascending positions, shape (positions, hidden) each; groups are read side by side."""
        by_home: dict[ResidentLatents, list[int]] = {}
        for number, (chunk_id, _) in enumerate(wanted):
            by_home.setdefault(self.homes[chunk_id], []).append(number)
        read = parallel(lambda home: home.states([wanted[number] for number in by_home[home]]), by_home)
        states: dict[int, Tensor] = {}
        for numbers, rows in zip(by_home.values(), read, strict=True):
            states.update(zip(numbers, rows, strict=True))
        return [states[number] for number in range(len(wanted))]


@dataclass(frozen=True, slots=True)
class _Files:
    """Where the latents of a document, or of a part of it, are."""

    paths: Mapping[str, str]
    """Object path of each file of the group."""
    ordinals: range
    """Of the document's chunks that are in it."""

    def locate(self, name: str) -> str:
        """See :data:`lightrag.latents.store.Locate`."""
        if name not in self.paths:
            raise ArtifactError(f"stored latents lack their file {name!r}", subject=self.paths[HEADER_NAME])
        return self.paths[name]


class CorpusLatents:
    """Finds the stored latents of evidence. Belongs to one event loop at a time.

    Args:
        store: where the corpora are.
        max_bytes: rows kept in memory, of all corpora together.
    """

    def __init__(self, store: ObjectStore, *, max_bytes: int = DEFAULT_ROW_BYTES) -> None:
        self._store = store
        self._rows = RowCache(max_bytes)
        self._catalogue = GroupCatalogue(store, "latents", _by_document)
        self._open: OrderedDict[str, ResidentLatents] = OrderedDict()
        self._lock = threading.Lock()

    async def of(
        self, version: CorpusVersion, evidence: Sequence[Evidence], *, fingerprint: str
    ) -> PassageLatents | None:
        """Find the latents of passages; ``None`` where the version has none at all.

        Args:
            version: of the corpus that the passages come from.
            evidence: the passages.
            fingerprint: of the encoder whose latents are wanted.

        Raises:
            NotFoundError: the version does not exist.
            ArtifactError: stored latents are damaged.
        """
        groups = await self._catalogue.of(version)
        return await asyncio.to_thread(self._find, groups, evidence, fingerprint) if groups else None

    def _find(
        self, groups: Mapping[str, list[_Files]], evidence: Sequence[Evidence], fingerprint: str
    ) -> PassageLatents:
        needed = {
            item.chunk.chunk_id: files
            for item in evidence
            for files in groups.get(item.chunk.document_id, ())
            if item.chunk.ordinal in files.ordinals
        }
        files = list({each.paths[HEADER_NAME]: each for each in needed.values()}.values())
        opened = dict(zip((each.paths[HEADER_NAME] for each in files), parallel(self._resident, files), strict=True))
        homes, foreign = {}, 0
        for chunk_id, each in needed.items():
            home = opened[each.paths[HEADER_NAME]]
            if home.tokens(chunk_id) is None:
                continue
            if home.fingerprint == fingerprint:
                homes[chunk_id] = home
            else:
                foreign += 1
        return PassageLatents(fingerprint, homes, foreign)

    def _resident(self, files: _Files) -> ResidentLatents:
        """Open a group; objects never change, so the path of its header names it for good."""
        header = files.paths[HEADER_NAME]
        with self._lock:
            resident = self._open.get(header)
        if resident is None:
            resident = ResidentLatents(LatentStore(self._store, files.locate), cache=self._rows)
        with self._lock:
            resident = self._open.setdefault(header, resident)
            self._open.move_to_end(header)
            while len(self._open) > _OPEN_GROUPS:
                self._open.popitem(last=False)
        return resident


def _by_document(log: CorpusLog, groups: Sequence[StoredGroup]) -> dict[str, list[_Files]]:
    """Where the latents of each document are; a long one is in several groups."""
    located: dict[str, list[_Files]] = {}
    for stored in groups:
        group = stored.group
        paths = {name: log.layout.file(path) for name, path in stored.paths.items()}
        if HEADER_NAME not in paths:
            raise ArtifactError(f"latents group {group.key!r} has no {HEADER_NAME}", subject=group.key)
        for document in group.documents:
            ordinals = range(*group.chunks.get(document, (0, sys.maxsize)))
            located.setdefault(document, []).append(_Files(paths, ordinals))
    return located


__all__ = ["CorpusLatents", "PassageLatents"]
