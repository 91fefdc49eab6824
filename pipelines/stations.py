"""The line of stages on Ray Data: stations of one or more stages, each a pool of workers, batches streaming between.

No business logic: what a station does is :class:`lightrag.ingestion.line.Station`, here as in a plain loop.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import pyarrow as pa
import ray.data
from ray.data import ActorPoolStrategy, DataContext
from ray.exceptions import RayError, RayTaskError

from lightrag.config import Settings
from lightrag.errors import BackendError, LightRAGError
from lightrag.ingestion.encoders import GroupStation
from lightrag.ingestion.group_units import GroupReceipt, GroupUnit
from lightrag.ingestion.line import Line, Receipt, Unit
from lightrag.ingestion.staging import STAGES
from lightrag.ingestion.states import StageName, decode, encode
from lightrag.storage.groups import GroupRole
from pipelines.attempts import count_attempts, require_patience

SMALL_JOB_BYTES: Final = 32 * 1024 * 1024
"""Below, one pool does all stages: a further worker process costs more than it brings."""

START_SECONDS: Final = 300
"""How long workers may take to start, until the job fails for want of room on the cluster."""


StageT = TypeVar("StageT", bound=str)


@dataclass(frozen=True, slots=True)
class Pool(Generic[StageT]):
    """Workers that do the same."""

    stages: tuple[StageT, ...]
    """Empty for those that encode groups of documents."""
    workers: int
    cpus: float
    """That one worker claims. Fractions, so that pools never starve each other or Ray's own tasks."""
    gpus: float = 0.0


def choose_pools(settings: Settings, total_bytes: int, units: int) -> list[Pool[StageName]]:
    """One pool for a small job that needs neither GPU nor language model, else one per stage.

    Never more workers than units.
    """
    ingest = settings.ingest
    if total_bytes <= SMALL_JOB_BYTES and not ingest.embed_gpus and settings.generator.backend == "extractive":
        return [Pool(STAGES, min(ingest.embed_workers, units), cpus=0.5)]
    return [
        Pool(("read",), min(ingest.parse_workers, units), cpus=0.25),
        Pool(("embed",), min(ingest.embed_workers, units), cpus=0.5, gpus=ingest.embed_gpus),
        Pool(("gist",), min(ingest.gist_workers, units), cpus=0.25, gpus=ingest.gist_gpus),
    ]


def encoding_pool(settings: Settings, units: int) -> Pool[StageName]:
    """Workers that encode groups of documents, each with a model of its own."""
    ingest = settings.ingest
    return Pool((), min(ingest.encode_workers, max(units, 1)), cpus=0.5, gpus=ingest.encode_gpus)


def run_on_ray(units: Sequence[Unit], line: Line, pools: Sequence[Pool[StageName]]) -> Iterator[Receipt]:
    """Bring units through all stages on the connected cluster; receipts come as units finish.

    Raises:
        BackendError: a store or a model failed; what was staged stays.
    """
    configure(DataContext.get_current())
    attempts = count_attempts()
    data = blocks(unit.to_json() for unit in units)
    for number, pool in enumerate(pools):
        data = through(data, pool, _Worker, (attempts, line, pool.stages, number == 0, number == len(pools) - 1))
    yield from map(Receipt.from_json, results(data))


def encode_on_ray(units: Sequence[GroupUnit], line: Line, pool: Pool[StageName]) -> Iterator[GroupReceipt]:
    """Encode groups of documents on the connected cluster; receipts come as groups finish.

    Raises:
        BackendError: a store or a model failed; groups that were done are found again by the next job.
    """
    configure(DataContext.get_current())
    role = units[0].role
    data = through(blocks(unit.to_json() for unit in units), pool, _Encoder, (count_attempts(), line, role))
    yield from map(GroupReceipt.from_json, results(data))


def blocks(units: Iterable[str]) -> Any:
    """Make a data set with one unit per block: the piece that is scheduled, retried and checkpointed."""
    rows = [{"unit": unit} for unit in units]
    return ray.data.from_items(rows, override_num_blocks=len(rows))


def results(data: Any) -> Iterator[str]:
    """What workers put into the column ``receipt``, as it comes.

    Raises:
        BackendError: a store, a model or the cluster failed.
    """
    try:
        for batch in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            yield from batch.column("receipt").to_pylist()
    except RayTaskError as error:
        # Our own errors come as they were raised in the worker; anything else is a bug, and keeps its trace.
        raise error.cause if isinstance(error.cause, LightRAGError) else error from None
    except RayError as error:
        reason = str(error).partition("\n")[0]
        raise BackendError(f"Ray lost the job's workers: {reason} What was done is kept: run the job again") from error


def through(data: Any, pool: Pool[Any], worker: type, arguments: tuple[Any, ...]) -> Any:
    """Send a data set's blocks through a pool; ``worker`` is made once in each process, and called with tables."""
    return data.map_batches(
        worker,
        fn_constructor_args=arguments,
        compute=ActorPoolStrategy(size=pool.workers, max_tasks_in_flight_per_actor=2),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
        batch_size=None,
        batch_format="pyarrow",
    )


class _Worker:
    """One worker of a pool: tables in, tables out."""

    def __init__(self, attempts: Any, line: Line, stages: Sequence[StageName], first: bool, last: bool) -> None:
        self._attempts = attempts
        self._station = line.station(*stages)
        self._name = stages[0]
        self._first = first
        self._last = last

    def __call__(self, batch: pa.Table) -> pa.Table:
        require_patience(self._attempts, self._name, batch.column(0))
        if self._first:
            units = [Unit.from_json(text) for text in batch.column("unit").to_pylist()]
            states = [state for unit in units for state in self._station.run(self._station.load(unit))]
        else:
            states = self._station.run(decode(batch))
        return pa.table({"receipt": [Receipt.of(states).to_json()]}) if self._last else encode(states)


class _Encoder:
    """One worker that encodes groups: units in, receipts out. Rows and tensors go straight from and to storage."""

    def __init__(self, attempts: Any, line: Line, role: GroupRole) -> None:
        self._attempts = attempts
        self._station = GroupStation(line, role)

    def __call__(self, batch: pa.Table) -> pa.Table:
        require_patience(self._attempts, "encode", batch.column("unit"))
        units = [GroupUnit.from_json(text) for text in batch.column("unit").to_pylist()]
        return pa.table({"receipt": [self._station.run(unit).to_json() for unit in units]})


def configure(context: Any) -> None:
    """Prepare Ray Data for a job."""
    context.enable_progress_bars = False  # the job shows its own
    context.print_on_execution_start = False
    context.max_errored_blocks = 0  # documents fail one by one, in their own row; a block never fails silently
    context.actor_init_retry_on_errors = False
    context.raise_original_map_exception = True
    # Workers that find no place fail the job; one that is busy with a long document does not.
    context.wait_for_min_actors_s = START_SECONDS
    context.execution_no_progress_timeout_s = -1
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # failures are raised, once


__all__ = [
    "SMALL_JOB_BYTES",
    "Pool",
    "blocks",
    "choose_pools",
    "configure",
    "encode_on_ray",
    "encoding_pool",
    "results",
    "run_on_ray",
    "through",
]
