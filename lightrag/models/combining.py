"""Calls of many threads in few passes: those that come while a pass runs go into the next one together.

It knows nothing of models or event loops. Nobody waits for company: a call that finds nothing running starts at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


@dataclass(slots=True, eq=False)
class _Call(Generic[T, R]):
    items: Sequence[T]
    size: int
    results: list[R] = field(default_factory=list)
    error: Exception | None = None
    done: bool = False


class Combiner(Generic[T, R]):
    """Makes one call of a function out of those that several threads make at the same time.

    The function is never called by two threads at once. A call that fails together with others is repeated alone, so
    that nobody gets the error of somebody else's items.

    Example:
        >>> double = Combiner(lambda items: [2 * item for item in items])
        >>> double([1, 2])
        [2, 4]

    Args:
        run: gives a result for each item, whoever it came from.
        size: of an item, in whatever ``most`` counts: tokens of a row, for example.
        most: calls are combined up to this size; a larger one goes alone.
    """

    def __init__(
        self,
        run: Callable[[Sequence[T]], Sequence[R]],
        *,
        size: Callable[[T], int] = lambda _: 1,
        most: int = 65536,
    ) -> None:
        self._run = run
        self._size = size
        self._most = most
        self._waiting: list[_Call[T, R]] = []
        self._queue = threading.Lock()
        self._busy = threading.Lock()
        self.runs = 0
        """Times that the function was called."""

    @property
    def waiting(self) -> int:
        """Calls that wait for the one that runs."""
        return len(self._waiting)

    def __call__(self, items: Sequence[T]) -> list[R]:
        """Return the results of the items; waits for whatever runs now.

        Raises:
            Exception: whatever the function raised for these items.
        """
        call: _Call[T, R] = _Call(items, sum(map(self._size, items)))
        with self._queue:
            self._waiting.append(call)
        with self._busy:
            while not call.done:  # another thread may have done it meanwhile
                self._run_next()
        if call.error is not None:
            raise call.error
        return call.results

    def _run_next(self) -> None:
        calls = self._take()
        try:
            self._answer_each(calls)
        finally:
            # Only an interrupt leaves some: whoever comes next answers them.
            with self._queue:
                self._waiting = [*(call for call in calls if not call.done), *self._waiting]

    def _answer_each(self, calls: Sequence[_Call[T, R]]) -> None:
        try:
            self._answer(calls)
        except Exception as error:
            if len(calls) == 1:
                calls[0].error, calls[0].done = error, True
                return
            for call in calls:
                self._answer_each([call])

    def _take(self) -> list[_Call[T, R]]:
        with self._queue:
            count, size = 1, self._waiting[0].size
            while count < len(self._waiting) and size + self._waiting[count].size <= self._most:
                size += self._waiting[count].size
                count += 1
            taken, self._waiting = self._waiting[:count], self._waiting[count:]
        return taken

    def _answer(self, calls: Sequence[_Call[T, R]]) -> None:
        self.runs += 1
        results = iter(self._run([item for call in calls for item in call.items]))
        for call in calls:
            call.results = [next(results) for _ in call.items]
        for call in calls:
            call.done = True


__all__ = ["Combiner"]
