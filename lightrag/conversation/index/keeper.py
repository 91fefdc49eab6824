"""Keeps what is derived from the history up to date with it, user by user, on demand.

Whoever wants to search asks for the view; what changed since the last time is read, embedded and written to the vector
store. So a crash between the history and the index costs time and nothing else, and several replicas follow one
history each with its own index, or share one on a server.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.graph import graph_links
from lightrag.conversation.history import History
from lightrag.conversation.index.fields import payload
from lightrag.conversation.index.rows import Row, item_number
from lightrag.conversation.index.vectorizer import Vectorizer, unit
from lightrag.conversation.index.view import LexicalWeights, MemoryView, build_view
from lightrag.conversation.types import MemoryEntry, Scope, StoredMessage
from lightrag.conversation.vectors import VectorDelta, VectorPoint, VectorStore
from lightrag.models.base import FloatMatrix

CONTEXT = 0.3
"""Part of the vector of the turn before that goes into the vector of a turn: an answer is found by its question."""
KEPT_VIEWS = 256
"""Users whose views stay in memory."""


@dataclass(slots=True)
class _Known:
    """What has been read of one user's history."""

    messages: dict[str, StoredMessage] = field(default_factory=dict)
    entries: dict[str, MemoryEntry] = field(default_factory=dict)
    view: MemoryView | None = None
    revision: int = 0
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
        self._known: OrderedDict[Scope, _Known] = OrderedDict()
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
            known = self._remembered(scope)
            await asyncio.to_thread(self._read, scope, known)
            if known.view is None:
                raise AssertionError("a read leaves a view")
            if vectors and known.indexed < known.revision:
                await self._index(scope, known, known.view)
            return known.view

    def forget(self, scope: Scope) -> None:
        """Drop everything derived of a user."""
        self._known.pop(scope, None)
        self._store.drop(scope)

    def _lock(self, scope: Scope) -> asyncio.Lock:
        # A lock belongs to one event loop; the process may have several.
        key = (id(asyncio.get_running_loop()), scope)
        lock = self._locks.get(key)
        if lock is None:
            lock = self._locks[key] = asyncio.Lock()
        return lock

    def _remembered(self, scope: Scope) -> _Known:
        known = self._known.setdefault(scope, _Known())
        self._known.move_to_end(scope)
        while len(self._known) > self._kept:
            self._known.popitem(last=False)
        return known

    def _read(self, scope: Scope, known: _Known) -> None:
        revision = self._history.ledger.revision(scope)
        if revision < known.revision:  # forgotten and begun anew
            known.messages.clear()
            known.entries.clear()
            known.view, known.revision, known.indexed = None, 0, -1
        if known.view is not None and revision == known.revision:
            return
        known.messages |= {
            message.message_id: message for message in self._history.messages.since(scope, known.revision)
        }
        known.entries |= {entry.entry_id: entry for entry in self._history.entries.since(scope, known.revision)}
        # Read again by others meanwhile is harmless: what is newer than this revision is read once more next time.
        known.revision = revision
        entries = _alive(known.entries.values())
        links = tuple(graph_links([entry for entry in entries if entry.state == "current"])) if self._graph else ()
        known.view = build_view(
            revision,
            list(known.messages.values()),
            entries,
            turns=self._turns,
            relations=links,
            weights=self._weights,
        )

    async def _index(self, scope: Scope, known: _Known, view: MemoryView) -> None:
        mark = await asyncio.to_thread(self._store.watermark, scope)
        if mark < view.revision:
            changed = _changed(known, mark)
            present = await asyncio.to_thread(self._store.present, scope, sorted(changed))
            fresh = [place for item, place in view.places.items() if item in changed and item not in present]
            fresh.sort()
            points = await self._points(view, fresh)
            kept = {item: payload(view.rows[view.places[item]].entry) for item in present if item in view.places}
            delta = VectorDelta(points, kept, [item for item in present if item not in view.places])
            await asyncio.to_thread(self._store.apply, scope, delta, view.revision)
        known.indexed = view.revision

    async def _points(self, view: MemoryView, places: Sequence[int]) -> list[VectorPoint]:
        rows = [view.rows[place] for place in places]
        before = [_context(view, place) for place in places]
        texts = [row.text for row in rows]
        vectors = await self._vectorizer.documents([*texts, *(row.text for row in before if row is not None)])
        mixed = _mix(vectors[: len(rows)], vectors[len(rows) :], before)
        return [VectorPoint(row.item, vector, payload(row.entry)) for row, vector in zip(rows, mixed, strict=True)]


def _alive(entries: Iterable[MemoryEntry]) -> list[MemoryEntry]:
    return [entry for entry in entries if entry.state != "deleted"]


def _changed(known: _Known, mark: int) -> set[int]:
    """Items that may have come, gone or changed after a revision."""
    ids = {message.message_id for message in known.messages.values() if message.revision > mark}
    for entry in known.entries.values():
        if entry.revision > mark:
            ids.add(entry.entry_id)
            # A quote takes its messages' place, and gives it back when it is deleted.
            ids.update(entry.sources)
    return {item_number(item_id) for item_id in ids}


def _context(view: MemoryView, place: int) -> Row | None:
    row = view.rows[place]
    before = view.rows[place - 1] if place else None
    usable = before is not None and row.quote and before.quote and before.session == row.session
    return before if usable else None


def _mix(vectors: FloatMatrix, context: FloatMatrix, before: Sequence[Row | None]) -> list[NDArray[np.float32]]:
    mixed = []
    used = iter(context)
    for vector, row in zip(vectors, before, strict=True):
        mixed.append(vector if row is None else unit(vector + CONTEXT * next(used)))
    return mixed


__all__ = ["CONTEXT", "KEPT_VIEWS", "IndexKeeper"]
