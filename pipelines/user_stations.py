"""The stages of bulk jobs over memories on Ray Data: pools of workers, units of users streaming between them.

No business logic: what a station does is in ``lightrag.conversation.bulk``, here as in a plain loop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data
from blake3 import blake3
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError, RayTaskError

from lightrag.config import Settings
from lightrag.conversation.bulk.jobs import Line
from lightrag.conversation.bulk.stations import ConsolidationLine, StageName
from lightrag.conversation.opening import embedded_vectors, memory_configuration
from lightrag.errors import BackendError, LightRAGError
from pipelines.cluster import cluster
from pipelines.stations import RETRIES, configure


@dataclass(frozen=True, slots=True)
class Pool:
    """Workers that do the same."""

    stages: tuple[StageName, ...]
    workers: int
    cpus: float = 0.5
    """That one worker claims. A fraction, so that pools never starve each other or Ray's own tasks."""


def choose_pools(line: Line, units: int) -> list[Pool]:
    """How many workers do what. One process at a time writes to vectors in a folder, any number to a server."""
    settings: Settings = line.settings
    workers = max(1, min(settings.conversation.workers, units))
    embedded = embedded_vectors(memory_configuration(settings))
    if isinstance(line, ConsolidationLine) or not embedded or workers == 1:
        return [Pool(("extract", "index"), 1 if embedded else workers)]
    return [Pool(("extract",), workers), Pool(("index",), 1)]


def schedule_on_ray(units: Sequence[str], line: Line) -> Iterator[str]:
    """Bring units through on the cluster that the spec names, or on a private one that ends with them.

    Raises:
        BackendError: a store or the cluster failed; what was done stays.
    """
    pools = choose_pools(line, len(units))
    with cluster(line.spec.address, cpus=sum(pool.workers * pool.cpus for pool in pools)):
        yield from run_on_ray(units, line, pools)


def run_on_ray(units: Sequence[str], line: Line, pools: Sequence[Pool]) -> Iterator[str]:
    """Bring units through pools on the connected cluster; receipts come as units finish. Raises as above."""
    configure(DataContext.get_current())
    attempts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Attempts).remote()
    # One unit per block: the piece that is scheduled and retried.
    data = ray.data.from_items([{"unit": unit} for unit in units], override_num_blocks=len(units))
    for pool in pools:
        data = data.map_batches(
            _Worker,
            fn_constructor_args=(line, pool.stages, attempts),
            compute=ActorPoolStrategy(size=pool.workers, max_tasks_in_flight_per_actor=2),
            num_cpus=pool.cpus,
            batch_size=None,
            batch_format="pyarrow",
        )
    try:
        for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from batch.column("unit").to_pylist()
    except RayTaskError as error:
        # Our own errors come as they were raised in the worker; anything else is a bug, and keeps its trace.
        raise error.cause if isinstance(error.cause, LightRAGError) else error from None
    except RayError as error:
        reason = str(error).partition("\n")[0]
        raise BackendError(f"Ray lost the job's workers: {reason} What was done is kept: run the job again") from error


class _Attempts:
    """Counts how often workers have begun each unit. Ray itself would repeat one that ends its worker for ever."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, unit: str) -> int:
        """Note that a unit begins, and return how often it has."""
        self._begun[unit] += 1
        return self._begun[unit]


class _Worker:
    """One worker of a pool: units or receipts in, receipts out."""

    def __init__(self, line: Line, stages: Sequence[StageName], attempts: Any) -> None:
        self._station = line.station(*stages)
        self._stage = stages[0]
        self._attempts = attempts

    def __call__(self, batch: pa.Table) -> pa.Table:
        return pa.table({"unit": [self._run(text) for text in batch.column("unit").to_pylist()]})

    def _run(self, text: str) -> str:
        unit = blake3(f"{self._stage}\n{text}".encode()).hexdigest(length=16)
        begun = ray.get(self._attempts.begin.remote(unit))
        if begun > 1 + RETRIES:
            raise BackendError(
                f"Ray lost the job's workers: one batch of users has ended {begun - 1} of them, one after the other, "
                "for want of memory or by a fault in a native library. What was done is kept: run the job again"
            )
        return self._station.run(text)


__all__ = ["Pool", "choose_pools", "run_on_ray", "schedule_on_ray"]
