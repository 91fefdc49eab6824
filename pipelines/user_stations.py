"""The stages of bulk jobs over memories on Ray Data: pools of workers, units of users streaming between them.

No business logic: what a station does is in ``lightrag.conversation.bulk``, here as in a plain loop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
from ray.data import DataContext

from lightrag.config import Settings
from lightrag.conversation.bulk.jobs import Line
from lightrag.conversation.bulk.stations import ConsolidationLine, StageName
from lightrag.conversation.opening import embedded_vectors, memory_configuration
from pipelines.attempts import count_attempts, require_patience
from pipelines.cluster import cluster
from pipelines.stations import Pool, blocks, configure, results, through

CPUS: Final = 0.5
"""That one worker claims. A fraction, so that pools never starve each other or Ray's own tasks."""


def choose_pools(line: Line, units: int) -> list[Pool[StageName]]:
    """How many workers do what. One process at a time writes to vectors in a folder, any number to a server."""
    settings: Settings = line.settings
    workers = max(1, min(settings.conversation.workers, units))
    embedded = embedded_vectors(memory_configuration(settings))
    if isinstance(line, ConsolidationLine) or not embedded or workers == 1:
        return [Pool(("extract", "index"), 1 if embedded else workers, CPUS)]
    return [Pool(("extract",), workers, CPUS), Pool(("index",), 1, CPUS)]


def schedule_on_ray(units: Sequence[str], line: Line) -> Iterator[str]:
    """Bring units through on the cluster that the spec names, or on a private one that ends with them.

    Raises:
        BackendError: a store or the cluster failed; what was done stays.
    """
    pools = choose_pools(line, len(units))
    with cluster(line.spec.address, cpus=sum(pool.workers * pool.cpus for pool in pools)):
        yield from run_on_ray(units, line, pools)


def run_on_ray(units: Sequence[str], line: Line, pools: Sequence[Pool[StageName]]) -> Iterator[str]:
    """Bring units through pools on the connected cluster; receipts come as units finish. Raises as above."""
    configure(DataContext.get_current())
    attempts = count_attempts()
    data = blocks(units)
    for pool in pools:
        data = through(data, pool, _Worker, (attempts, line, pool.stages))
    yield from results(data)


class _Worker:
    """One worker of a pool: units or receipts in, receipts out."""

    def __init__(self, attempts: Any, line: Line, stages: Sequence[StageName]) -> None:
        self._attempts = attempts
        self._station = line.station(*stages)
        self._stage = stages[0]

    def __call__(self, batch: pa.Table) -> pa.Table:
        units = batch.column(0)
        require_patience(self._attempts, self._stage, units)
        return pa.table({"receipt": [self._station.run(text) for text in units.to_pylist()]})


__all__ = ["CPUS", "choose_pools", "run_on_ray", "schedule_on_ray"]
