"""Nearest neighbours of a question among the passages' vectors, with FAISS.

It does not know what a passage is. A filter is applied inside the search, so it never costs recall.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError
from lightrag.models.base import FloatMatrix
from lightrag.retrieval.columns import Mask
from lightrag.retrieval.dense_kinds import (
    CANDIDATES,
    LEAST_CANDIDATES,
    IndexKind,
    build_structure,
    bytes_of,
    choose_kind,
    faiss,
    kind_of,
    search_structure,
)
from lightrag.retrieval.vector_codes import CODES_FILE, VectorCodes

BACKGROUND_SIZE = 2048
"""Passages whose similarities stand for those of the whole corpus; their spread is then known to 2 %."""

_FILE: Final = "dense.faiss"


class DenseHits(NamedTuple):
    """What was found for each question, best first."""

    rows: NDArray[np.int64]
    """Shape (questions, depth); -1 where there are fewer passages than asked for."""
    scores: NDArray[np.float32]
    """Cosine similarities, same shape."""


class DenseIndex:
    """Inner products over unit vectors. Immutable and safe to share between threads.

    Args:
        index: FAISS's structure.
        codes: the vectors beside it, which similarities are computed from; only of the kind ``ivfpq``.
    """

    def __init__(self, index: Any, codes: VectorCodes | None = None) -> None:
        self._index = index
        self._codes = codes
        count = min(self.passages, BACKGROUND_SIZE)
        self._sample = self.vectors(np.linspace(0, self.passages - 1, count).round().astype(np.int64))

    @classmethod
    def build(cls, vectors: FloatMatrix, kind: IndexKind | None = None) -> DenseIndex:
        """Index unit vectors of shape (passages, dimension).

        Args:
            vectors: one row per passage.
            kind: structure; ``flat`` is exact. ``None``: by the number of vectors.

        Raises:
            OSError: the folder for temporary files is full; only of the kind ``ivfpq``.
        """
        index = build_structure(vectors, kind or choose_kind(len(vectors)))
        return cls(index, VectorCodes.of(vectors) if kind_of(index) == "ivfpq" else None)

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
        """Bytes of memory held; a mapped file is none of it."""
        return bytes_of(self._index) + self._sample.nbytes + (self._codes.nbytes if self._codes else 0)

    def search(self, questions: FloatMatrix, depth: int, mask: Mask | None = None) -> DenseHits:
        """Find the ``depth`` nearest allowed passages of each question vector."""
        depth = min(depth, self.passages)
        if depth == 0:
            empty = np.zeros((len(questions), 0))
            return DenseHits(empty.astype(np.int64), empty.astype(np.float32))
        if self._codes is None:
            scores, rows = search_structure(self._index, questions, depth, mask)
        else:
            candidates = min(max(LEAST_CANDIDATES, CANDIDATES * depth), self.passages)
            _, rows = search_structure(self._index, questions, candidates, mask)
            scores, rows = self._codes.nearest(questions, rows, depth)
        return DenseHits(rows, scores)

    def background(self, questions: FloatMatrix) -> FloatMatrix:
        """Similarities of each question to passages from all over the corpus, shape (questions, sample)."""
        similarities: FloatMatrix = questions @ self._sample.T
        return similarities

    def vectors(self, rows: NDArray[np.int64]) -> FloatMatrix:
        """Stored vectors of some passages, shape (rows, dimension); of lists, as they were coded."""
        if len(rows) == 0:
            return np.zeros((0, self.dimension), dtype=np.float32)
        if self._codes is not None:
            return self._codes.vectors(rows)
        found: FloatMatrix = self._index.reconstruct_batch(np.ascontiguousarray(rows, np.int64))
        return found

    def save(self) -> dict[str, bytes]:
        """Return the index as named buffers: the structure in FAISS's own format, and the codes where it has them."""
        files = {_FILE: faiss().serialize_index(self._index).tobytes()}
        if self._codes is not None:
            files[CODES_FILE] = self._codes.tobytes()
        return files

    def write(self, folder: Path) -> list[Path]:
        """Write what :meth:`save` returns to files of those names, without a second copy in memory.

        Raises:
            OSError: the disk is full.
        """
        written = [folder / _FILE]
        try:
            faiss().write_index(self._index, str(written[0]))
        except RuntimeError as error:
            raise OSError(f"the dense index cannot be written: {error}") from error
        if self._codes is not None:
            written.append(folder / CODES_FILE)
            self._codes.write(written[1])
        return written

    @classmethod
    def load(cls, files: Mapping[str, bytes], codes: Path | None = None) -> DenseIndex:
        """Read what :meth:`save` wrote.

        Args:
            files: by name.
            codes: a file to map in place of the buffer ``dense.codes``; it may be removed afterwards.

        Raises:
            KeyError: a buffer is missing.
            ArtifactError: one is damaged.
        """
        try:
            index = faiss().deserialize_index(np.frombuffer(files[_FILE], dtype=np.uint8))
        except RuntimeError as error:
            raise ArtifactError(f"the dense index is damaged: {error}", subject=_FILE) from error
        if kind_of(index) != "ivfpq":
            return cls(index)
        return cls(index, VectorCodes.load(codes or files[CODES_FILE], int(index.ntotal), int(index.d)))


__all__ = ["DenseHits", "DenseIndex"]
