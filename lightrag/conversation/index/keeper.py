"""Keeps what is derived from the history up to date with it, user by user, on demand.

Whoever wants to search asks for the view; what changed since the last time is read, embedded and written to the vector
store. So a crash between the history and the index costs time and nothing else, and several replicas follow one
history each with its own index, or share one on a server.
"""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.graph import graph_links
from lightrag.conversation.history import History
from lightrag.conversation.index.fields import payload
from lightrag.conversation.index.known import Known
from lightrag.conversation.index.rows import Row, item_number
from lightrag.conversation.index.terms import KnownTerms
from lightrag.conversation.index.vectorizer import Vectorizer, unit
from lightrag.conversation.index.view import SAMPLED, LexicalWeights, MemoryView
from lightrag.conversation.types import Scope
from lightrag.conversation.vectors import VectorDelta, VectorPoint, VectorStore
from lightrag.models.base import FloatMatrix

CONTEXT = 0.3
"""Part of the vector of the turn before that goes into the vector of a turn: an answer is found by its question."""
KEPT_VIEWS = 256
"""Users whose views stay in memory."""


@dataclass(slots=True)
class _Held:
    """What is held of one user."""

    known: Known
    terms: KnownTerms = field(default_factory=KnownTerms)
    revision: int = 0
    """Of the history, up to which it was read."""
    view: MemoryView | None = None
    """``None`` until the next search where it is of an older revision."""
    indexed: int = -1


class IndexKeeper:
    """Derives and keeps views and vectors. Safe to share between tasks."""

    def __init__(
        self,
        history: History,
        vectorizer: Vectorizer,
        store: VectorStore,
        *,
        turns: bool = True,
        graph: bool = False,
        weights: LexicalWeights | None = None,
        kept_views: int = KEPT_VIEWS,
    ) -> None:
        self._history = history
        self._vectorizer = vectorizer
        self._store = store
        self._turns = turns
        self._graph = graph
        self._weights = weights or LexicalWeights()
        self._kept = kept_views
        self._held: OrderedDict[Scope, _Held] = OrderedDict()
        self._locks: weakref.WeakValueDictionary[tuple[int, Scope], asyncio.Lock] = weakref.WeakValueDictionary()

    async def view(self, scope: Scope, *, vectors: bool = True) -> MemoryView:
        """The user's memory as of now.

        Args:
            scope: whose.
            vectors: also bring the vector store up to date.

        Raises:
            BackendError: the history, the embedder or the vector store failed. What was done stays done.
        """
        async with self._lock(scope):
            held = self._of(scope)
            await asyncio.to_thread(self._read, scope, held)
            view = await asyncio.to_thread(self._lay_out, held)
            if vectors:
                await self._index(scope, held)
            return view

    async def bring_up(self, scope: Scope, *, vectors: bool = True) -> int:
        """Read what is new and index it, but lay nothing out, which only searches need. Costs what is new.

        Returns:
            The revision of the history that was read.

        Raises:
            BackendError: as :meth:`view`.
        """
        async with self._lock(scope):
            held = self._of(scope)
            await asyncio.to_thread(self._read, scope, held)
            if vectors:
                await self._index(scope, held)
            return held.revision

    def forget(self, scope: Scope) -> None:
        """Drop everything derived of a user."""
        self._held.pop(scope, None)
        self._store.drop(scope)

    def _lock(self, scope: Scope) -> asyncio.Lock:
        # A lock belongs to one event loop; the process may have several.
        key = (id(asyncio.get_running_loop()), scope)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    def _of(self, scope: Scope) -> _Held:
        held = self._held.setdefault(scope, _Held(Known(turns=self._turns)))
        self._held.move_to_end(scope)
        while len(self._held) > self._kept:
            self._held.popitem(last=False)
        return held

    def _read(self, scope: Scope, held: _Held) -> None:
        revision = self._history.ledger.revision(scope)
        if revision < held.revision:  # forgotten and begun anew
            held.known, held.revision, held.view, held.indexed = Known(turns=self._turns), 0, None, -1
        if revision == held.revision:
            return
        history = self._history
        held.known.take(history.messages.since(scope, held.revision), history.entries.since(scope, held.revision))
        # Read again by others meanwhile is harmless: what is newer than this revision is read once more next time.
        held.revision, held.view = revision, None

    def _lay_out(self, held: _Held) -> MemoryView:
        if held.view is not None:
            return held.view
        known = held.known
        current = [entry for entry in known.alive() if entry.state == "current"] if self._graph else []
        recent = itertools.islice(reversed(known.messages.values()), SAMPLED)
        view = held.view = MemoryView(
            held.revision,
            tuple(known.rows()),
            tuple(recent)[::-1],
            known.calls.speakers(),
            tuple(graph_links(current)),
            self._weights,
            held.terms,
        )
        return view

    async def _index(self, scope: Scope, held: _Held) -> None:
        if held.indexed >= held.revision:
            return
        mark = await asyncio.to_thread(self._store.watermark, scope)
        if mark < held.revision:
            ids = held.known.changed(mark)
            changed = {item_number(name) for name in ids}
            present = await asyncio.to_thread(self._store.present, scope, sorted(changed))
            rows = await asyncio.to_thread(held.known.rows_around, ids)
            places = {row.item: place for place, row in enumerate(rows) if row.item in changed}
            points = await self._points(rows, sorted(places[item] for item in places.keys() - present))
            kept = {item: payload(rows[places[item]].entry) for item in present if item in places}
            delta = VectorDelta(points, kept, [item for item in present if item not in places])
            await asyncio.to_thread(self._store.apply, scope, delta, held.revision)
        held.indexed = held.revision

    async def _points(self, rows: Sequence[Row], places: Sequence[int]) -> list[VectorPoint]:
        fresh = [rows[place] for place in places]
        before = [_context(rows, place) for place in places]
        texts = [row.text for row in fresh]
        vectors = await self._vectorizer.documents([*texts, *(row.text for row in before if row is not None)])
        mixed = _mix(vectors[: len(fresh)], vectors[len(fresh) :], before)
        return [VectorPoint(row.item, vector, payload(row.entry)) for row, vector in zip(fresh, mixed, strict=True)]


def _context(rows: Sequence[Row], place: int) -> Row | None:
    row = rows[place]
    before = rows[place - 1] if place else None
    usable = before is not None and row.quote and before.quote and before.session == row.session
    return before if usable else None


def _mix(vectors: FloatMatrix, context: FloatMatrix, before: Sequence[Row | None]) -> list[NDArray[np.float32]]:
    mixed = []
    used = iter(context)
    for vector, row in zip(vectors, before, strict=True):
        mixed.append(vector if row is None else unit(vector + CONTEXT * next(used)))
    return mixed


__all__ = ["CONTEXT", "KEPT_VIEWS", "IndexKeeper"]
