"""From a ranking to what is handed on: no near-duplicates, within a token budget, in the order asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lightrag.retrieval.dedup import DuplicateFilter
from lightrag.types import Chunk


@dataclass(frozen=True, slots=True)
class Selection:
    """Which passages of a ranking are handed on."""

    places: tuple[int, ...]
    """Places in the ranking, in the order asked for."""
    notes: tuple[str, ...] = ()


def select(
    chunks: Sequence[Chunk],
    rows: Sequence[int],
    *,
    top_k: int,
    token_budget: int,
    order: Literal["score", "corpus"] = "score",
) -> Selection:
    """Take passages from the best down while they fit.

    A passage that does not fit any more is passed over, and smaller ones behind it may still be taken: the budget is
    never exceeded and no passage is ever cut.

    Args:
        chunks: passages, best first.
        rows: their places in the corpus.
        top_k: most passages to take.
        token_budget: tokens, as counted by the embedder, that they may have together.
        order: ``score`` best first, ``corpus`` as they stand in the corpus.
    """
    duplicates = DuplicateFilter()
    taken: list[int] = []
    left, repeated = token_budget, 0
    smallest = min((chunk.tokens for chunk in chunks), default=0)
    for place, chunk in enumerate(chunks):
        if len(taken) == top_k or left < smallest:
            break
        if chunk.tokens > left:
            continue
        if not duplicates.is_new(chunk.text):
            repeated += 1
            continue
        taken.append(place)
        left -= chunk.tokens
    notes = []
    if repeated:
        what = "a near-duplicate of a better passage was" if repeated == 1 else f"{repeated} near-duplicates were"
        notes.append(f"{what} left out")
    if chunks and not taken:
        notes.append(
            f"every passage found is longer than the budget of {token_budget} tokens; the shortest has {smallest}"
        )
    if order == "corpus":
        taken.sort(key=lambda place: rows[place])
    return Selection(tuple(taken), tuple(notes))


__all__ = ["Selection", "select"]
