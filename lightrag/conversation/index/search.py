"""One question to one user's memory: vectors and words fused, the named speaker preferred, scores spread along links.

Fusion, links and spread are those of document retrieval; what is particular to conversations is here. The weights were
chosen on three LoCoMo and three REALTALK conversations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.index.rows import item_number
from lightrag.conversation.index.view import MemoryView
from lightrag.conversation.types import FoundEntry, Scope
from lightrag.conversation.vectors import Choice, VectorStore
from lightrag.retrieval.columns import Mask
from lightrag.retrieval.filters import FilterNode
from lightrag.retrieval.fusion import Scores, dense_evidence, fuse
from lightrag.retrieval.lexical import best
from lightrag.retrieval.spread import Flow, FlowRule, Rows, SpreadWeights, spread
from lightrag.types import FoundBy, LinkKind, LinkStep

Strategy = Literal["embedding", "context", "hybrid"]

CONVERSATION_RULES: Mapping[LinkKind, FlowRule] = MappingProxyType(
    {"shared_name": FlowRule(0.3), "relation": FlowRule(0.3)}
)
CONVERSATION_SPREAD = SpreadWeights(rules=CONVERSATION_RULES, neighbour=0.15, reach_tokens=120.0, seeds=5)


@dataclass(frozen=True, slots=True)
class SearchWeights:
    """How much each sign counts."""

    dense: float = 0.8
    """Trust in similarities beside BM25; below 1 because turns are short and chatty."""
    speaker: float = 0.6
    """Gain of what the named speaker said, relative to its own score."""
    spread: SpreadWeights | None = field(default_factory=lambda: CONVERSATION_SPREAD)


class MemoryQuery(NamedTuple):
    """A checked question."""

    text: str
    vector: NDArray[np.float32] | None
    """Unit vector; ``None`` for the strategy ``context``."""
    strategy: Strategy
    condition: FilterNode
    excluded: tuple[str, ...] = ()
    """Entry ids that must not be found."""
    depth: int = 200
    """Candidates taken by similarity."""
    lexical_depth: int = 200
    """Candidates taken by BM25."""
    pictured: Mapping[int, float] = {}
    """What images say for rows, in nats."""


class MemorySearch:
    """One search. Synchronous: it waits for the vector store."""

    def __init__(
        self, scope: Scope, view: MemoryView, store: VectorStore, query: MemoryQuery, weights: SearchWeights
    ) -> None:
        self._scope = scope
        self._view = view
        self._store = store
        self._query = query
        self._weights = weights
        self._similar: dict[int, float] = {}
        self._background = np.zeros(0, np.float32)
        self._lexical: Scores | None = None

    def run(self, limit: int) -> list[FoundEntry]:
        """The best entries, best first; of an entry and the message it came from only the better one."""
        view = self._view
        if not len(view):
            return []
        mask = self._mask()
        if not mask.any():
            return []
        rows = self._candidates(mask)
        scores = self._own(rows)
        top = float(scores.max()) if len(scores) else 0.0
        if top <= 0:
            return []
        own = dict(zip(rows.tolist(), (scores / top).tolist(), strict=True))
        flow = self._spread(rows, scores / top, top)
        if flow is not None:
            reached = self._reached(flow, mask, own)
            own.update(zip(reached.tolist(), (self._own(reached) / top).tolist(), strict=True))
        rows = np.fromiter(own, np.int64, len(own))
        totals = np.fromiter(own.values(), np.float32, len(own))
        if flow is not None:
            totals = totals + flow.total(rows) * self._telling(rows)
        order = np.lexsort((rows, -totals))
        return self._collect(rows[order], totals[order], own, flow, limit)

    # --- Candidates ---------------------------------------------------------------------------------------------------

    def _mask(self) -> Mask:
        mask = self._view.columns.evaluate(self._query.condition)
        barred = [self._view.places.get(item_number(entry_id)) for entry_id in self._query.excluded]
        mask = mask.copy()
        mask[[place for place in barred if place is not None]] = False
        return mask

    def _candidates(self, mask: Mask) -> Rows:
        query, view = self._query, self._view
        found: list[int] = []
        if query.strategy != "context" and query.vector is not None:
            excluded = [item_number(entry_id) for entry_id in query.excluded]
            choice = Choice(query.condition, excluded)
            hits = self._store.search(self._scope, query.vector, query.depth, choice)
            self._similar = {view.places[hit.item]: hit.score for hit in hits if hit.item in view.places}
            background = self._store.search(
                self._scope, query.vector, len(view.background), Choice(only=view.background)
            )
            self._background = np.array([hit.score for hit in background], np.float32)
            found += list(self._similar)
        if query.strategy != "embedding":
            self._lexical = view.lexical.scores(view.speakers.without_names(query.text))
            found += best(self._lexical, query.lexical_depth, mask).tolist()
        if query.strategy != "context":
            found += query.pictured
        rows = np.unique(np.array(found, dtype=np.int64))
        return rows[mask[rows]]

    def _own(self, rows: Rows) -> Scores:
        """Evidence of some rows by themselves, at least 0."""
        dense = np.zeros(len(rows), np.float32)
        if self._query.vector is not None and self._query.strategy != "context":
            dense = dense_evidence(self._similarities(rows), self._background)
        if self._lexical is None:
            scores = dense
        elif self._query.strategy == "context":
            scores = self._lexical[rows]
        else:
            scores = fuse(dense, self._lexical[rows], self._weights.dense)
        pictured = np.array([self._query.pictured.get(row, 0.0) for row in rows.tolist()], np.float32)
        return (np.maximum(scores, 0) * self._telling(rows) + pictured) * self._speaker_gain(rows)

    def _telling(self, rows: Rows) -> Scores:
        # Either index alone is left as it is, as for documents.
        return self._view.telling[rows] if self._query.strategy == "hybrid" else np.ones(len(rows), np.float32)

    def _similarities(self, rows: Rows) -> Scores:
        missing = [row for row in rows.tolist() if row not in self._similar]
        if missing and self._query.vector is not None:
            items = {self._view.rows[row].item: row for row in missing}
            hits = self._store.search(self._scope, self._query.vector, len(items), Choice(only=list(items)))
            self._similar.update({items[hit.item]: hit.score for hit in hits})
        return np.array([self._similar.get(row, 0.0) for row in rows.tolist()], np.float32)

    def _speaker_gain(self, rows: Rows) -> Scores:
        who = self._view.speakers.asked_about(self._query.text)
        spoken = [who is not None and self._view.rows[row].entry.speaker == who for row in rows.tolist()]
        return 1 + self._weights.speaker * np.array(spoken, np.float32)

    # --- Links --------------------------------------------------------------------------------------------------------

    def _spread(self, rows: Rows, scores: Scores, top: float) -> Flow | None:
        weights = self._weights.spread
        if weights is None:
            return None
        return spread(self._view.graph, rows, scores, lambda wanted: self._own(wanted) / top, weights)

    def _reached(self, flow: Flow, mask: Mask, own: Mapping[int, float]) -> Rows:
        along = best(flow.along_chain, self._query.depth, mask)
        linked = flow.rows()
        reached = np.unique(np.concatenate([along, linked[mask[linked]]]))
        return reached[[row not in own for row in reached.tolist()]]

    # --- Results ------------------------------------------------------------------------------------------------------

    def _collect(
        self, rows: Rows, totals: Scores, own: Mapping[int, float], flow: Flow | None, limit: int
    ) -> list[FoundEntry]:
        found: list[FoundEntry] = []
        told: dict[str, set[str]] = {"turn": set(), "other": set()}
        for place, (row, score) in enumerate(zip(rows.tolist(), totals.tolist(), strict=True)):
            if len(found) == limit or score <= 0:
                break
            entry = self._view.rows[row].entry
            if entry.kind == "summary":
                found.append(FoundEntry(entry, score, self._reasons(row, place + 1, own), self._via(row, own, flow)))
                continue
            kind, opposite = ("turn", "other") if entry.kind == "turn" else ("other", "turn")
            if entry.sources and set(entry.sources) <= told[opposite]:
                continue
            told[kind].update(entry.sources)
            found.append(FoundEntry(entry, score, self._reasons(row, place + 1, own), self._via(row, own, flow)))
        return found

    def _reasons(self, row: int, rank: int, own: Mapping[int, float]) -> tuple[FoundBy, ...]:
        reasons = []
        if row in self._similar:
            reasons.append(FoundBy(self._query.text, "dense", rank, self._similar[row]))
        if self._lexical is not None and self._lexical[row] > 0:
            reasons.append(FoundBy(self._query.text, "lexical", rank, float(self._lexical[row])))
        if row in self._query.pictured:
            reasons.append(FoundBy(self._query.text, "image", rank, self._query.pictured[row]))
        if own.get(row, 0.0) <= 0:
            reasons.append(FoundBy(self._query.text, "spread", rank, 0.0))
        return tuple(reasons)

    def _via(self, row: int, own: Mapping[int, float], flow: Flow | None) -> tuple[LinkStep, ...]:
        reached = flow.along_links.get(row) if flow is not None else None
        if reached is None or reached.amount <= own.get(row, 0.0):
            return ()
        gain = reached.strongest
        return (LinkStep(self._view.rows[gain.source].entry.entry_id, gain.kind, gain.weight, gain.label),)


__all__ = ["CONVERSATION_RULES", "CONVERSATION_SPREAD", "MemoryQuery", "MemorySearch", "SearchWeights", "Strategy"]
