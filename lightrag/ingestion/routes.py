"""A handful of directions in which a group's gists lie, by which questions find the group."""

from __future__ import annotations

from typing import Final

import numpy as np

from lightrag.models.base import Embedder, FloatMatrix

MOST_ROUTES: Final = 16
_ROUNDS: Final = 10


def choose_routes(vectors: FloatMatrix, most: int = MOST_ROUTES) -> FloatMatrix:
    """Stand for unit vectors by at most ``most`` unit vectors: those themselves, or the centres of their clusters.

    Spherical k-means (Dhillon and Modha 2001), begun with vectors that are far from each other, so that equal vectors
    always give equal routes.

    Args:
        vectors: unit rows, shape (vectors, dimension).
        most: routes at most.
    """
    if len(vectors) <= most:
        return vectors
    centres = vectors[_far_apart(vectors, most)]
    nearest = np.full(len(vectors), -1)
    for _ in range(_ROUNDS):
        before, nearest = nearest, np.argmax(vectors @ centres.T, axis=1)
        if np.array_equal(before, nearest):
            break
        for place in range(most):
            total = vectors[nearest == place].sum(axis=0)
            length = np.linalg.norm(total)
            # A cluster that lost its members, or whose members cancel out, stays where it was.
            if length > 1e-6:
                centres[place] = total / length
    return np.asarray(centres, np.float32)


def _far_apart(vectors: FloatMatrix, count: int) -> list[int]:
    chosen = [int(np.argmax(vectors @ vectors.mean(axis=0)))]
    likeness = vectors @ vectors[chosen[0]]
    while len(chosen) < count:
        chosen.append(int(np.argmin(likeness)))
        likeness = np.maximum(likeness, vectors @ vectors[chosen[-1]])
    return chosen


def windows(text: str, embedder: Embedder) -> list[str]:
    """A text in pieces that the embedder reads whole."""
    spans = embedder.tokenizer.spans(text)
    if len(spans) <= embedder.max_tokens:
        return [text]
    step = max(1, embedder.max_tokens // 2)  # Cut text may take more tokens than it took inside.
    return [
        text[spans[start].start : spans[min(start + step, len(spans)) - 1].end] for start in range(0, len(spans), step)
    ]


__all__ = ["MOST_ROUTES", "choose_routes", "windows"]
