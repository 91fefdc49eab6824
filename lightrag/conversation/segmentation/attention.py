"""Topic boundaries from a compressor's attention, joined with similarity (LightMem, section 3.2).

Attention between what the user says in one turn and in the turns before shows where a sentence looks back least far;
local maxima of attention to the direct predecessor propose boundaries, similarity confirms them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.segmentation.base import Segmenter, Turn
from lightrag.errors import ConfigurationError, LimitError
from lightrag.lexical import LLMLingua2

EDGE = 3
"""Tokens at both ends of the sequence that soak up attention whatever they say, and are left out."""
TOLERANCE = 3
"""Turns by which the two kinds of boundaries may differ and still mean the same one."""


class AttentionSegmenter:
    """Boundaries on which similarity and attention agree; similarity decides alone where attention proposes none."""

    def __init__(self, scorer: LLMLingua2, similarity: Segmenter, layers: Sequence[int]) -> None:
        self._scorer = scorer
        self._similarity = similarity
        self._layers = tuple(layers)

    async def boundaries(self, turns: Sequence[Turn]) -> list[int]:
        """See :class:`Segmenter`."""
        similar = await self._similarity.boundaries(turns)
        opening = [turn.opening or turn.text for turn in turns]
        try:
            attended = await asyncio.to_thread(self._propose, opening)
        except LimitError:
            # More than the model reads at once: there is no attention between its ends.
            return similar
        return agree(similar, attended)

    def _propose(self, texts: Sequence[str]) -> list[int]:
        try:
            reading = self._scorer.read_together(texts, self._layers)
        except IndexError as error:
            raise ConfigurationError(
                f"topic_segmenter.configs.layers {self._layers} are not all layers of this model: choose lower ones",
                subject="layers",
            ) from error
        return peaks(between_turns(reading.attention, reading.ranges))


def between_turns(attention: NDArray[np.float32], ranges: Sequence[tuple[int, int]]) -> NDArray[np.float64]:
    """How much each turn attends to each earlier one, as a share of what it gives to earlier turns.

    Args:
        attention: mean over layers and heads, shape (sequence, sequence).
        ranges: rows of each turn.

    Returns:
        Lower triangle, shape (turns, turns); rows sum to 1 or are zero.
    """
    length = len(attention)
    valid = np.ones(length, dtype=bool)
    if length >= 2 * EDGE:
        valid[:EDGE] = valid[-EDGE:] = False
    rows = [np.flatnonzero(valid[start:end]) + start for start, end in ranges]
    matrix = np.zeros((len(ranges), len(ranges)))
    for later in range(1, len(ranges)):
        for earlier in range(later):
            if len(rows[later]) and len(rows[earlier]):
                given = attention[np.ix_(rows[later], rows[earlier])]
                matrix[later, earlier] = float(given.sum(axis=1).mean())
    totals = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)


def peaks(matrix: NDArray[np.float64]) -> list[int]:
    """Turns that begin a new topic: local maxima of the attention to the direct predecessor."""
    direct = [float(matrix[turn + 1, turn]) for turn in range(len(matrix) - 1)]
    inner = range(1, len(direct) - 1)
    return [place for place in inner if direct[place - 1] < direct[place] > direct[place + 1]]


def agree(similar: Sequence[int], attended: Sequence[int]) -> list[int]:
    """Similarity's boundaries that attention confirms within :data:`TOLERANCE` turns; all if it confirms none."""
    confirmed = [place for place in similar if any(abs(place - other) <= TOLERANCE for other in attended)]
    return confirmed or list(similar)


__all__ = ["EDGE", "TOLERANCE", "AttentionSegmenter", "agree", "between_turns", "peaks"]
