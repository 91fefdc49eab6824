"""The KV memories of a corpus version: which there are, which of them bear on a question, and where their files lie.

A corpus larger than the model's window is several memories. A question goes to the few whose routes, vectors of what
they hold, lie nearest to it, so that a question costs the same however large the corpus is. Loads no cells.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError
from lightrag.memory.artifact.loading import read_manifest
from lightrag.memory.artifact.manifest import Manifest
from lightrag.memory.artifact.places import StorePlace
from lightrag.memory.covering import cover
from lightrag.models.base import FloatMatrix
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.groups import DocumentGroup, StoredGroup
from lightrag.storage.objects import ObjectStore
from lightrag.types import CorpusId

_COMPARED = 1024
"""Memories that are compared with each other for a summary; the work grows with the square."""


@dataclass(slots=True, eq=False)
class StoredCorpusMemory:
    """One memory of a corpus version; its manifest is read when it is first asked."""

    group: DocumentGroup
    store: ObjectStore
    paths: Mapping[str, str]
    """Object path of each of its files."""
    _manifest: Manifest | None = None
    _reading: threading.Lock = field(default_factory=threading.Lock)

    @property
    def place(self) -> StorePlace:
        """Where it is loaded from."""
        return StorePlace(self.store, f"memory {self.group.key}", paths=self.paths)

    def manifest(self) -> Manifest:
        """Read what is known of it without its cells; waits for storage the first time.

        Raises:
            ArtifactError: it is damaged or missing.
        """
        with self._reading:
            if self._manifest is None:
                self._manifest = read_manifest(self.place)
            return self._manifest


class VersionMemories:
    """All memories of one corpus version.

    Args:
        corpus: for messages.
        memories: in any order.
    """

    def __init__(self, corpus: CorpusId, memories: Sequence[StoredCorpusMemory]) -> None:
        routed = [memory for memory in memories if len(memory.group.routes)]
        self._corpus = corpus
        self._routed = routed
        self._unrouted = [memory for memory in memories if not len(memory.group.routes)]
        self._routes: FloatMatrix = (
            np.concatenate([memory.group.routes for memory in routed]) if routed else np.zeros((0, 0), np.float32)
        )
        self._starts = np.cumsum([0, *(len(memory.group.routes) for memory in routed)])[:-1]  # (routed,)

    @classmethod
    def read(cls, log: CorpusLog, groups: Sequence[StoredGroup]) -> VersionMemories:
        """Take the memories from a version's groups."""
        return cls(
            log.corpus,
            [
                StoredCorpusMemory(
                    stored.group,
                    log.store,
                    {name: log.layout.file(path) for name, path in stored.paths.items()},
                )
                for stored in groups
            ],
        )

    def __len__(self) -> int:
        return len(self._routed) + len(self._unrouted)

    def nearest(self, question: NDArray[np.float32], limit: int) -> list[StoredCorpusMemory]:
        """The memories nearest to a question by their nearest routes, those without routes last.

        Args:
            question: unit vector, shape (dimension,).
            limit: most memories.

        Raises:
            ArtifactError: the routes are vectors of another embedder.
        """
        if not self._routed:
            return self._unrouted[:limit]
        if self._routes.shape[1] != len(question):
            raise ArtifactError(
                f"the memories of {self._corpus} are routed by vectors of {self._routes.shape[1]} numbers, the "
                f"embedder gives {len(question)}: configure the embedder that the corpus was ingested with",
                subject=str(self._corpus),
            )
        scores = np.maximum.reduceat(self._routes @ question, self._starts)
        order = np.argsort(-scores, kind="stable")[:limit]
        return [*(self._routed[index] for index in order), *self._unrouted][:limit]

    def covering(self, limit: int) -> list[StoredCorpusMemory]:
        """The memories that together stand best for the whole corpus; all of them where they are few enough.

        Of very many, they are chosen from an even sample: keys are hashes, so their order says nothing.
        """
        if len(self) <= limit or not self._routed:
            return [*self._routed, *self._unrouted][:limit]
        count = len(self._routed)
        sample = np.linspace(0, count - 1, min(count, max(_COMPARED, limit))).astype(np.int64)
        means = np.add.reduceat(self._routes, self._starts)[sample]
        means /= np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-12)
        return [*(self._routed[sample[index]] for index in cover(means, limit)), *self._unrouted][:limit]


__all__ = ["StoredCorpusMemory", "VersionMemories"]
