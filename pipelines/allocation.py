"""Memory that a job's own process has freed goes back to the system, so that it does not grow with what passes it."""

from __future__ import annotations

import ctypes
from typing import Final

import pyarrow as pa

# Options of mallopt(3), which glibc has.
_TRIM_THRESHOLD: Final = (-1, 1024 * 1024)
_MMAP_THRESHOLD: Final = (-3, 256 * 1024)
_ARENAS: Final = (-8, 1)


def give_arrow_memory_back() -> None:
    """Let the system allocate what Arrow holds in this process.

    Arrow's own allocator keeps what was freed, so that a process which writes one large file after the other grows.
    """
    pa.set_memory_pool(pa.system_memory_pool())


def give_memory_back() -> None:
    """Have all freed memory given back at once, in a process that computes nothing itself.

    The C library keeps large buffers for the next ones, and pieces of them in every thread. Tensors are faster for it;
    a process that only passes tables on is just larger.
    """
    give_arrow_memory_back()
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is not None:
        for option, value in (_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENAS):
            tune(option, value)


__all__ = ["give_arrow_memory_back", "give_memory_back"]
