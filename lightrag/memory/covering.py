"""Choose a few items that together stand for all of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lightrag.models.base import FloatMatrix


def cover(
    vectors: FloatMatrix,
    limit: int,
    *,
    weights: FloatMatrix | None = None,
    chosen: Sequence[int] = (),
    least_gain: float = 0.0,
) -> list[int]:
    """Choose items by greedy facility location.

    Each step takes the item that most raises the sum, over all items, of the similarity to the nearest chosen one (Lin
    and Bilmes, "A class of submodular functions for document summarization", 2011, section 4). Greedy choice is within
    1 - 1/e of the best set.

    Args:
        vectors: unit rows, shape (items, dimension).
        limit: most items to choose, those in ``chosen`` included.
        weights: multiplies each item's gain, shape (items,).
        chosen: items that are already in.
        least_gain: stop when no item raises the sum by more.

    Returns:
        Indices in the order of choice, starting with ``chosen``.
    """
    similarity = np.clip(vectors @ vectors.T, 0.0, 1.0)
    picked = list(chosen)
    covered = similarity[picked].max(axis=0) if picked else np.zeros(len(vectors), dtype=np.float32)
    while len(picked) < min(limit, len(vectors)):
        gain = np.maximum(similarity - covered, 0.0).sum(axis=1)
        if weights is not None:
            gain = gain * weights
        gain[picked] = -1.0
        best = int(gain.argmax())
        if gain[best] < least_gain:
            break
        picked.append(best)
        covered = np.maximum(covered, similarity[best])
    return picked


__all__ = ["cover"]
