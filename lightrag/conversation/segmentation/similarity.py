"""Topic boundaries from embeddings alone: the cut that leaves each segment as much about one thing as possible.

A segment of turns with unit vectors ``x`` costs ``n - |sum x|² / n``, the scatter around its mean; every further
segment costs a fixed amount, and dynamic programming finds the best cut (kernel change-point detection with the cosine
kernel, Arlot, Celisse and Harchaoui 2019). Unlike a threshold on neighbouring turns it looks at whole segments, so one
odd turn makes no topic, and it needs no window.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.index.vectorizer import Vectorizer
from lightrag.conversation.segmentation.base import Turn
from lightrag.models.base import FloatMatrix
from lightrag.retrieval.turns import is_question

PENALTY = 0.45
"""Cost of a segment per log of the number of turns. Chosen on half of TIAGE and of QMSum."""
OPENING = 0.2
"""What a turn that sounds like a beginning gets off the cost of a segment."""
FULL_WORDS = 3.5
"""Words from which a turn counts in full; shorter ones ("yeah") are about nothing and count by the log of theirs."""
MAX_TURNS = 2000
"""More turns at once are cut in overlapping parts: the search is quadratic."""

_CUE = re.compile(
    r"^\W*(?:(?:um+|uh+|so|ok|okay|alright|all right|right|well|now|and|yeah)\W+)*"
    r"(?:so|okay|alright|anyways?|next|moving on|let'?s|let us|by the way|speaking of|the (?:next|last|second|third)|"
    r"any other|what about|how about|we will now|thank you very much|on another note)\b",
    re.IGNORECASE,
)


class SimilaritySegmenter:
    """Cuts where it pays off. Needs no model but the embedder."""

    def __init__(self, vectorizer: Vectorizer, penalty: float = PENALTY) -> None:
        self._vectorizer = vectorizer
        self._penalty = penalty

    async def boundaries(self, turns: Sequence[Turn]) -> list[int]:
        """See :class:`Segmenter`."""
        if len(turns) < 2:
            return []
        vectors = await self._vectorizer.documents([turn.text or " " for turn in turns])
        words = np.array([len(turn.text.split()) for turn in turns], dtype=np.float32)
        vectors *= np.minimum(1, np.log1p(words) / np.log1p(FULL_WORDS))[:, None]
        return best_cut(vectors, self._penalty * float(np.log(max(len(turns), 3))), openings(turns))


def openings(turns: Sequence[Turn]) -> NDArray[np.float64]:
    """What each turn's way of beginning is worth, shape (turns,)."""
    asks = [is_question(turn.opening) or "?" in turn.opening for turn in turns]
    fresh = [ask and not (place and asks[place - 1]) for place, ask in enumerate(asks)]
    cued = [_CUE.match(turn.text) is not None for turn in turns]
    return OPENING * (np.array(fresh, float) + np.array(cued, float))


def best_cut(vectors: FloatMatrix, penalty: float, bonus: NDArray[np.float64]) -> list[int]:
    """The starts of all segments but the first, in the cheapest cut.

    Args:
        vectors: one per turn, at most of unit length, shape (turns, dimension).
        penalty: cost of a segment.
        bonus: taken off the cost of a segment that begins with each turn, shape (turns,).
    """
    turns = len(vectors)
    sums = np.concatenate([np.zeros((1, vectors.shape[1])), np.cumsum(vectors, axis=0, dtype=np.float64)])
    norms = np.concatenate([[0.0], np.cumsum((vectors.astype(np.float64) ** 2).sum(axis=1))])
    cost = np.full(turns + 1, np.inf)
    cost[0] = -penalty
    begin = np.zeros(turns + 1, dtype=np.int64)
    for end in range(1, turns + 1):
        first = max(0, end - MAX_TURNS)
        starts = np.arange(first, end)
        inner = sums[end] - sums[starts]
        scatter = norms[end] - norms[starts] - (inner * inner).sum(axis=1) / (end - starts)
        total = cost[starts] + scatter + penalty - np.where(starts > 0, bonus[starts], 0.0)
        chosen = int(np.argmin(total))
        cost[end], begin[end] = total[chosen], starts[chosen]
    found: list[int] = []
    end = turns
    while end > 0:
        end = int(begin[end])
        if end > 0:
            found.append(end)
    return found[::-1]


__all__ = ["FULL_WORDS", "MAX_TURNS", "OPENING", "PENALTY", "SimilaritySegmenter", "best_cut", "openings"]
