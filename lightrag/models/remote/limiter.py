"""How many requests are sent at once: fewer when the server says it is too many, more again when it copes."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator


class ConcurrencyLimit:
    """A limit shared by all calls to one server: additive increase, multiplicative decrease (Chiu and Jain, 1989).

    Belongs to one event loop.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = float(most)
        self._active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._generation = 0
        self._resume_at = 0.0

    @property
    def allowed(self) -> int:
        """Requests that may be under way now."""
        return max(1, int(self._allowed))

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[int]:
        """Wait for a place and hold it; yields a number that :meth:`shrink` wants back."""
        await self._enter()
        try:
            await self._pause()
            yield self._generation
        finally:
            self._active -= 1
            self._wake()

    def shrink(self, generation: int, resume_after: float) -> None:
        """Halve the limit, and let nobody start for ``resume_after`` seconds.

        Requests sent before an earlier cut do not cut again: they tell nothing about the limit after it.
        """
        if generation == self._generation:
            self._allowed = max(1.0, self._allowed / 2)
            self._generation += 1
        self._resume_at = max(self._resume_at, asyncio.get_running_loop().time() + resume_after)

    def grow(self) -> None:
        """Note a success."""
        self._allowed = min(float(self._most), self._allowed + 1 / self._allowed)
        self._wake()

    async def _enter(self) -> None:
        if self._active < self.allowed and not self._waiting:
            self._active += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.cancelled():
                with contextlib.suppress(ValueError):  # the line may have moved past it already
                    self._waiting.remove(turn)
            else:  # cancelled just after the place was given
                self._active -= 1
                self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting and self._active < self.allowed:
            turn = self._waiting.popleft()
            if not turn.done():
                self._active += 1
                turn.set_result(None)

    async def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        # Others may put the time off while this sleeps.
        while (wait := self._resume_at - loop.time()) > 0:  # noqa: ASYNC110  # a time, not an event
            await asyncio.sleep(wait)


__all__ = ["ConcurrencyLimit"]
