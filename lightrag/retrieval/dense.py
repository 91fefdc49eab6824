"""Nearest neighbours of a question among the passages' vectors, with FAISS.

It does not know what a passage is. A filter is applied inside the search, so it never costs recall.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError
from lightrag.models.base import FloatMatrix
from lightrag.retrieval.columns import Mask
from lightrag.retrieval.dense_kinds import (
    IndexKind,
    build_structure,
    bytes_of,
    choose_kind,
    faiss,
    kind_of,
    search_structure,
)

BACKGROUND_SIZE = 2048
"""Passages whose similarities stand for those of the whole corpus; their spread is then known to 2 %."""


class DenseHits(NamedTuple):
    """What was found for each question, best first."""

    rows: NDArray[np.int64]
    """Shape (questions, depth); -1 where there are fewer passages than asked for."""
    scores: NDArray[np.float32]
    """Cosine similarities, same shape."""


class DenseIndex:
    """Inner products over unit vectors. Immutable and safe to share between threads."""

    def __init__(self, index: Any) -> None:
        self._index = index
        count = min(self.passages, BACKGROUND_SIZE)
        self._sample = self.vectors(np.linspace(0, self.passages - 1, count).round().astype(np.int64))

    @classmethod
    def build(cls, vectors: FloatMatrix, kind: IndexKind | None = None) -> DenseIndex:
        """Index unit vectors of shape (passages, dimension).

        Args:
            vectors: one row per passage.
            kind: structure; ``flat`` is exact. ``None``: by the number of vectors.
        """
        return cls(build_structure(vectors, kind or choose_kind(len(vectors))))

    @property
    def kind(self) -> IndexKind:
        """How it is built."""
        return kind_of(self._index)

    @property
    def passages(self) -> int:
        """Number of vectors."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return int(self._index.d)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held."""
        return bytes_of(self._index) + self._sample.nbytes

    def search(self, questions: FloatMatrix, depth: int, mask: Mask | None = None) -> DenseHits:
        """Find the ``depth`` nearest allowed passages of each question vector."""
        depth = min(depth, self.passages)
        if depth == 0:
            empty = np.zeros((len(questions), 0))
            return DenseHits(empty.astype(np.int64), empty.astype(np.float32))
        scores, rows = search_structure(self._index, questions, depth, mask)
        return DenseHits(rows, scores)

    def background(self, questions: FloatMatrix) -> FloatMatrix:
        """Similarities of each question to passages from all over the corpus, shape (questions, sample)."""
        similarities: FloatMatrix = questions @ self._sample.T
        return similarities

    def vectors(self, rows: NDArray[np.int64]) -> FloatMatrix:
        """Stored vectors of some passages, shape (rows, dimension); of lists, as they were coded."""
        if len(rows) == 0:
            return np.zeros((0, self.dimension), dtype=np.float32)
        found: FloatMatrix = self._index.reconstruct_batch(np.ascontiguousarray(rows, np.int64))
        return found

    def save(self) -> dict[str, bytes]:
        """Return the index as one named buffer in FAISS's own format."""
        return {"dense.faiss": faiss().serialize_index(self._index).tobytes()}

    def write(self, folder: Path) -> None:
        """Write what :meth:`save` returns to a file of that name, without a second copy in memory.

        Raises:
            OSError: the disk is full.
        """
        try:
            faiss().write_index(self._index, str(folder / "dense.faiss"))
        except RuntimeError as error:
            raise OSError(f"the dense index cannot be written: {error}") from error

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> DenseIndex:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: the buffer is damaged.
        """
        try:
            return cls(faiss().deserialize_index(np.frombuffer(files["dense.faiss"], dtype=np.uint8)))
        except RuntimeError as error:
            raise ArtifactError(f"the dense index is damaged: {error}", subject="dense.faiss") from error


__all__ = ["DenseHits", "DenseIndex"]
