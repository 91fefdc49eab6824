"""A second look at the best candidates by a model that reads question and passage together.

The models live in ``lightrag.models``; none is bundled.
"""

from __future__ import annotations

from typing import NamedTuple

from lightrag.models.cross_encoder import Reranker
from lightrag.retrieval.index import search_text
from lightrag.retrieval.search import Ranking

LEAST_READ = 50
"""Candidates that are read again, at least; twice the wanted number where that is more."""


class Ordered(NamedTuple):
    """Passages in their final order, best first."""

    rows: list[int]
    scores: list[float]


def as_ranked(ranking: Ranking) -> Ordered:
    """The order of the search itself."""
    return Ordered(ranking.rows.tolist(), ranking.scores.tolist())


async def reranked(reranker: Reranker, question: str, ranking: Ranking, wanted: int) -> Ordered:
    """Order the best candidates by the reranker's scores.

    Those behind them, which it did not read, follow in their old order with scores below its lowest.

    Raises:
        BackendError: the model failed.
    """
    before = as_ranked(ranking)
    count = min(max(LEAST_READ, 2 * wanted), len(before.rows))
    if not count:
        return before
    read = await reranker.score(question, [search_text(ranking.index.chunks[row]) for row in before.rows[:count]])
    order = sorted(range(count), key=lambda place: -read[place])
    below = [min(read) - 1 - place for place in range(len(before.rows) - count)]
    return Ordered(
        [before.rows[place] for place in order] + before.rows[count:], [read[place] for place in order] + below
    )


__all__ = ["LEAST_READ", "Ordered", "Reranker", "as_ranked", "reranked"]
