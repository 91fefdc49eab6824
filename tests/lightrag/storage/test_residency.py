"""Leases, budget, quotas and failures, in chosen and in random interleavings."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import BackendError, LimitError, UsageError
from lightrag.storage.residency import Key, Loaded, Residency


class Value:
    def __init__(self, key: Key, size: int) -> None:
        self.key, self.size, self.closed = key, size, 0

    def close(self) -> None:
        self.closed += 1


class Loader:
    """Loads values as fast as the test lets it."""

    def __init__(self, size: int = 10) -> None:
        self.size = size
        self.calls: Counter[Key] = Counter()
        self.values: list[Value] = []
        self.failure: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.at_once = 0
        self.most_at_once = 0

    async def __call__(self, key: Key) -> Loaded[Value]:
        self.calls[key] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            if self.failure:
                raise self.failure
        finally:
            self.at_once -= 1
        value = Value(key, self.size)
        self.values.append(value)
        return Loaded(value, self.size)


def key(name: str, tenant: str = "acme") -> Key:
    return Key(tenant, name)


def open_residency(loader: Loader, capacity: int = 30, tenant_quota: int | None = None) -> Residency[Value]:
    return Residency(loader, capacity=capacity, tenant_quota=tenant_quota, close=Value.close)


async def use(residency: Residency[Value], wanted: Key, *, expected_bytes: int = 0) -> Value:
    async with residency.lease(wanted, expected_bytes=expected_bytes) as value:
        assert not value.closed
        return value


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class TestLoading:
    async def test_many_who_ask_at_once_share_one_load(self) -> None:
        loader = Loader()
        residency = open_residency(loader)
        values = await asyncio.gather(*(use(residency, key("a")) for _ in range(20)))
        assert len(set(map(id, values))) == 1
        assert loader.calls == {key("a"): 1}
        assert await use(residency, key("a")) is values[0]
        stats = residency.stats()
        assert (stats.hits, stats.misses, stats.loads, stats.bytes, stats.leased_bytes) == (1, 20, 1, 10, 0)

    async def test_different_keys_load_side_by_side(self) -> None:
        loader = Loader()
        loader.gate.clear()
        residency = open_residency(loader)
        tasks = [asyncio.create_task(use(residency, key(name))) for name in "abc"]
        await settle()
        loader.gate.set()
        await asyncio.gather(*tasks)
        assert loader.most_at_once == 3

    async def test_equal_names_of_two_tenants_are_two_values(self) -> None:
        residency = open_residency(Loader())
        one, two = await use(residency, key("a", "acme")), await use(residency, key("a", "evil"))
        assert (one.key.tenant, two.key.tenant) == ("acme", "evil")

    async def test_a_failure_reaches_those_who_wait_and_nobody_after_them(self) -> None:
        loader = Loader()
        loader.failure = BackendError("storage is down", retryable=True)
        residency = open_residency(loader)
        results = await asyncio.gather(*(use(residency, key("a")) for _ in range(3)), return_exceptions=True)
        assert [str(result) for result in results] == ["storage is down"] * 3
        loader.failure = None
        assert (await use(residency, key("a"))).key == key("a")
        assert (residency.stats().failures, loader.calls[key("a")]) == (1, 2)
        residency.check_integrity()

    async def test_one_who_gives_up_does_not_stop_the_load_for_the_others(self) -> None:
        loader = Loader()
        loader.gate.clear()
        residency = open_residency(loader)
        impatient, patient = (asyncio.create_task(use(residency, key("a"))) for _ in range(2))
        await settle()
        impatient.cancel()
        await settle()
        loader.gate.set()
        assert (await patient).key == key("a")
        assert impatient.cancelled()
        assert loader.calls[key("a")] == 1
        assert residency.stats().leased_bytes == 0

    async def test_a_load_that_nobody_waits_for_any_more_still_ends_well(self) -> None:
        loader = Loader()
        loader.gate.clear()
        residency = open_residency(loader)
        only = asyncio.create_task(use(residency, key("a")))
        await settle()
        only.cancel()
        await settle()
        loader.gate.set()
        await settle()
        assert residency.keys() == [key("a")]
        assert residency.stats().leased_bytes == 0
        loader.failure = ValueError("nobody hears this")
        loader.gate.clear()
        only = asyncio.create_task(use(residency, key("b")))
        await settle()
        only.cancel()
        loader.gate.set()
        await settle()
        residency.check_integrity()

    async def test_a_load_that_is_cancelled_from_inside_is_an_error_not_a_cancellation(self) -> None:
        async def load(wanted: Key) -> Loaded[Value]:
            raise asyncio.CancelledError

        residency: Residency[Value] = Residency(load, capacity=10)
        with pytest.raises(BackendError, match="loading acme/a was cancelled"):
            await use(residency, key("a"))


class TestBudget:
    async def test_the_least_recently_used_goes_and_is_closed_once(self) -> None:
        loader = Loader()
        residency = open_residency(loader, capacity=30)
        for name in ["a", "b", "c", "a", "d"]:
            await use(residency, key(name))
        remaining = residency.keys()
        assert [item.name for item in remaining] == ["c", "a", "d"]
        assert [value.closed for value in loader.values] == [0, 1, 0, 0]
        assert residency.stats().evictions == 1

    async def test_what_is_leased_stays_even_above_the_budget_until_the_lease_ends(self) -> None:
        loader = Loader()
        residency = open_residency(loader, capacity=20)
        async with residency.lease(key("a")) as first, residency.lease(key("b")), residency.lease(key("c")):
            assert residency.stats().bytes == 30
            assert not first.closed
        assert residency.stats().bytes == 20

    async def test_a_load_of_known_size_waits_until_there_is_room(self) -> None:
        loader = Loader()
        residency = open_residency(loader, capacity=20)
        async with residency.lease(key("a")):
            async with residency.lease(key("b")):
                waiting = asyncio.create_task(use(residency, key("c"), expected_bytes=10))
                await settle()
                assert loader.calls[key("c")] == 0
                assert residency.stats().bytes == 20
            await waiting
            assert residency.stats().bytes == 20
        assert loader.values[1].closed == 1

    async def test_a_value_beyond_the_whole_budget_is_refused_and_closed(self) -> None:
        loader = Loader(size=31)
        residency = open_residency(loader, capacity=30)
        with pytest.raises(LimitError, match="acme/a takes 31 bytes, the residency has 30"):
            await use(residency, key("a"))
        assert loader.values[0].closed == 1
        with pytest.raises(LimitError):
            await use(residency, key("a"), expected_bytes=31)
        assert loader.calls[key("a")] == 1
        assert residency.stats().bytes == 0
        residency.check_integrity()

    async def test_a_value_that_cannot_be_closed_bothers_nobody_and_is_logged(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def close(value: Value) -> None:
            raise RuntimeError("device lost")

        residency = Residency(Loader(), capacity=10, close=close)
        await use(residency, key("a"))
        await use(residency, key("b"))
        assert "could not be closed" in caplog.text

    @pytest.mark.parametrize(("capacity", "quota"), [(0, None), (10, 0), (10, 11), (-1, None)])
    async def test_senseless_budgets_are_refused(self, capacity: int, quota: int | None) -> None:
        with pytest.raises(UsageError, match="a residency needs"):
            open_residency(Loader(), capacity, quota)


class TestTenants:
    async def test_one_that_loads_much_pushes_out_its_own_and_not_those_of_others(self) -> None:
        residency = open_residency(Loader(), capacity=60, tenant_quota=20)
        for name in "ab":
            await use(residency, key(name, "quiet"))
        for number in range(50):
            await use(residency, key(f"{number}", "greedy"))
        remaining = residency.keys()
        owners = Counter(item.tenant for item in remaining)
        assert owners == {"quiet": 2, "greedy": 4}

    async def test_free_room_is_used_by_whoever_needs_it_and_given_back(self) -> None:
        residency = open_residency(Loader(), capacity=60, tenant_quota=30)
        for number in range(6):
            await use(residency, key(f"{number}", "early"))
        assert residency.stats().tenant_bytes == {"early": 60}
        for number in range(3):
            await use(residency, key(f"{number}", "late"))
        assert residency.stats().tenant_bytes == {"early": 30, "late": 30}
        await use(residency, key("one more", "late"))
        assert residency.stats().tenant_bytes == {"early": 30, "late": 30}

    async def test_a_value_above_the_quota_may_not_wait_for_room_that_others_own(self) -> None:
        residency = open_residency(Loader(), capacity=30, tenant_quota=10)
        for tenant in ("x", "y"):
            await use(residency, key("a", tenant))
        with pytest.raises(LimitError, match="each tenant 10 of its own"):
            await use(residency, key("big", "z"), expected_bytes=20)
        assert residency.stats().tenant_bytes == {"x": 10, "y": 10}
        residency.check_integrity()


class TestDropping:
    async def test_dropped_values_go_at_once_and_leased_ones_with_their_last_lease(self) -> None:
        loader = Loader()
        residency = open_residency(loader, capacity=100)
        await use(residency, key("old@1/index"))
        async with residency.lease(key("old@1/memory")) as held:
            assert residency.drop("acme", "old@1/") == 2
            assert (loader.values[0].closed, held.closed) == (1, 0)
            fresh = await use(residency, key("old@1/memory"))
            assert fresh is not held
            residency.check_integrity()
        assert held.closed == 1
        assert residency.drop("evil") == 0
        assert residency.keys() == [key("old@1/memory")]

    async def test_a_load_that_is_dropped_serves_those_who_wait_and_nobody_after_them(self) -> None:
        loader = Loader()
        loader.gate.clear()
        residency = open_residency(loader)
        waiting = asyncio.create_task(use(residency, key("a")))
        await settle()
        assert residency.drop("acme") == 1
        later = asyncio.create_task(use(residency, key("a")))
        await settle()
        loader.gate.set()
        one, two = await waiting, await later
        assert one is not two
        await settle()
        assert (one.closed, two.closed) == (1, 0)
        residency.check_integrity()

    async def test_closing_waits_for_loads_and_closes_everything(self) -> None:
        loader = Loader()
        loader.gate.clear()
        residency = open_residency(loader)
        waiting = asyncio.create_task(use(residency, key("a")))
        await settle()
        closing = asyncio.create_task(residency.aclose())
        await settle()
        loader.gate.set()
        await asyncio.gather(waiting, closing)
        assert [value.closed for value in loader.values] == [1]
        assert residency.stats().values == 0


class World:
    """Random users of a residency, and what must hold whatever they do."""

    def __init__(self, seed: int, capacity: int, quota: int, sizes: list[int], known: bool) -> None:
        self.random = random.Random(seed)
        self.values: list[Value] = []
        self.leased: Counter[int] = Counter()
        self.loading: Counter[Key] = Counter()
        self.dropped: set[str] = set()
        self.sizes = sizes
        self.known = known
        self.residency: Residency[Value] = Residency(self.load, capacity=capacity, tenant_quota=quota, close=self.close)

    async def load(self, wanted: Key) -> Loaded[Value]:
        self.loading[wanted] += 1
        # A load that was dropped goes on beside the one that replaces it.
        assert self.loading[wanted] == 1 or wanted.tenant in self.dropped, "loaded twice at once"
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        self.loading[wanted] -= 1
        if self.random.random() < 0.1:
            raise BackendError("unlucky")
        value = Value(wanted, self.size(wanted))
        self.values.append(value)
        return Loaded(value, value.size)

    def size(self, wanted: Key) -> int:
        return self.sizes[int(wanted.name)]

    def close(self, value: Value) -> None:
        assert not self.leased[id(value)], "closed while leased"
        value.close()

    async def user(self) -> None:
        for _ in range(6):
            wanted = Key(self.random.choice("xyz"), str(self.random.randrange(len(self.sizes))))
            try:
                async with self.residency.lease(wanted, expected_bytes=self.size(wanted) if self.known else 0) as value:
                    assert value.key == wanted
                    self.leased[id(value)] += 1
                    try:
                        for _ in range(self.random.randrange(3)):
                            await asyncio.sleep(0)
                            assert not value.closed
                    finally:
                        self.leased[id(value)] -= 1
            except (BackendError, LimitError):
                continue
            self.residency.check_integrity()

    async def run(self, users: int, cancelled: int) -> None:
        tasks = [asyncio.create_task(self.user()) for _ in range(users)]
        for task in self.random.sample(tasks, min(cancelled, users)):
            for _ in range(self.random.randrange(5)):
                await asyncio.sleep(0)
            task.cancel()
        if self.random.random() < 0.3:
            self.dropped.add("x")
            self.residency.drop("x")
        results = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert [error for error in results if isinstance(error, Exception)] == []


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(10, 40),
    st.integers(1, 10),
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.booleans(),
    st.integers(1, 8),
    st.integers(0, 4),
)
def test_whoever_asks_leaves_or_fails_the_promises_hold(
    seed: int, capacity: int, quota: int, sizes: list[int], known: bool, users: int, cancelled: int
) -> None:
    async def play() -> None:
        world = World(seed, capacity, min(quota * 4, capacity), sizes, known)
        await world.run(users, cancelled)
        await settle()
        residency = world.residency
        residency.check_integrity()
        stats = residency.stats()
        assert stats.leased_bytes == 0
        assert stats.bytes <= capacity
        alive = [value for value in world.values if not value.closed]
        assert sum(value.size for value in alive) == stats.bytes
        assert all(value.closed <= 1 for value in world.values)
        await residency.aclose()
        assert all(value.closed == 1 for value in world.values)
        assert residency.stats().tenant_bytes == {}

    asyncio.run(play())


@settings(max_examples=100, deadline=None)
@given(
    st.integers(20, 60),
    st.integers(5, 15),
    st.lists(st.tuples(st.sampled_from("bcd"), st.integers(1, 12)), min_size=1, max_size=8),
    st.lists(st.integers(1, 60), min_size=1, max_size=20),
    st.booleans(),
)
def test_however_much_a_tenant_loads_what_others_hold_beside_its_share_stays(
    capacity: int, quota: int, held: list[tuple[str, int]], greedy: list[int], known: bool
) -> None:
    async def load(wanted: Key) -> Loaded[str]:
        return Loaded(wanted.name, int(wanted.name.split()[1]))

    async def play() -> None:
        residency = Residency(load, capacity=capacity, tenant_quota=quota)
        kept: list[Key] = []
        used: Counter[str] = Counter()
        for number, (tenant, size) in enumerate(held):
            if used[tenant] + size <= quota and used.total() + size <= capacity - quota:
                used[tenant] += size
                kept.append(Key(tenant, f"{number} {size}"))
                async with residency.lease(kept[-1]):
                    pass
        for number, size in enumerate(greedy):
            with suppress(LimitError):  # more than there is room for beside the others
                async with residency.lease(Key("a", f"{number} {size}"), expected_bytes=size if known else 0):
                    pass
            assert set(kept) <= set(residency.keys())
            assert residency.stats().bytes <= capacity
            residency.check_integrity()

    asyncio.run(play())
