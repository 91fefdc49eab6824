"""One search over one index: several weighted queries, seeds from clues, and one flow along links.

Synchronous and pure: it knows nothing of embedders, storage or budgets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field

import numpy as np

from lightrag.retrieval.columns import Mask
from lightrag.retrieval.fusion import Scores
from lightrag.retrieval.index import CorpusIndex
from lightrag.retrieval.lexical import best
from lightrag.retrieval.matching import Matches, Mode, Query
from lightrag.retrieval.spread import BEHIND, Flow, Gain, Rows, SpreadWeights, spread, strongest_neighbour
from lightrag.types import FoundBy, LinkStep


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search."""

    _: KW_ONLY
    mode: Mode = "hybrid"
    depth: int = 100
    """Candidates taken from each index for each query."""
    mask: Mask | None = None
    """Passages that may be found, shape (passages,)."""
    spread: SpreadWeights | None = field(default_factory=SpreadWeights)
    """``None``: scores do not flow."""
    seeds: Mapping[int, float] = field(default_factory=dict)
    """What clues give to the passages they were read from, on the scale on which the best match has 1. A clue that was
    recalled by following the same links is not counted twice: the larger of both gains holds."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Passages found, best first, with what explains each."""

    rows: Rows
    scores: Scores
    index: CorpusIndex
    matches: tuple[Matches, ...]
    options: SearchOptions
    flow: Flow | None
    own: Mapping[int, float]
    """Score of each passage by itself, before anything flowed."""

    def found_by(self, row: int) -> tuple[FoundBy, ...]:
        """Queries and ways that led to a passage."""
        return (*self._matched(row), *self._gained(row))

    def via(self, row: int) -> tuple[LinkStep, ...]:
        """The link through which a passage was found, if it owes more to links than to itself."""
        gain = self.strongest_gain(row)
        if gain is None or gain.amount <= self.own.get(row, 0.0):
            return ()
        return (LinkStep(self.index.chunks[gain.source].chunk_id, gain.kind, gain.weight, gain.label),)

    def strongest_gain(self, row: int) -> Gain | None:
        """The link that contributed most to a passage, with what it gained in effect."""
        if self.flow is None or self.options.spread is None:
            return None
        reached = self.flow.along_links.get(row)
        linked = reached and reached.strongest._replace(amount=reached.amount)
        rows = np.fromiter(self.own, dtype=np.int64, count=len(self.own))
        scores = np.fromiter(self.own.values(), dtype=np.float32, count=len(self.own))
        neighbour = strongest_neighbour(self.index.links.chain, row, rows, scores, self.options.spread)
        return max(filter(None, (linked, neighbour)), key=lambda gain: gain.amount, default=None)

    def _matched(self, row: int) -> list[FoundBy]:
        found = []
        only = np.array([row])
        for match in self.matches:
            for place in np.flatnonzero(match.dense_rows == row):
                similarity = float(match.similarities(only)[0])
                found.append(FoundBy(match.query.text, "dense", int(place) + 1, similarity))
            for place in np.flatnonzero(match.lexical_rows == row):
                score = float(match.lexical_scores(only)[0])
                found.append(FoundBy(match.query.text, "lexical", int(place) + 1, score))
        return found

    def _gained(self, row: int) -> list[FoundBy]:
        question = self.matches[0].query.text
        rank = int(np.flatnonzero(self.rows == row)[0]) + 1
        found = []
        if row in self.options.seeds:
            found.append(FoundBy(question, "clue", rank, self.options.seeds[row]))
        gain = float(self.flow.total(np.array([row]))[0]) if self.flow else 0.0
        if gain > 0.01:
            found.append(FoundBy(question, "spread", rank, gain))
        return found


def search(index: CorpusIndex, queries: Sequence[Query], options: SearchOptions) -> Ranking:
    """Rank the passages of an index.

    Args:
        index: what to search.
        queries: the question first, then whatever else to search with; weights are relative to the question's.
        options: how.
    """
    matches = tuple(Matches(index, query, options.mode, options.depth, options.mask) for query in queries)
    mentions = index.names.find(queries[0].text) if options.spread else []
    asked = frozenset(row for mention in mentions for row in mention.rows)
    named = _allowed(asked, options.mask)
    own = _OwnScores(matches, named, options)
    rows = _union([*(match.rows for match in matches), named, _allowed(options.seeds, options.mask)])
    scores = own.rescale(rows)
    flow = None
    if options.spread is not None and own.scale > 0:
        flow = spread(index.links, rows, scores, own, options.spread, asked)
        rows = _union([rows, flow.rows(), best(flow.along_chain, options.depth)])
        rows = rows if options.mask is None else rows[options.mask[rows]]
        scores = own(rows)
    totals = scores + _gains(rows, flow, options.seeds, index.telling)
    order = np.lexsort((rows, -totals))
    return Ranking(
        rows[order],
        totals[order],
        index,
        matches,
        options,
        flow,
        own=dict(zip(rows.tolist(), scores.tolist(), strict=True)),
    )


class _OwnScores:
    """What passages score by themselves over all queries, scaled so that the best match has 1.

    Fusion also weighs how much a passage can tell; either index alone is left as it is. With spread, who speaks counts
    too, and what the question names comes up, but not before the best match.
    """

    def __init__(self, matches: Sequence[Matches], named: Rows, options: SearchOptions) -> None:
        weights = options.spread
        self._matches = matches
        self._hybrid = options.mode == "hybrid"
        self._named = named
        self._weights = weights
        self._index = matches[0].index
        self._speaking = self._index.speakers.asked_about(matches[0].query.text) if weights else None
        self.scale = 1.0

    def rescale(self, rows: Rows) -> Scores:
        """Make the best of these passages the measure of all."""
        matched = self._matched(rows)
        self.scale = float(matched.max()) if len(matched) else 0.0
        return self(rows)

    def __call__(self, rows: Rows) -> Scores:
        scores = self._matched(rows) / np.float32(max(self.scale, 1e-9))
        if self._weights is None:
            return scores
        boosted = np.maximum(scores, np.minimum(scores + self._weights.named, BEHIND))
        return np.where(np.isin(rows, self._named), boosted, scores).astype(np.float32)

    def _matched(self, rows: Rows) -> Scores:
        total = np.zeros(len(rows), dtype=np.float32)
        for match in self._matches:
            total += match.query.weight * match.scaled(rows)
        if self._hybrid:
            total *= self._index.telling[rows]
        if self._weights is not None and self._speaking is not None:
            total *= 1 + self._weights.speaker * self._speaking[rows]
        return total


def _gains(rows: Rows, flow: Flow | None, seeds: Mapping[int, float], telling: Scores) -> Scores:
    # What cannot tell anything is no evidence, wherever it stands.
    flowed = flow.total(rows) * telling[rows] if flow else np.zeros(len(rows), dtype=np.float32)
    recalled = np.array([seeds.get(row, 0.0) for row in rows.tolist()], dtype=np.float32)
    return np.where(recalled > 0, np.maximum(flowed, recalled), flowed)


def _allowed(rows: Iterable[int], mask: Mask | None) -> Rows:
    found = np.array(sorted(set(rows)), dtype=np.int64)
    return found if mask is None else found[mask[found]]


def _union(parts: Sequence[Rows]) -> Rows:
    return np.unique(np.concatenate(parts))


__all__ = ["Ranking", "SearchOptions", "search"]
