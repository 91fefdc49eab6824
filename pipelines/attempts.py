"""How often workers have begun each batch. Ray itself would repeat one that ends its worker for ever.

The counter is a process of its own, so this imports next to nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import ray
from blake3 import blake3

from lightrag.errors import BackendError

if TYPE_CHECKING:
    import pyarrow as pa

RETRIES: Final = 3
"""How often a batch is given to another worker when its worker dies, before the job fails."""


class _Attempts:
    """Counts, in a process of its own."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()

    def begin(self, batch: str) -> int:
        """Note that a batch begins, and return how often it has."""
        self._begun[batch] += 1
        return self._begun[batch]


def count_attempts() -> Any:
    """Start the counter that :func:`require_patience` asks."""
    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Attempts).remote()


def require_patience(attempts: Any, worker: str, names: pa.ChunkedArray) -> None:
    """Fail the job where a batch, known by its units, receipts or documents, has ended its worker too often."""
    batch = blake3("\n".join([worker, *names.to_pylist()]).encode()).hexdigest(16)
    begun = ray.get(attempts.begin.remote(batch))
    if begun > 1 + RETRIES:
        raise BackendError(
            f"Ray lost the job's workers: one batch has ended {begun - 1} of them, one after the other, for want of "
            "memory or by a fault in a native library. What was done is kept: find out from the log of the workers "
            "what it holds, or make batches smaller (ingest.batch_bytes), and run the job again"
        )


__all__ = ["RETRIES", "count_attempts", "require_patience"]
