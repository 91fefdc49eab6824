"""Rates that hold across replicas, with no trip to the database for most requests.

Every replica takes small leases from a tenant's bucket in the records and spends them in memory. What is leased has
left the bucket, so all replicas together never pass more than it held; what is not spent when a lease ends goes back.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy.orm import Session

from lightrag.errors import ConflictError, QuotaExceeded
from lightrag.storage.records import Records
from lightrag.tenancy.bucket import Bucket, Rate
from lightrag.tenancy.tables import BucketRow


class Leased(NamedTuple):
    """What a replica got."""

    units: int
    wait: float
    """Seconds until the bucket has one more, where there was none."""


class SharedBuckets:
    """Buckets in the records."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def lease(self, tenant: str, rate: Rate, wanted: int, unused: int = 0) -> Leased:
        """Give back what an earlier lease left, and take up to ``wanted``."""
        try:
            return self._lease(tenant, rate, wanted, unused)
        except ConflictError:  # another replica made the row in the same moment; now it is there
            return self._lease(tenant, rate, wanted, unused)

    def _lease(self, tenant: str, rate: Rate, wanted: int, unused: int) -> Leased:
        with self._records.session() as session:
            row = session.get(BucketRow, tenant, with_for_update=True)
            now = _clock(session)
            bucket = rate.full(now) if row is None else Bucket(row.level, row.moment)
            bucket, taken = rate.take(rate.give_back(bucket, unused, now), wanted, now)
            if row is None:
                session.add(BucketRow(tenant=tenant, level=bucket.level, moment=bucket.moment))
            else:
                row.level, row.moment = bucket.level, bucket.moment
        return Leased(taken, 0.0 if taken else rate.seconds_until(bucket))


def _clock(session: Session) -> float:
    """The one clock that all replicas share; a SQLite file is on one machine, whose clock they have anyway."""
    if session.get_bind().dialect.name == "postgresql":
        return float(session.execute(sa.text("select extract(epoch from clock_timestamp())")).scalar_one())
    return time.time()


@dataclass(slots=True)
class _Local:
    rate: Rate
    units: int = 0
    ends: float = 0.0
    empty_until: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class RateLimiter:
    """Spends leases.

    Args:
        buckets: what they are taken from.
        lease_seconds: how long a lease may be spent, and how many seconds' worth it is.
    """

    def __init__(self, buckets: SharedBuckets, *, lease_seconds: float) -> None:
        self._buckets = buckets
        self._lease_seconds = lease_seconds
        self._local: dict[str, _Local] = {}

    async def admit(self, tenant: str, per_minute: int | None) -> None:
        """Let one request pass.

        Args:
            tenant: whose.
            per_minute: its quota; ``None`` for none.

        Raises:
            QuotaExceeded: the rate is used up; ``retry_after`` says for how long.
        """
        if per_minute is None:
            return
        local = self._local.setdefault(tenant, _Local(Rate.per_minute(per_minute)))
        local.rate = Rate.per_minute(per_minute)
        if not self._spend(local):
            async with local.lock:
                # Another request may have brought a lease, or the news that there is none, while this one waited.
                if not self._spend(local):
                    await self._renew(tenant, local, per_minute)

    async def close(self) -> None:
        """Give back what was not spent."""
        for tenant, local in self._local.items():
            async with local.lock:
                units, local.units = local.units, 0
                if units:
                    await asyncio.to_thread(self._buckets.lease, tenant, local.rate, 0, units)

    def _spend(self, local: _Local) -> bool:
        now = time.monotonic()
        if local.units and now < local.ends:
            local.units -= 1
            return True
        if now < local.empty_until:
            raise _exceeded(local, local.empty_until - now)
        return False

    async def _renew(self, tenant: str, local: _Local, per_minute: int) -> None:
        # A tenth of a minute's worth at most: what one replica holds, others cannot spend.
        wanted = max(1, min(int(local.rate.per_second * self._lease_seconds), per_minute // 10))
        unused, local.units = local.units, 0
        leased = await asyncio.to_thread(self._buckets.lease, tenant, local.rate, wanted, unused)
        now = time.monotonic()
        if not leased.units:
            local.empty_until = now + min(leased.wait, self._lease_seconds)
            raise _exceeded(local, leased.wait)
        local.units, local.ends, local.empty_until = leased.units - 1, now + self._lease_seconds, 0.0


def _exceeded(local: _Local, wait: float) -> QuotaExceeded:
    return QuotaExceeded(
        f"more than {local.rate.burst:g} requests per minute: this is the tenant's quota",
        subject="requests_per_minute",
        retry_after=wait,
    )


__all__ = ["Leased", "RateLimiter", "SharedBuckets"]
