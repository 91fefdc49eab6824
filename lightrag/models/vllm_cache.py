"""How much memory a vLLM engine on the CPU keeps for its cache, where nobody said.

vLLM itself would take nine tenths of the machine, and not start where other processes have some of that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final

import psutil

_SHARE: Final = 4
"""One part in so many of the memory that is free."""
_SMALLEST: Final = 256 * 1024**2


def leaves_cache_open(arguments: Mapping[str, Any]) -> bool:
    """Whether neither the engine's arguments nor the environment say how large its cache is."""
    said = {"kv_cache_memory_bytes", "gpu_memory_utilization"} & arguments.keys()
    return not said and not os.environ.get("VLLM_CPU_KVCACHE_SPACE")


def cpu_cache_bytes() -> int:
    """A quarter of the memory that is free now."""
    return max(int(psutil.virtual_memory().available) // _SHARE, _SMALLEST)


__all__ = ["cpu_cache_bytes", "leaves_cache_open"]
