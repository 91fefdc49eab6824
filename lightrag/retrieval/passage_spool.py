"""Passages with their vectors on disk, taken in any order, read one after the other in the order of an index.

Whoever builds the index of a large corpus holds one shard of passages in memory at a time. It does not know where
passages come from, nor what is made of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lightrag.errors import UsageError
from lightrag.models.base import FloatMatrix
from lightrag.retrieval.passages import decoded, passage_schema
from lightrag.types import Chunk

SHARD_ROWS: Final = 32_768
"""Passages of one shard: some 40 MB of text as rows, three times that as objects."""
_ROW: Final = "row"


class PassageSpool:
    """A place in a folder for a known number of passages. Iterating gives them in order, as often as asked for.

    Args:
        folder: empty, on a disk with room for text and vectors.
        passages: how many there will be.
        dimension: length of a vector.

    Raises:
        OSError: there is no room for the vectors.
    """

    def __init__(self, folder: Path, passages: int, dimension: int) -> None:
        self._folder = folder
        self._writers: dict[int, Any] = {}
        self._placed = np.zeros(passages, bool)
        self.languages: set[str] = set()
        """Of all passages added."""
        self._vectors = _reserved(folder / "vectors.f32", passages, dimension)

    def __len__(self) -> int:
        return len(self._placed)

    @property
    def missing(self) -> int:
        """Passages that were not added yet."""
        return len(self._placed) - int(self._placed.sum())

    @property
    def vectors(self) -> FloatMatrix:
        """Shape (passages, dimension); on disk, so that only what is looked at is in memory."""
        return self._vectors

    def add(self, rows: NDArray[np.int64], chunks: pa.Table, vectors: FloatMatrix) -> None:
        """Put passages into their places.

        Args:
            rows: place of each in the index.
            chunks: fields of :class:`~lightrag.types.Chunk` as columns, metadata as JSON; further columns are ignored.
            vectors: of the same passages, shape (rows, dimension).

        Raises:
            UsageError: a vector is not finite.
            OSError: the disk is full.
        """
        if not np.isfinite(vectors).all():
            raise UsageError("some vectors are not finite: the embedder failed on their texts")
        self._vectors[rows] = vectors
        self._placed[rows] = True
        self.languages.update(pc.unique(chunks["language"]).to_pylist())
        wanted = passage_schema()
        kept = chunks.select(wanted.names).cast(wanted).append_column(_ROW, pa.array(rows, pa.int64()))
        shards = rows // SHARD_ROWS
        for shard in np.unique(shards).tolist():
            self._writer(shard, kept.schema).write_table(kept.filter(pa.array(shards == shard)))

    def tables(self) -> Iterator[pa.Table]:
        """The passages in order, a shard at a time; nothing can be added from then on."""
        for writer in self._writers.values():
            writer.close()
        for shard in sorted(self._writers):
            with pa.memory_map(str(self._path(shard))) as file:
                found = pa.ipc.open_stream(file).read_all()
                yield found.take(pc.sort_indices(found[_ROW])).drop_columns([_ROW])

    def __iter__(self) -> Iterator[Chunk]:
        for table in self.tables():
            yield from decoded(table)

    def _writer(self, shard: int, schema: pa.Schema) -> Any:
        if shard not in self._writers:
            self._writers[shard] = pa.ipc.new_stream(str(self._path(shard)), schema)
        return self._writers[shard]

    def _path(self, shard: int) -> Path:
        return self._folder / f"passages-{shard:06d}.arrow"


def _reserved(path: Path, rows: int, dimension: int) -> FloatMatrix:
    """An array on disk that has its room: writing to a mapped page that finds none would end the process."""
    if not rows:
        return np.zeros((0, dimension), np.float32)
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 4 * rows * dimension)
    return np.memmap(path, np.float32, "r+", shape=(rows, dimension))


__all__ = ["SHARD_ROWS", "PassageSpool"]
