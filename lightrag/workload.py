"""What a replica of a stage has in hand, what it holds in memory, and how many replicas that asks for.

Knows what stages are called and what their work weighs, not what they do; nothing here depends on what runs them.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightrag.storage.residency import Residency, ResidencyStats
from lightrag.tracing import Carrier, of_corpus, process_name, span
from lightrag.types import CorpusVersion

SIGNALS = ("tokens", "bytes")
"""By which replicas say for how many replicas there is work, beside the number of requests."""


@dataclass(frozen=True, slots=True)
class StageReport:
    """One replica of a stage, as it is now."""

    stage: str
    replica: str
    requests: int
    """In hand."""
    tokens: int
    """Of those requests."""
    outcomes: dict[str, int]
    """Requests since the start, by ``done``, ``cancelled`` or the type of the error."""
    held: dict[str, ResidencyStats]
    """What is in memory, by what it is."""
    signals: dict[str, float]
    """For how many replicas there is work here; see :meth:`Workload.signals`."""


class Workload:
    """Counts what one replica has to do.

    Args:
        stage: what it does.
        residencies: what it holds; asked each time, since some are only made by the first request.
        target_tokens: in hand, that are enough for one replica; ``None``: tokens are no reason for more replicas.
        target_bytes: in use, that are enough for one replica; ``None``: memory is no reason for more replicas.
        window_seconds: how long what was used still counts as in use.
    """

    def __init__(
        self,
        stage: str,
        residencies: Callable[[], Mapping[str, Residency[Any]]] = dict,
        *,
        target_tokens: int | None = None,
        target_bytes: int | None = None,
        window_seconds: float = 60.0,
    ) -> None:
        self._stage = stage
        self._replica = process_name()
        self._residencies = residencies
        self._target_tokens = target_tokens
        self._target_bytes = target_bytes
        self._window_seconds = window_seconds
        self._requests = 0
        self._tokens = 0
        self._outcomes: Counter[str] = Counter()

    @contextmanager
    def work(
        self, name: str, trace: Carrier | None, corpus: CorpusVersion | None = None, *, tokens: int = 0
    ) -> Iterator[None]:
        """Count a request while it is worked on, and record it in the trace that it came with.

        Args:
            name: of the work.
            trace: where the request came from.
            corpus: that it is about.
            tokens: that it weighs.
        """
        with self.count(tokens), span(name, self.describe(corpus), parent=trace, kind="server"):
            yield

    @contextmanager
    def count(self, tokens: int = 0) -> Iterator[None]:
        """Count a request while it is worked on."""
        self._requests += 1
        self._tokens += tokens
        outcome = "done"
        try:
            yield
        except BaseException as error:
            gone = isinstance(error, asyncio.CancelledError | GeneratorExit)
            outcome = "cancelled" if gone else type(error).__name__
            raise
        finally:
            self._requests -= 1
            self._tokens -= tokens
            self._outcomes[outcome] += 1

    def describe(self, corpus: CorpusVersion | None = None) -> dict[str, str | int]:
        """Attributes of the span of a request."""
        return {
            "lightrag.stage": self._stage,
            "lightrag.replica": self._replica,
            **(of_corpus(corpus) if corpus else {}),
        }

    def signals(self) -> dict[str, float]:
        """For how many replicas there is work here, by each signal but the number of requests."""
        signals: dict[str, float] = {}
        if self._target_tokens is not None:
            signals["tokens"] = self._tokens / self._target_tokens
        if self._target_bytes is not None:
            # Each kind of thing has a budget of its own, so the fullest one counts.
            used = (residency.used_bytes(self._window_seconds) for residency in self._residencies().values())
            signals["bytes"] = max(used, default=0) / self._target_bytes
        return signals

    def report(self) -> StageReport:
        """How this replica is."""
        held = {kind: residency.stats() for kind, residency in self._residencies().items()}
        return StageReport(
            self._stage, self._replica, self._requests, self._tokens, dict(self._outcomes), held, self.signals()
        )


def desired_replicas(requests: float, target_requests: float, signals: Mapping[str, Sequence[float]]) -> int:
    """How many replicas the work is for: as many as the signal asks for that asks for most; at least one.

    Args:
        requests: in hand and waiting, over all replicas.
        target_requests: of them, enough for one replica.
        signals: what every replica said, by signal; see :meth:`Workload.signals`.
    """
    asked = (requests / target_requests, *map(math.fsum, signals.values()))
    # Sums of fractions that make a whole must not ask for one more.
    return max(1, math.ceil(max(asked) - 1e-9))


__all__ = ["SIGNALS", "StageReport", "Workload", "desired_replicas"]
