"""Loaded state in a bounded number of bytes: what is used stays, what is not makes room.

It knows keys, sizes and use, not what the values are (indexes, KV memories, tables). It belongs to one event loop.

A value is *leased* while somebody works with it, and nothing that is leased is evicted. A key is loaded once, however
many ask for it at the same time, and different keys load side by side. When room is needed, values without a lease go,
least recently used first, those of tenants above their quota before others. So one tenant that loads much pushes out
its own values, not those of all others.

Example:
    >>> import asyncio
    >>> async def load(key: Key) -> Loaded[str]:
    ...     return Loaded(f"index of {key.name}", size=100)
    >>> async def use() -> str:
    ...     residency = Residency(load, capacity=1000)
    ...     async with residency.lease(Key("default", "reports@1")) as index:
    ...         return index
    >>> asyncio.run(use())
    'index of reports@1'
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from lightrag.errors import BackendError, LimitError, UsageError

V = TypeVar("V")

_logger = logging.getLogger(__name__)


class Key(NamedTuple):
    """What is loaded, and whose it is."""

    tenant: str
    name: str
    """Unique within the tenant, version included: ``reports@7/index``."""


class Loaded(NamedTuple, Generic[V]):
    """A value and what it takes."""

    value: V
    size: int
    """Bytes of memory."""


@dataclass(frozen=True, slots=True)
class ResidencyStats:
    """Counters since the start, and the state now."""

    hits: int
    """Leases of values that were there."""
    misses: int
    """Leases that had to load or to wait for a load."""
    loads: int
    failures: int
    """Loads that raised."""
    evictions: int
    bytes: int
    leased_bytes: int
    values: int
    capacity: int
    """Bytes that there is room for."""
    tenant_bytes: dict[str, int]


@dataclass(slots=True, eq=False)
class _Resident(Generic[V]):
    key: Key
    value: V
    size: int
    leases: int
    retired: bool = False
    """Dropped while leased: nobody gets it any more, and it is closed with its last lease."""
    released: float = 0.0
    """When a lease of it ended last, by ``time.monotonic``."""


@dataclass(slots=True, eq=False)
class _Load(Generic[V]):
    task: asyncio.Task[_Resident[V]] = field(init=False)
    waiting: int = 0
    retired: bool = False


class Residency(Generic[V]):
    """Leases of loaded values, within a budget of bytes. All methods belong to one event loop.

    Args:
        load: makes a value and says what it takes. Runs once at a time for a key that is not dropped meanwhile, and to
            its end, also when those who asked have gone. A failure goes to everybody who waits for it, and the next
            lease tries again.
        capacity: bytes that all values may take together. What turns out larger than expected while others are leased
            may exceed it until the next lease ends.
        tenant_quota: bytes up to which the values of a tenant are safe from those of tenants above it; by default all.
        close: called once with each value that is evicted or dropped, when its last lease has ended.
    """

    def __init__(
        self,
        load: Callable[[Key], Awaitable[Loaded[V]]],
        *,
        capacity: int,
        tenant_quota: int | None = None,
        close: Callable[[V], None] | None = None,
    ) -> None:
        quota = capacity if tenant_quota is None else tenant_quota
        if not 0 < quota <= capacity:
            raise UsageError(f"a residency needs 0 < tenant_quota <= capacity, got {quota} and {capacity}")
        self._load = load
        self._capacity = capacity
        self._quota = quota
        self._close = close
        self._residents: OrderedDict[Key, _Resident[V]] = OrderedDict()  # least recently leased first
        self._retired: set[_Resident[V]] = set()
        self._loads: dict[Key, _Load[V]] = {}  # those that can be joined
        self._running: set[_Load[V]] = set()  # those, and dropped ones
        self._bytes: Counter[str] = Counter()  # by tenant, reservations of running loads included
        self._freed = asyncio.Event()
        self._counts: Counter[str] = Counter()

    @asynccontextmanager
    async def lease(self, key: Key, *, expected_bytes: int = 0) -> AsyncIterator[V]:
        """Use a value, loading it where it is not there.

        Args:
            key: which.
            expected_bytes: what it will take, where that is known: room is made before loading and not after, and where
                everything is in use, the load waits.

        Raises:
            LimitError: it takes more than the whole capacity, or more than the quota while others use theirs.
            Exception: whatever the load raised.
        """
        if expected_bytes > self._capacity:
            raise self._too_large(key, expected_bytes)
        resident = self._hit(key) or await self._miss(key, expected_bytes)
        try:
            yield resident.value
        finally:
            self._release(resident)

    def _hit(self, key: Key) -> _Resident[V] | None:
        resident = self._residents.get(key)
        if resident is not None:
            resident.leases += 1
            self._residents.move_to_end(key)
            self._counts["hits"] += 1
        return resident

    async def _miss(self, key: Key, expected_bytes: int) -> _Resident[V]:
        self._counts["misses"] += 1
        load = self._loads.get(key)
        if load is None:
            load = self._loads[key] = _Load()
            load.task = asyncio.create_task(self._run(key, load, expected_bytes), name=f"load {key.name}")
            load.task.add_done_callback(_retrieve)
            self._running.add(load)
        load.waiting += 1
        try:
            await asyncio.wait({load.task})
        except asyncio.CancelledError:
            load.waiting -= 1
            if load.task.done() and not load.task.cancelled() and load.task.exception() is None:
                self._release(load.task.result())  # the load has leased to everybody who was waiting
            raise
        if load.task.cancelled():
            raise BackendError(f"loading {key.tenant}/{key.name} was cancelled", subject=key.name, retryable=True)
        return load.task.result()

    async def _run(self, key: Key, load: _Load[V], expected_bytes: int) -> _Resident[V]:
        try:
            while not self._make_room(key.tenant, expected_bytes):
                if expected_bytes > self._quota:
                    # More than the tenant's share, and others use theirs: room may never come.
                    raise self._too_large(key, expected_bytes)
                self._freed.clear()
                await self._freed.wait()
            self._charge(key.tenant, expected_bytes)
            try:
                loaded = await self._load(key)
            finally:
                self._charge(key.tenant, -expected_bytes)
        except Exception:
            self._counts["failures"] += 1
            raise
        finally:
            self._running.discard(load)
            if self._loads.get(key) is load:
                del self._loads[key]
        return self._admit(key, load, loaded)

    def _admit(self, key: Key, load: _Load[V], loaded: Loaded[V]) -> _Resident[V]:
        self._counts["loads"] += 1
        if loaded.size > self._capacity:
            self._dispose(loaded.value)
            raise self._too_large(key, loaded.size)
        self._make_room(key.tenant, loaded.size)
        # Leased before anybody who waits can run, so that no other load evicts it in between.
        resident = _Resident(key, loaded.value, loaded.size, leases=load.waiting, retired=load.retired)
        self._charge(key.tenant, resident.size)
        if resident.retired:
            self._retired.add(resident)
        else:
            self._residents[key] = resident
        self._settle(resident)
        return resident

    def _release(self, resident: _Resident[V]) -> None:
        resident.leases -= 1
        resident.released = time.monotonic()
        self._settle(resident)
        self._make_room(resident.key.tenant, 0)
        self._freed.set()

    def _settle(self, resident: _Resident[V]) -> None:
        if resident.retired and resident.leases == 0:
            self._retired.discard(resident)
            self._forget(resident)

    def _make_room(self, tenant: str, incoming: int) -> bool:
        """Evict until ``incoming`` bytes of a tenant fit; false if what is in use or protected leaves no room."""
        while self._bytes.total() + incoming > self._capacity:
            victim = self._victim(tenant, incoming)
            if victim is None:
                return False
            del self._residents[victim.key]
            self._counts["evictions"] += 1
            self._forget(victim)
        return True

    def _victim(self, tenant: str, incoming: int) -> _Resident[V] | None:
        def above(owner: str) -> bool:
            return self._bytes[owner] + (incoming if owner == tenant else 0) > self._quota

        idle = [resident for resident in self._residents.values() if resident.leases == 0]
        of_greedy = next((resident for resident in idle if above(resident.key.tenant)), None)
        if of_greedy is not None or above(tenant):
            return of_greedy
        return next(iter(idle), None)

    def _forget(self, resident: _Resident[V]) -> None:
        self._charge(resident.key.tenant, -resident.size)
        self._dispose(resident.value)

    def _charge(self, tenant: str, size: int) -> None:
        self._bytes[tenant] += size
        if not self._bytes[tenant]:
            del self._bytes[tenant]
        self._freed.set()

    def _dispose(self, value: V) -> None:
        if self._close is not None:
            try:
                self._close(value)
            except Exception:
                # Whoever happens to need room has nothing to do with it, and the value is gone either way.
                _logger.exception("a value that was evicted could not be closed")

    def _too_large(self, key: Key, size: int) -> LimitError:
        return LimitError(
            f"{key.tenant}/{key.name} takes {size} bytes, the residency has {self._capacity} and each tenant "
            f"{self._quota} of its own: raise its capacity",
            subject=f"{key.tenant}/{key.name}",
        )

    def drop(self, tenant: str, prefix: str = "") -> int:
        """Forget a tenant's values whose names begin with ``prefix``, also those being loaded; count them.

        Who has one leased keeps it; who asks from now on gets a new one.
        """
        matching = [key for key in self._residents if key.tenant == tenant and key.name.startswith(prefix)]
        for key in matching:
            resident = self._residents.pop(key)
            resident.retired = True
            self._retired.add(resident)
            self._settle(resident)
        loading = [key for key in self._loads if key.tenant == tenant and key.name.startswith(prefix)]
        for key in loading:
            self._loads.pop(key).retired = True
        return len(matching) + len(loading)

    async def aclose(self) -> None:
        """Wait for running loads and forget everything."""
        while self._running:
            await asyncio.wait({load.task for load in self._running})
        for tenant in {key.tenant for key in self._residents}:
            self.drop(tenant)

    def keys(self) -> list[Key]:
        """What is loaded, least recently leased first."""
        return list(self._residents)

    def used_bytes(self, seconds: float) -> int:
        """Bytes of the values that are leased, or were within the last ``seconds``: what is really needed here.

        What was loaded stays until its room is needed, so all bytes together only ever grow and say nothing of that.
        """
        since = time.monotonic() - seconds
        present = [*self._residents.values(), *self._retired]
        return sum(resident.size for resident in present if resident.leases or resident.released >= since)

    def stats(self) -> ResidencyStats:
        """Counters and state, for metrics."""
        present = [*self._residents.values(), *self._retired]
        return ResidencyStats(
            **{name: self._counts[name] for name in ("hits", "misses", "loads", "failures", "evictions")},
            bytes=sum(resident.size for resident in present),
            leased_bytes=sum(resident.size for resident in present if resident.leases),
            values=len(present),
            capacity=self._capacity,
            tenant_bytes=dict(self._bytes),
        )

    def check_integrity(self) -> None:
        """Prove the invariants; for tests and idle time.

        Raises:
            AssertionError: one does not hold.
        """
        present = [*self._residents.values(), *self._retired]
        owned: Counter[str] = Counter()
        for resident in present:
            owned[resident.key.tenant] += resident.size
            _require(resident.leases >= 0, f"{resident.key} has {resident.leases} leases")
            _require(resident.retired == (resident in self._retired), f"{resident.key} is half retired")
        _require(all(self._bytes[tenant] >= size for tenant, size in owned.items()), "bytes are not accounted for")
        _require(bool(self._running) or self._bytes == owned, f"bytes {self._bytes} are not those of values {owned}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _retrieve(task: asyncio.Task[_Resident[V]]) -> None:
    # A failure that nobody waits for any more is counted, and is not worth asyncio's complaint.
    if not task.cancelled():
        task.exception()


__all__ = ["Key", "Loaded", "Residency", "ResidencyStats"]
