"""Batches as large as the memory that is free allows, and smaller ones where that was too much.

Knows nothing of models: work is a function over a list of items.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from lightrag.errors import BackendError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
R = TypeVar("R")

_LOG = logging.getLogger(__name__)
_SHARE: Final = 0.5
"""Of the free memory that a batch is planned for; the rest is for what the estimate does not see."""
MOST_TOKENS: Final = 65536
"""Beyond, a batch gains no speed."""
_CPU_SIGNS: Final = ("can't allocate memory", "not enough memory")


def free_bytes(device: torch.device) -> int:
    """Bytes that may be allocated on a device now."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        # What torch holds and does not use is free too.
        return int(free) + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    import psutil

    return int(psutil.virtual_memory().available)


class TokenBatches:
    """Runs work over many items of known sizes, never more tokens at once than fit.

    The budget is found from the free memory at the first run, halved whenever a batch runs out of memory all the same,
    and then kept.

    Args:
        token_bytes: bytes that one token takes while the work is done.
        free: says how many bytes are free.
    """

    def __init__(self, token_bytes: int, free: Callable[[], int]) -> None:
        self._token_bytes = token_bytes
        self._free = free
        self.budget = 0
        """Tokens of a batch; 0 before the first one."""

    def run(self, items: Sequence[T], sizes: Sequence[int], work: Callable[[Sequence[T]], Sequence[R]]) -> list[R]:
        """Work on all items; results in their order.

        Args:
            items: what to work on.
            sizes: tokens of each, results included.
            work: gets some items, and gives as many results.

        Raises:
            BackendError: one item alone does not fit into memory.
        """
        if not self.budget:
            self.budget = max(1, min(int(self._free() * _SHARE) // self._token_bytes, MOST_TOKENS))
        results: dict[int, R] = {}
        # Items of like length together: those that end early leave the others' batch small.
        waiting = sorted(range(len(items)), key=lambda index: sizes[index], reverse=True)
        while waiting:
            batch = waiting[: self._fitting([sizes[index] for index in waiting])]
            try:
                done = work([items[index] for index in batch])
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(sum(sizes[index] for index in batch), len(batch), error)
                continue
            results.update(zip(batch, done, strict=True))
            waiting = waiting[len(batch) :]
        return [results[index] for index in range(len(items))]

    def _fitting(self, sizes: Sequence[int]) -> int:
        total = 0
        for count, size in enumerate(sizes):
            total += size
            if count and total > self.budget:
                return count
        return len(sizes)

    def _shrink(self, tokens: int, items: int, error: Exception) -> None:
        if items == 1:
            raise BackendError(
                f"one text of {tokens} tokens does not fit into memory: use a smaller model or dtype, fewer "
                f"encode_workers, or a device with more memory ({error})"
            ) from error
        self.budget = max(1, min(self.budget, tokens) // 2)
        _LOG.info("out of memory with a batch of %d tokens; going on with %d", tokens, self.budget)
        _release()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on any device."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _CPU_SIGNS)


def _release() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def batched(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut into runs of ``size`` items; the last one may be shorter."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


__all__ = ["MOST_TOKENS", "TokenBatches", "batched", "free_bytes", "is_out_of_memory"]
