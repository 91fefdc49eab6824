"""Which passages hold each term and how often, collected shard by shard, merged, and weighed by BM25.

It does not know what a term is: terms are numbers here. A shard may wait in a file, so that whoever merges holds the
result and one shard.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightrag.retrieval.analysis import STOPPED

SHARD_TERMS: Final = 3_000_000
"""Occurrences of terms after which a shard is closed: about 40,000 passages, and 200 MB while they are sorted."""
_BLOCK: Final = 1 << 22
"""Postings that are weighed at a time."""


@dataclass(frozen=True, slots=True)
class Postings:
    """For each term the passages that hold it, row-compressed."""

    offsets: NDArray[np.int64]
    """Shape (terms + 1,)."""
    rows: NDArray[np.int32]
    weights: NDArray[np.float32]
    """BM25 weight of the term in the passage."""


class _Shard(NamedTuple):
    """Postings of consecutive passages, by term and then by row."""

    terms: NDArray[np.int32]
    """Distinct, ascending."""
    counts: NDArray[np.int32]
    """Passages of each."""
    rows: NDArray[np.int32]
    occurrences: NDArray[np.int32]
    """How often the term is in the passage."""


class PostingsCollector:
    """Takes passages one after the other and makes their postings.

    Args:
        folder: where full shards wait; ``None``: in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._shards: list[_Shard | Path] = []
        self._lengths = array("i")
        """Terms of each passage, stop words left out; filled up when a shard is closed."""
        self._terms = array("i")
        self._sizes = array("i")
        """Numbers of each open passage in ``_terms``."""

    def add(self, terms: Sequence[int]) -> None:
        """Add the next passage: the numbers of its terms in order, ``STOPPED`` among them."""
        self._terms.extend(terms)
        self._sizes.append(len(terms))
        if len(self._terms) >= SHARD_TERMS:
            self._close()

    def weigh(self, vocabulary: int, k1: float, b: float) -> Postings:
        """Merge all shards and weigh what they hold; the collector is used up.

        The weights are those of Lucene's BM25: the odds of the term, times its saturated frequency (Kamphuis et al.
        2020, "Which BM25 do you mean?").

        Args:
            vocabulary: number of terms.
            k1: saturation.
            b: how far lengths are normalised.
        """
        self._close()
        frequency = np.zeros(vocabulary, np.int64)
        for shard in self._loaded():
            frequency[shard.terms] += shard.counts
        offsets = np.concatenate([[0], np.cumsum(frequency)]).astype(np.int64)
        rows, weights = np.empty(offsets[-1], np.int32), np.empty(offsets[-1], np.float32)
        free = offsets[:-1].copy()
        for shard in self._loaded():
            places = _runs(free[shard.terms], shard.counts)
            rows[places], weights[places] = shard.rows, shard.occurrences
            free[shard.terms] += shard.counts
        self._shards.clear()
        lengths = np.frombuffer(self._lengths, np.int32) if self._lengths else np.zeros(0, np.int32)
        _saturate(offsets, rows, weights, lengths, k1, b)
        return Postings(offsets, rows, weights)

    def _close(self) -> None:
        sizes = np.array(self._sizes, np.int32)
        terms = np.array(self._terms, np.int32)
        passages = np.repeat(np.arange(len(sizes), dtype=np.int64), sizes)
        told = terms != STOPPED
        terms, passages = terms[told], passages[told]
        first = len(self._lengths)
        self._lengths.frombytes(np.bincount(passages, minlength=len(sizes)).astype(np.int32).tobytes())
        keys, occurrences = np.unique(terms.astype(np.int64) * max(len(sizes), 1) + passages, return_counts=True)
        of_term = (keys // max(len(sizes), 1)).astype(np.int32)
        distinct, counts = np.unique(of_term, return_counts=True)
        rows = (first + keys % max(len(sizes), 1)).astype(np.int32)
        self._keep(_Shard(distinct, counts.astype(np.int32), rows, occurrences.astype(np.int32)))
        self._terms, self._sizes = array("i"), array("i")

    def _keep(self, shard: _Shard) -> None:
        if self._folder is None:
            self._shards.append(shard)
            return
        path = self._folder / f"postings-{len(self._shards):05d}.npz"
        np.savez(path, **shard._asdict())
        self._shards.append(path)

    def _loaded(self) -> Iterator[_Shard]:
        for shard in self._shards:
            if isinstance(shard, Path):
                with np.load(shard, allow_pickle=False) as arrays:
                    yield _Shard(**arrays)
            else:
                yield shard


def _runs(starts: NDArray[np.int64], counts: NDArray[np.int32]) -> NDArray[np.int64]:
    """``counts`` consecutive numbers from each start on, one run after the other."""
    before = np.cumsum(counts, dtype=np.int64) - counts
    return np.arange(int(counts.sum()), dtype=np.int64) + np.repeat(starts - before, counts)


def _saturate(
    offsets: NDArray[np.int64],
    rows: NDArray[np.int32],
    weights: NDArray[np.float32],
    lengths: NDArray[np.int32],
    k1: float,
    b: float,
) -> None:
    """Turn occurrences into weights, in place and block by block."""
    frequency = np.diff(offsets)
    odds = np.log1p((len(lengths) - frequency + 0.5) / (frequency + 0.5))
    damping = k1 * (1 - b + b * lengths / max(float(lengths.mean()) if len(lengths) else 0.0, 1e-9))
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        occurrences = weights[block].astype(np.float64)
        term = np.searchsorted(offsets, np.arange(start, start + len(occurrences)), side="right") - 1
        weights[block] = odds[term] * occurrences / (damping[rows[block]] + occurrences)


__all__ = ["SHARD_TERMS", "Postings", "PostingsCollector"]
