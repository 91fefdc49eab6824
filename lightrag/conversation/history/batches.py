"""Extraction batches: work that is queued, claimed by one worker at a time, and finished exactly once.

A claim is a lease: a worker that dies loses it, and what a worker hands in after its lease went to another one is
refused. A batch is finished in the same transaction that stores its entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy import func, insert, select, update

from lightrag.conversation.history import schema
from lightrag.conversation.history.entries import EntryLog, Why
from lightrag.conversation.history.ledger import Ledger
from lightrag.conversation.types import EntryDraft, Scope
from lightrag.errors import ConflictError

_b = schema.batches.c
_s = schema.segments.c
_m = schema.messages.c


class Claim(NamedTuple):
    """The right to finish a batch."""

    batch_id: int
    token: str
    attempts: int


class QueuedBatch(NamedTuple):
    """A batch that is not finished."""

    batch_id: int
    attempts: int
    not_before: float
    error: str


class BatchQueue:
    """The durable queue of extraction work."""

    def __init__(self, ledger: Ledger, entries: EntryLog) -> None:
        self._ledger = ledger
        self._entries = entries

    def form(self, scope: Scope, conversation: str, segment_ids: Sequence[int]) -> bool:
        """Move segments of the short-term buffer into a new batch.

        Returns:
            False, with nothing changed, where another worker has taken some of them already.
        """
        with self._ledger.write(scope) as tx:
            open_ = (_s.scope_id == tx.scope_id) & _s.batch_id.is_(None) & _s.segment_id.in_(list(segment_ids))
            found = tx.connection.execute(select(func.count()).select_from(schema.segments).where(open_)).scalar_one()
            if found != len(segment_ids):
                return False
            values = {"scope_id": tx.scope_id, "conversation": conversation}
            made = tx.connection.execute(insert(schema.batches).values(**values).returning(_b.batch_id))
            tx.connection.execute(update(schema.segments).where(open_).values(batch_id=made.scalar_one()))
        return True

    def queued(self, scope: Scope) -> list[QueuedBatch]:
        """Unfinished batches of a scope in order."""
        where = (_b.scope_id == self._ledger.scope_id(scope)) & _b.done.is_(False)
        with self._ledger.read(str(scope)) as connection:
            rows = connection.execute(select(schema.batches).where(where).order_by(_b.batch_id))
            return [QueuedBatch(row.batch_id, row.attempts, row.not_before, row.error or "") for row in rows]

    def claim(
        self, scope: Scope, now: float, lease_seconds: float, *, ready: float | None, skip: frozenset[int] = frozenset()
    ) -> Claim | None:
        """Take the oldest batch that nobody works on.

        Args:
            scope: whose.
            now: seconds since 1970.
            lease_seconds: how long nobody else may take it.
            ready: only batches that may be tried by then; ``None``: also those that are to rest longer.
            skip: batches that are not wanted.
        """
        where = (_b.scope_id == self._ledger.scope_id(scope)) & _b.done.is_(False) & (_b.claimed_until <= now)
        if ready is not None:
            where &= _b.not_before <= ready
        if skip:
            where &= _b.batch_id.not_in(skip)
        query = select(schema.batches).where(where).order_by(_b.batch_id).limit(1)
        with self._ledger.read(str(scope)) as connection:
            if connection.execute(query).first() is None:
                return None
        with self._ledger.write(scope) as tx:
            row = tx.connection.execute(query).first()
            if row is None:
                return None
            claim = Claim(row.batch_id, uuid4().hex, row.attempts)
            taken = {"claim": claim.token, "claimed_until": now + lease_seconds}
            tx.connection.execute(update(schema.batches).where(_b.batch_id == claim.batch_id).values(**taken))
        return claim

    def give_back(self, scope: Scope, claim: Claim, error: str, not_before: float) -> None:
        """Return a batch to the queue after a failure; it is tried again from ``not_before`` on."""
        with self._ledger.write(scope) as tx:
            mine = (_b.scope_id == tx.scope_id) & (_b.batch_id == claim.batch_id) & (_b.claim == claim.token)
            values = {"claim": None, "claimed_until": 0.0, "attempts": claim.attempts + 1, "not_before": not_before}
            tx.connection.execute(update(schema.batches).where(mine).values(**values, error=error[:2000]))

    def finish(self, scope: Scope, claim: Claim, drafts: Sequence[EntryDraft], now: float) -> tuple[str, ...]:
        """Store the entries of a batch and mark it done, in one transaction.

        Returns:
            Ids of the entries, in the order of the drafts; one that held already is met again, not doubled.

        Raises:
            ConflictError: the lease went to another worker, whose result counts.
        """
        with self._ledger.write(scope) as tx:
            mine = (_b.scope_id == tx.scope_id) & (_b.batch_id == claim.batch_id) & (_b.claim == claim.token)
            done = update(schema.batches).where(mine, _b.done.is_(False))
            values = {"done": True, "claim": None, "error": None}
            if tx.connection.execute(done.values(**values)).rowcount != 1:
                raise ConflictError(
                    f"extraction batch {claim.batch_id} was finished by another worker", subject=str(claim.batch_id)
                )
            why = Why(uuid4().hex, f"extracted from batch {claim.batch_id}", now)
            ids = self._entries.insert(tx, drafts, why)
            inside = select(_s.segment_id).where(_s.scope_id == tx.scope_id, _s.batch_id == claim.batch_id)
            where = (_m.scope_id == tx.scope_id) & _m.segment_id.in_(inside)
            tx.connection.execute(update(schema.messages).where(where).values(extracted=True, revision=tx.revision))
        return ids


__all__ = ["BatchQueue", "Claim", "QueuedBatch"]
