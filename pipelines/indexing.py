"""The index of a version on a worker of the cluster, so that the job's own process never holds it.

No business logic: what is made is :class:`lightrag.ingestion.indexing.IndexStation`, here as in the job's process.
"""

from __future__ import annotations

from typing import Final

import ray
from ray.exceptions import RayError, RayTaskError

from lightrag.errors import BackendError, LightRAGError
from lightrag.ingestion.indexing import IndexReceipt, IndexUnit, index_locally
from lightrag.ingestion.line import Line

SMALL_INDEX_PASSAGES: Final = 20_000
"""Up to so many the job's process makes the index itself: that takes it 200 MB at most, and a worker seconds to start.
"""
RETRIES: Final = 3
"""How often the index is begun anew when its worker dies, before the job fails."""
CPUS: Final = 1.0
"""That the worker claims: it computes in one thread."""


def index_on_ray(unit: IndexUnit, line: Line) -> IndexReceipt:
    """Have gists and index made on the connected cluster.

    Raises:
        NotFoundError: another job came first and took what this one counted on.
        BackendError: a store, a model or the workers failed; documents that were done stay in staging.
    """
    task = ray.remote(num_cpus=CPUS, max_retries=RETRIES)(_index)
    try:
        return IndexReceipt.from_json(ray.get(task.remote(unit.to_json(), line)))
    except RayTaskError as error:
        # Our own errors come as they were raised in the worker; anything else is a bug, and keeps its trace.
        raise error.cause if isinstance(error.cause, LightRAGError) else error from None
    except RayError as error:
        reason = str(error).partition("\n")[0]
        raise BackendError(
            f"Ray lost the worker that makes the index, {1 + RETRIES} times: {reason} It needs memory for the larger "
            f"half of the index of {unit.passages} chunks. What was done is kept: run the job again"
        ) from error


def _index(unit: str, line: Line) -> str:
    with line:
        return index_locally(IndexUnit.from_json(unit), line).to_json()


__all__ = ["CPUS", "RETRIES", "SMALL_INDEX_PASSAGES", "index_on_ray"]
