"""One query against one index: which passages match, and how much evidence there is for any passage.

It does not know about clues, links or budgets; ``search`` combines queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightrag.retrieval.columns import Mask
from lightrag.retrieval.fusion import UNSPOKEN_QUESTION, Scores, dense_evidence, fuse
from lightrag.retrieval.index import CorpusIndex
from lightrag.retrieval.lexical import best
from lightrag.retrieval.spread import Rows

_FLOOR = 1e-3
"""Evidence in nats for a passage for which there is none."""

Mode = Literal["hybrid", "dense", "lexical"]


@dataclass(frozen=True, slots=True)
class Query:
    """A text to search with."""

    text: str
    vector: NDArray[np.float32] | None
    """Unit vector of shape (dimension,); ``None`` in the mode ``lexical``."""
    weight: float = 1.0
    spoken: bool = True
    """Whether the embedder speaks its language."""


class Matches:
    """What one query finds, and its evidence for any passage."""

    def __init__(self, index: CorpusIndex, query: Query, mode: Mode, depth: int, mask: Mask | None) -> None:
        self.query = query
        self.index = index
        self._lexical = index.lexical.scores(query.text) if mode != "dense" else None
        self._vector = query.vector if mode != "lexical" else None
        nowhere = np.zeros(0, dtype=np.int64)
        self.lexical_rows: Rows = nowhere if self._lexical is None else best(self._lexical, depth, mask)
        """Best first."""
        self.dense_rows: Rows = nowhere
        """Best first."""
        if self._vector is not None:
            rows = index.dense.search(self._vector[None, :], depth, mask).rows[0]
            self.dense_rows = rows[rows >= 0]
            self._background = index.dense.background(self._vector[None, :])[0]
        self.rows: Rows = np.union1d(self.lexical_rows, self.dense_rows)
        """Every passage that either index found."""
        evidence = self.evidence(self.rows)
        self.scale = float(evidence.max()) if len(evidence) else 0.0
        """Evidence for the best passage, in nats."""

    def evidence(self, rows: Rows) -> Scores:
        """Nats of evidence for some passages; what speaks against a passage only brings it close to 0."""
        dense = lexical = np.zeros(len(rows), dtype=np.float32)
        trust: float | Scores = 0.0
        if self._vector is not None:
            dense = dense_evidence(self.similarities(rows), self._background)
            trust = self.index.trust[rows] * (1.0 if self.query.spoken else UNSPOKEN_QUESTION)
        if self._lexical is None:
            return _positive(dense)
        lexical = self._lexical[rows]
        return _positive(fuse(dense, lexical, trust))

    def scaled(self, rows: Rows) -> Scores:
        """Evidence as a part of that for the best passage."""
        return self.evidence(rows) / max(self.scale, 1e-9)

    def similarities(self, rows: Rows) -> Scores:
        """Cosine similarities of some passages."""
        if self._vector is None:
            return np.zeros(len(rows), dtype=np.float32)
        similarities: Scores = self.index.dense.vectors(rows) @ self._vector
        return similarities

    def lexical_scores(self, rows: Rows) -> Scores:
        """BM25 scores of some passages."""
        return np.zeros(len(rows), np.float32) if self._lexical is None else self._lexical[rows]


def _positive(nats: Scores) -> Scores:
    # Negative evidence must not cancel gains, yet passages that have it keep their order behind all others.
    return np.where(nats > 0, nats, 0) + np.float32(_FLOOR) * np.exp(np.minimum(nats, 0))


__all__ = ["Matches", "Mode", "Query"]
