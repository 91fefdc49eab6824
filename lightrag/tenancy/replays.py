"""Answers to writes that carried an idempotency key, so that repeating a write returns the first answer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import sqlalchemy as sa

from lightrag.errors import ConflictError, UsageError
from lightrag.storage.records import Records
from lightrag.tenancy.tables import ReplayRow

KEPT = timedelta(days=1)
STALE = timedelta(minutes=10)
"""A write that has not answered by then was killed; its key may be used again."""


class Replay(NamedTuple):
    """An answer that was given before."""

    status: int
    media_type: str
    body: bytes


class Replays:
    """Claims of idempotency keys and the answers they got."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def claim(self, tenant: str, key: str, fingerprint: str) -> Replay | None:
        """Claim a key for a write; returns the answer where it was written before.

        Raises:
            ConflictError: the same write still runs.
            UsageError: the key was used for another write.
        """
        now = datetime.now(UTC)
        row = ReplayRow(
            tenant=tenant, replay_key=key, fingerprint=fingerprint, created=now, status=None, media_type=None, body=None
        )
        with self._records.session() as session:
            session.execute(sa.delete(ReplayRow).where(ReplayRow.tenant == tenant, ReplayRow.created < now - KEPT))
            found = session.get(ReplayRow, (tenant, key), with_for_update=True)
            if found is None:
                session.add(row)  # where another replica is faster by a moment, the commit conflicts
                return None
            if found.fingerprint != fingerprint:
                message = f"the idempotency key {key!r} was used for another request: use a new one"
                raise UsageError(message, subject="Idempotency-Key")
            if found.status is not None:
                return Replay(found.status, found.media_type or "", found.body or b"")
            if found.created > now - STALE:
                raise ConflictError(f"the request with the idempotency key {key!r} is still running", subject=key)
            found.created = now
        return None

    def answer(self, tenant: str, key: str, replay: Replay) -> None:
        """Keep the answer."""
        mine = sa.and_(ReplayRow.tenant == tenant, ReplayRow.replay_key == key)
        with self._records.session() as session:
            session.execute(sa.update(ReplayRow).where(mine).values(**replay._asdict()))

    def release(self, tenant: str, key: str) -> None:
        """Let the key be used again, after a failure that is worth repeating."""
        with self._records.session() as session:
            session.execute(sa.delete(ReplayRow).where(ReplayRow.tenant == tenant, ReplayRow.replay_key == key))


__all__ = ["Replay", "Replays"]
