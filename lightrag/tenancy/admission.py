"""Fair sharing of one replica's slots: a tenant's burst waits in its own queue, and another tenant's request passes it.

A free slot goes to the tenant that holds the fewest, and among equals to the one that was served longest ago. No tenant
may hold all slots, so a quiet tenant finds a free one however long the requests of a loud one take. A free slot alone
does not help whoever shares the processors with a burst: so a tenant holds fewer while others ask too.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from lightrag.errors import BackendError, QuotaExceeded

COMPANY_SECONDS: Final = 60.0


class FairAdmission:
    """Slots for requests. Belongs to one event loop.

    Args:
        slots: requests at once.
        slots_per_tenant: of one tenant.
        slots_beside_others: of one tenant, while another one asks too; as many as ``slots_per_tenant`` by default.
        queue_per_tenant: requests of one tenant that may wait.
        queue_seconds: how long one may wait.
        company_seconds: how long after its last request a tenant still counts as one that asks.
    """

    def __init__(
        self,
        *,
        slots: int,
        slots_per_tenant: int,
        queue_per_tenant: int,
        queue_seconds: float,
        slots_beside_others: int | None = None,
        company_seconds: float = COMPANY_SECONDS,
    ) -> None:
        self._free = slots
        self._slots_per_tenant = slots_per_tenant
        self._slots_beside_others = min(slots_beside_others or slots_per_tenant, slots_per_tenant)
        self._queue_per_tenant = queue_per_tenant
        self._queue_seconds = queue_seconds
        self._company_seconds = company_seconds
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._turns = 0
        # Kept for all tenants that ever came: forgetting the absent ones would let those who come and go pass the rest.
        self._served: dict[str, int] = {}
        self._came: dict[str, float] = {}
        """When tenants asked last, the latest at the end."""

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return self._held.total()

    @property
    def waiting(self) -> int:
        """Requests that wait for one."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def slot(self, tenant: str) -> AsyncIterator[None]:
        """Hold a slot; waits for it.

        Raises:
            QuotaExceeded: too many requests of this tenant wait already.
            BackendError: none became free in time; retryable.
        """
        await self._acquire(tenant)
        try:
            yield
        finally:
            self._release(tenant)

    def _may_hold(self, tenant: str) -> int:
        other = next((name for name in reversed(self._came) if name != tenant), None)
        if other is None or time.monotonic() - self._came[other] > self._company_seconds:
            return self._slots_per_tenant
        return self._slots_beside_others

    async def _acquire(self, tenant: str) -> None:
        self._came.pop(tenant, None)
        self._came[tenant] = time.monotonic()
        if self._free and self._held[tenant] < self._may_hold(tenant):
            self._take(tenant)
            return
        queue = self._waiting.setdefault(tenant, deque())
        if len(queue) >= self._queue_per_tenant:
            self._drop_if_empty(tenant)
            raise QuotaExceeded(
                f"{self._held[tenant]} requests of this tenant are being answered and {len(queue)} wait already",
                subject="queue_per_tenant",
                retry_after=1.0,
            )
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(self._queue_seconds):
                await turn
        except BaseException as error:
            self._leave(tenant, turn)
            if isinstance(error, TimeoutError):
                message = f"the service had no room for this request within {self._queue_seconds:g} s; try again"
                raise BackendError(message, retryable=True) from error
            raise

    def _leave(self, tenant: str, turn: asyncio.Future[None]) -> None:
        """A waiting request gives up; one whose turn came in the same moment passes it on."""
        if turn.done() and not turn.cancelled():
            self._release(tenant)
            return
        queue = self._waiting.get(tenant)
        if queue is not None and turn in queue:
            queue.remove(turn)
            self._drop_if_empty(tenant)

    def _release(self, tenant: str) -> None:
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        while self._free:
            allowed = [tenant for tenant in self._waiting if self._held[tenant] < self._may_hold(tenant)]
            if not allowed:
                return
            tenant = min(allowed, key=lambda name: (self._held[name], self._served.get(name, 0)))
            turn = self._waiting[tenant].popleft()
            self._drop_if_empty(tenant)
            if not turn.done():
                self._take(tenant)
                turn.set_result(None)

    def _take(self, tenant: str) -> None:
        self._free -= 1
        self._held[tenant] += 1
        self._turns += 1
        self._served[tenant] = self._turns

    def _drop_if_empty(self, tenant: str) -> None:
        if not self._waiting.get(tenant, True):
            del self._waiting[tenant]


__all__ = ["FairAdmission"]
