"""What a vector store of conversation memory does, in process or on a server.

A store is a derived thing: it can be dropped and filled again from the history. For every scope it remembers up to
which revision of which history it is complete, so that whoever opens it knows what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.types import Scope
from lightrag.models.base import FloatMatrix
from lightrag.retrieval.filters import FilterNode

PayloadValue = str | int | float | bool | list[str]

INTEGER_FIELDS = ("time", "valid_from", "valid_to", "topic")
KEYWORD_FIELDS = (
    "speaker", "speaker_id", "category", "entity", "keyword", "tag", "kind", "state", "conversation", "weekday",
)  # fmt: skip
FLOAT_FIELDS = ("importance",)


class VectorPoint(NamedTuple):
    """A vector with what it can be filtered by."""

    item: int
    """Number of the item, see :func:`lightrag.conversation.items.item_number`."""
    vector: NDArray[np.float32]
    """Unit vector, shape (dimension,)."""
    payload: Mapping[str, PayloadValue]


class VectorDelta(NamedTuple):
    """What changed since a watermark."""

    points: Sequence[VectorPoint] = ()
    """New items, or items with new vectors."""
    payloads: Mapping[int, Mapping[str, PayloadValue]] = {}
    """Items whose vector stays and whose payload is replaced; items that are not there are passed over."""
    removed: Sequence[int] = ()


class Choice(NamedTuple):
    """Which items of a scope a search may find."""

    condition: FilterNode | None = None
    excluded: Sequence[int] = ()
    only: Sequence[int] | None = None
    """These items at most; ``None``: any."""


class VectorHit(NamedTuple):
    """An item near the query."""

    item: int
    score: float
    """Cosine similarity."""


class StoredVectors(NamedTuple):
    """All vectors of a scope."""

    items: NDArray[np.int64]
    """Shape (items,), ascending."""
    vectors: FloatMatrix
    """Shape (items, dimension)."""


class Origin(NamedTuple):
    """What a store was derived from; another origin makes its content worthless."""

    history: str
    """``store_id`` of the history."""
    embedder: str
    """Fingerprint of the embedder."""
    dimension: int


class VectorStore(Protocol):
    """Vectors of many scopes, strictly apart. Blocking; safe to use from several threads."""

    def watermark(self, scope: Scope) -> int:
        """The history revision up to which the scope is complete; 0 where nothing usable is stored."""
        ...

    def apply(self, scope: Scope, delta: VectorDelta, watermark: int) -> None:
        """Write a difference, then raise the watermark. Repeating it changes nothing.

        Raises:
            BackendError: the store failed; the watermark is as before.
        """
        ...

    def search(
        self, scope: Scope, vector: NDArray[np.float32], limit: int, choice: Choice | None = None
    ) -> list[VectorHit]:
        """The nearest of the chosen items of the scope, best first.

        Raises:
            UsageError: the condition cannot be asked of vectors.
            BackendError: the store failed.
        """
        ...

    def vectors(self, scope: Scope) -> StoredVectors:
        """Every vector of a scope."""
        ...

    def present(self, scope: Scope, items: Sequence[int]) -> set[int]:
        """Which of some items have a vector."""
        ...

    def count(self, scope: Scope) -> int:
        """Number of items of a scope."""
        ...

    def drop(self, scope: Scope) -> None:
        """Remove everything of a scope."""
        ...

    def close(self) -> None:
        """Write what is pending and let go of files and connections."""
        ...


__all__ = [
    "FLOAT_FIELDS",
    "INTEGER_FIELDS",
    "KEYWORD_FIELDS",
    "Choice",
    "Origin",
    "PayloadValue",
    "StoredVectors",
    "VectorDelta",
    "VectorHit",
    "VectorPoint",
    "VectorStore",
]
