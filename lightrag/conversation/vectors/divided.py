"""Two stores behind one: vectors of summaries lie in a place of their own, and are found together with the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.types import Scope
from lightrag.conversation.vectors.base import Choice, StoredVectors, VectorDelta, VectorHit, VectorStore


class DividedVectorStore:
    """Sends summaries to one store and everything else to another. As safe to share as both are."""

    def __init__(self, entries: VectorStore, summaries: VectorStore) -> None:
        self._entries = entries
        self._summaries = summaries

    def watermark(self, scope: Scope) -> int:
        """See :class:`VectorStore`: what both are complete up to."""
        return min(self._entries.watermark(scope), self._summaries.watermark(scope))

    def apply(self, scope: Scope, delta: VectorDelta, watermark: int) -> None:
        """See :class:`VectorStore`."""
        for store, summaries in ((self._summaries, True), (self._entries, False)):
            points = [point for point in delta.points if (point.payload.get("kind") == "summary") == summaries]
            payloads = {
                item: payload
                for item, payload in delta.payloads.items()
                if (payload.get("kind") == "summary") == summaries
            }
            store.apply(scope, VectorDelta(points, payloads, delta.removed), watermark)

    def search(
        self, scope: Scope, vector: NDArray[np.float32], limit: int, choice: Choice | None = None
    ) -> list[VectorHit]:
        """See :class:`VectorStore`."""
        found = [hit for store in self._both() for hit in store.search(scope, vector, limit, choice)]
        return sorted(found, key=lambda hit: -hit.score)[:limit]

    def present(self, scope: Scope, items: Sequence[int]) -> set[int]:
        """See :class:`VectorStore`."""
        return self._entries.present(scope, items) | self._summaries.present(scope, items)

    def vectors(self, scope: Scope) -> StoredVectors:
        """See :class:`VectorStore`."""
        one, other = (store.vectors(scope) for store in self._both())
        items = np.concatenate([one.items, other.items])
        order = np.argsort(items, kind="stable")
        return StoredVectors(items[order], np.concatenate([one.vectors, other.vectors])[order])

    def count(self, scope: Scope) -> int:
        """See :class:`VectorStore`."""
        return sum(store.count(scope) for store in self._both())

    def drop(self, scope: Scope) -> None:
        """See :class:`VectorStore`."""
        for store in self._both():
            store.drop(scope)

    def close(self) -> None:
        """See :class:`VectorStore`."""
        for store in self._both():
            store.close()

    def _both(self) -> tuple[VectorStore, VectorStore]:
        return self._entries, self._summaries


__all__ = ["DividedVectorStore"]
