"""Unit vectors at one byte a number, in a file that is looked into rather than read.

Where an index keeps less of a vector than its similarities need, they are computed from here. What was looked at lately
is in the system's cache of files, which gives way to programs. It does not know what finds the candidates.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError
from lightrag.models.base import FloatMatrix

Codes = NDArray[np.int8]

CODES_FILE: Final = "dense.codes"
"""Their name among the files of an index."""
CODED_ROWS: Final = 32_768
"""Vectors that are coded at a time: 50 MB of them at 384 numbers."""
NOWHERE: Final = np.finfo(np.float32).min
"""Similarity of a row that is missing, as FAISS has it."""
_LARGEST: Final = 127


class VectorCodes:
    """Immutable and safe to share between threads.

    A vector is stored as whole numbers in proportion to it. They need no scale beside them: its length is one.

    Args:
        codes: shape (passages, dimension).
        nbytes: of memory that they hold; 0 where they are a mapped file.
    """

    def __init__(self, codes: Codes, nbytes: int) -> None:
        self._codes = codes
        self.nbytes = nbytes

    @classmethod
    def of(cls, vectors: FloatMatrix) -> Self:
        """Code unit vectors of shape (passages, dimension) into a temporary file without a name.

        Raises:
            OSError: the disk is full.
        """
        with TemporaryFile(prefix="lightrag-codes-") as file:
            for start in range(0, len(vectors), CODED_ROWS):
                file.write(_coded(vectors[start : start + CODED_ROWS]).tobytes())
            file.flush()
            return cls(_mapped(file, *vectors.shape), 0)

    @classmethod
    def load(cls, stored: bytes | Path, passages: int, dimension: int) -> Self:
        """Take codes from a buffer, or map a file, which may be removed afterwards.

        Raises:
            ArtifactError: there are not as many of them.
        """
        size = stored.stat().st_size if isinstance(stored, Path) else len(stored)
        if size != passages * dimension:
            raise ArtifactError(
                f"the index has codes of {size} bytes for {passages} vectors of {dimension} numbers",
                subject=CODES_FILE,
            )
        if isinstance(stored, bytes):
            return cls(np.frombuffer(stored, np.int8).reshape(passages, dimension), size)
        with stored.open("rb") as file:
            return cls(_mapped(file, passages, dimension, mmap.MADV_RANDOM), 0)

    def vectors(self, rows: NDArray[np.int64]) -> FloatMatrix:
        """Unit vectors of some passages, shape (rows, dimension)."""
        found = self._codes[rows].astype(np.float32)
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        return np.divide(found, lengths, out=found, where=lengths > 0)

    def nearest(
        self, questions: FloatMatrix, candidates: NDArray[np.int64], depth: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Similarities and rows of the nearest candidates, each of shape (questions, depth).

        Args:
            questions: unit vectors, shape (questions, dimension).
            candidates: rows of each question, shape (questions, candidates); missing ones are -1, and stay so.
            depth: how many to keep.
        """
        scores = np.full(candidates.shape, NOWHERE, np.float32)
        for question, rows, found in zip(questions, candidates, scores, strict=True):
            known = rows >= 0
            found[known] = self.vectors(rows[known]) @ question
        order = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
        return np.take_along_axis(scores, order, 1), np.take_along_axis(candidates, order, 1)

    def write(self, path: Path) -> None:
        """Write them to a file, without a copy in memory.

        Raises:
            OSError: the disk is full.
        """
        self._codes.tofile(path)

    def tobytes(self) -> bytes:
        """All of them, as a file has them."""
        return self._codes.tobytes()


def _coded(vectors: FloatMatrix) -> Codes:
    vectors = np.asarray(vectors, np.float32)
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    scale = np.divide(_LARGEST, largest, out=np.zeros_like(largest), where=largest > 0)
    codes: Codes = np.rint(vectors * scale).astype(np.int8)
    return codes


def _mapped(file: IO[bytes], passages: int, dimension: int, advice: int = mmap.MADV_NORMAL) -> Codes:
    if not passages * dimension:  # nothing cannot be mapped
        return np.zeros((passages, dimension), np.int8)
    pages: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    pages.madvise(advice)
    return np.frombuffer(pages, np.int8).reshape(passages, dimension)


__all__ = ["CODES_FILE", "NOWHERE", "VectorCodes"]
