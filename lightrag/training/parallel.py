"""The workers of a run: processes that compute parts of the same batch and keep equal weights.

Knows nothing of who started them; where no process group of ``torch.distributed`` exists there is one worker. Gradients
are summed once per step, after all parts of a worker, instead of once per part.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

_BUCKET_BYTES = 64 * 1024 * 1024
"""Gradients are summed in messages of about this size: few enough to be quick, small enough to overlap."""


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among the workers of a run."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Workers:
        """The process group that this process belongs to, or this process alone."""
        if not (dist.is_available() and dist.is_initialized()):
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this worker writes what is written once."""
        return self.rank == 0

    def own(self, parts: int) -> range:
        """Which of so many parts this worker computes."""
        return range(self.rank, parts, self.count)

    def wait(self) -> None:
        """Return when all workers have come here."""
        if self.count > 1:
            dist.barrier()

    def sum_values(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Sum each value over all workers, in double precision."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.tolist()

    def agree(self, value: int, device: torch.device) -> bool:
        """Whether all workers have the same value; all get the same answer."""
        if self.count == 1:
            return True
        bounds = torch.tensor([value, -value], device=device)
        dist.all_reduce(bounds, op=dist.ReduceOp.MAX)
        most, least = bounds.tolist()
        return bool(most == -least)

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sum the gradients of all workers; parameters that had no part in the loss get zeros."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if self.count == 1:
            return
        # A message is on its way while the next one is packed.
        sent = []
        for bucket in _buckets(parameters):
            flat = torch.cat([_gradient(parameter).flatten() for parameter in bucket])
            sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, handle in sent:
            handle.wait()
            for parameter, part in zip(bucket, torch.split(flat, [item.numel() for item in bucket]), strict=True):
                _gradient(parameter).copy_(part.view_as(parameter))


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None  # noqa: S101  # filled in before
    return parameter.grad


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Cut parameters, in order, into runs of one type and limited size."""
    bucket: list[Tensor] = []
    filled = 0
    for parameter in parameters:
        size = parameter.numel() * parameter.element_size()
        if bucket and (filled + size > _BUCKET_BYTES or parameter.dtype != bucket[0].dtype):
            yield bucket
            bucket, filled = [], 0
        bucket.append(parameter)
        filled += size
    if bucket:
        yield bucket


__all__ = ["Workers"]
