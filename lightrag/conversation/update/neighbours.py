"""Which older entries each new entry may update: its nearest ones that were said before it.

Many new entries are compared by one triangular matrix product, a few by searches; both cost what the new entries cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.history import Candidate
from lightrag.conversation.types import MemoryEntry, position
from lightrag.conversation.vectors import StoredVectors
from lightrag.models.base import FloatMatrix

BLOCK = 512
"""Rows of one matrix product: 512 × 10,000 similarities are 20 MB."""


def candidate_queues(
    entries: Sequence[MemoryEntry],
    stored: StoredVectors,
    numbers: Mapping[int, int],
    new: frozenset[int],
    keep: int,
) -> dict[int, list[Candidate]]:
    """Queues of new entries, and of older ones that a late arrival belongs into.

    Args:
        entries: all that hold.
        stored: their vectors, and perhaps others.
        numbers: row number of the entry behind each item number.
        new: row numbers of the entries that are new.
        keep: candidates per entry.

    Returns:
        By row number of the newer entry, its older neighbours, best first. Queues of entries that are not new hold only
        the new candidates.
    """
    ordered = sorted(entries, key=position)
    place = {numbers[item]: row for row, item in enumerate(stored.items.tolist()) if item in numbers}
    seqs = np.array([int(entry.entry_id[1:]) for entry in ordered if int(entry.entry_id[1:]) in place], np.int64)
    if len(seqs) < 2 or keep < 1:
        return {}
    vectors = stored.vectors[[place[seq] for seq in seqs.tolist()]]
    fresh = np.isin(seqs, np.fromiter(new, np.int64, len(new)))
    queues = _queues_of_new(seqs, vectors, np.flatnonzero(fresh), keep)
    for seq, candidates in _late_arrivals(seqs, vectors, fresh, keep).items():
        queues.setdefault(seq, candidates)
    return queues


def _queues_of_new(
    seqs: NDArray[np.int64], vectors: FloatMatrix, rows: NDArray[np.int64], keep: int
) -> dict[int, list[Candidate]]:
    queues: dict[int, list[Candidate]] = {}
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        before = int(block[-1])  # nothing later than the last of the block is needed
        similar = vectors[block] @ vectors[:before].T  # (block, before)
        similar[np.arange(before)[None, :] >= block[:, None]] = -np.inf
        nearest = _top(similar, keep)
        scores = np.take_along_axis(similar, nearest, axis=1)
        for row, columns, values in zip(block.tolist(), nearest.tolist(), scores.tolist(), strict=True):
            found = [Candidate(int(seqs[c]), v) for c, v in zip(columns, values, strict=True) if v > -np.inf]
            queues[int(seqs[row])] = found
    return queues


def _late_arrivals(
    seqs: NDArray[np.int64], vectors: FloatMatrix, fresh: NDArray[np.bool_], keep: int
) -> dict[int, list[Candidate]]:
    """New entries that were said before entries that are there already."""
    known = np.flatnonzero(~fresh)
    late = np.flatnonzero(fresh)
    late = late[late < (known[-1] if len(known) else -1)]
    known = known[known > late[0]] if len(late) else known[:0]
    queues: dict[int, list[Candidate]] = {}
    for start in range(0, len(known), BLOCK):
        block = known[start : start + BLOCK]
        if not len(late):
            break
        similar = vectors[block] @ vectors[late].T  # (block, late)
        similar[late[None, :] >= block[:, None]] = -np.inf
        nearest = _top(similar, keep)
        scores = np.take_along_axis(similar, nearest, axis=1)
        for row, columns, values in zip(block.tolist(), nearest.tolist(), scores.tolist(), strict=True):
            found = [Candidate(int(seqs[late[c]]), v) for c, v in zip(columns, values, strict=True) if v > -np.inf]
            if found:
                queues[int(seqs[row])] = found
    return queues


def _top(similar: NDArray[np.float32], keep: int) -> NDArray[np.int64]:
    """Columns of the ``keep`` highest values of each row, best first."""
    keep = min(keep, similar.shape[1])
    if keep == 0:
        return np.zeros((len(similar), 0), np.int64)
    nearest = np.argpartition(-similar, keep - 1, axis=1)[:, :keep]
    order = np.argsort(-np.take_along_axis(similar, nearest, axis=1), axis=1, kind="stable")
    return np.take_along_axis(nearest, order, axis=1)


__all__ = ["BLOCK", "candidate_queues"]
