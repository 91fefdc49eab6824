"""Rates: the arithmetic, and the leases that hold across replicas."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import QuotaExceeded
from lightrag.storage.records import Records
from lightrag.tenancy.bucket import Bucket, Rate
from lightrag.tenancy.rates import RateLimiter, SharedBuckets

STEPS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 50)), max_size=60)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 6000), STEPS)
def test_in_any_time_at_most_the_burst_and_what_filled_up_is_taken(
    per_minute: int, steps: list[tuple[float, int]]
) -> None:
    rate = Rate.per_minute(per_minute)
    bucket, now, taken = rate.full(0.0), 0.0, 0
    for elapsed, wanted in steps:
        now += elapsed
        bucket, got = rate.take(bucket, wanted, now)
        taken += got
        assert 0 <= got <= wanted
        assert 0 <= bucket.level <= rate.burst
        assert taken <= rate.burst + now * rate.per_second + 1e-3


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 6000), st.floats(0, 1))
def test_after_the_time_that_is_promised_there_is_one_to_take(per_minute: int, level: float) -> None:
    rate = Rate.per_minute(per_minute)
    bucket = Bucket(min(level, rate.burst), 100.0)
    _, got = rate.take(bucket, 1, 100.0 + rate.seconds_until(bucket))
    assert got == 1


def test_a_clock_that_goes_backwards_gives_nothing() -> None:
    rate = Rate.per_minute(60)
    assert rate.refill(Bucket(1.0, 100.0), 50.0) == Bucket(1.0, 100.0)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 100), st.integers(0, 100))
def test_what_is_given_back_never_overfills(per_minute: int, unused: int) -> None:
    rate = Rate.per_minute(per_minute)
    assert rate.give_back(rate.full(0.0), unused, 1.0).level == rate.burst


async def passed(limiter: RateLimiter, tenant: str, per_minute: int | None, requests: int) -> int:
    async def one() -> bool:
        try:
            await limiter.admit(tenant, per_minute)
        except QuotaExceeded as error:
            return not 0 < (error.retry_after or 0) <= 60
        return True

    return sum(await asyncio.gather(*(one() for _ in range(requests))))


async def test_replicas_together_let_no_more_pass_than_the_bucket_held(records: Records) -> None:
    replicas = [RateLimiter(SharedBuckets(records), lease_seconds=600) for _ in range(3)]
    # A rate of one per minute and unit: the seconds that this test takes add next to nothing to thirty.
    counts = [await passed(replica, "acme", 30, 40) for replica in replicas]
    assert 30 <= sum(counts) <= 32
    assert await passed(replicas[0], "globex", 30, 5) == 5
    assert await passed(replicas[0], "acme", None, 100) == 100


async def test_unspent_leases_go_back_when_a_replica_ends(records: Records) -> None:
    first = RateLimiter(SharedBuckets(records), lease_seconds=600)
    assert await passed(first, "acme", 30, 1) == 1  # two of the three that it leased are left
    await first.close()
    second = RateLimiter(SharedBuckets(records), lease_seconds=600)
    assert await passed(second, "acme", 30, 40) >= 29


async def test_most_requests_ask_no_database(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    buckets = SharedBuckets(records)
    asked = 0
    lease = buckets.lease

    def counting(*arguments: object) -> object:
        nonlocal asked
        asked += 1
        return lease(*arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(buckets, "lease", counting)
    limiter = RateLimiter(buckets, lease_seconds=600)
    assert await passed(limiter, "acme", 10_000, 1000) == 1000
    assert asked == 1
    # Also not to say no.
    assert await passed(limiter, "globex", 1, 50) == 1
    assert asked <= 4
    with pytest.raises(QuotaExceeded, match="requests per minute"):
        await limiter.admit("globex", 1)
