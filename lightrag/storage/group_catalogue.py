"""What groups a corpus version has, read once for all who ask; the versions asked about last are remembered."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.groups import GROUP_FILE, DocumentGroup, GroupRole, StoredGroup, read_groups
from lightrag.storage.objects import ObjectStore
from lightrag.types import CorpusId, CorpusVersion

T = TypeVar("T")


class GroupCatalogue(Generic[T]):
    """Groups of corpus versions in whatever form their user wants them. Belongs to one event loop at a time.

    Args:
        store: where the corpora are.
        role: which groups.
        arrange: makes that form of a version's groups; runs in a thread, once for a version.
        versions: remembered. They never change, so one is only forgotten to make room.
    """

    def __init__(
        self,
        store: ObjectStore,
        role: GroupRole,
        arrange: Callable[[CorpusLog, Sequence[StoredGroup]], T],
        *,
        versions: int = 8,
    ) -> None:
        self._store = store
        self._role: GroupRole = role
        self._arrange = arrange
        self._most = versions
        self._known: OrderedDict[CorpusVersion, T] = OrderedDict()
        self._described: OrderedDict[CorpusId, dict[str, DocumentGroup]] = OrderedDict()
        self._reading: dict[CorpusVersion, asyncio.Task[T]] = {}

    async def of(self, version: CorpusVersion) -> T:
        """Return a version's groups.

        Raises:
            NotFoundError: the version does not exist.
            ArtifactError: a group's description is missing or damaged.
        """
        if version in self._known:
            self._known.move_to_end(version)
            return self._known[version]
        task = self._reading.get(version)
        if task is None or task.done():  # done: the event loop that it belonged to has ended
            task = self._reading[version] = asyncio.create_task(self._read(version))
            task.add_done_callback(_retrieve)
        # Who gives up waiting does not stop it for the others.
        return await asyncio.shield(task)

    async def _read(self, version: CorpusVersion) -> T:
        try:
            arranged = await asyncio.to_thread(self._read_now, version)
        finally:
            self._reading.pop(version, None)
        self._known[version] = arranged
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        while len(self._described) > self._most:
            self._described.popitem(last=False)
        return arranged

    def _read_now(self, version: CorpusVersion) -> T:
        corpus = version.corpus_id
        log = CorpusLog(self._store, corpus)
        # A new version shares most of its groups with the one before.
        known = self._described.get(corpus, {})
        groups = read_groups(log, log.read(version.version), self._role, known=known)
        self._described[corpus] = {stored.paths[GROUP_FILE]: stored.group for stored in groups}
        return self._arrange(log, groups)


def _retrieve(task: asyncio.Task[T]) -> None:
    # A failure that nobody waits for any more is not worth asyncio's complaint; the next question tries again.
    if not task.cancelled():
        task.exception()


__all__ = ["GroupCatalogue"]
