"""Eight-bit cells: keys scaled per channel, values per cell.

Keys have channels that are large in every cell, values have cells that are large in every channel (KIVI, section 3.1);
so each gets the scale that its outliers share. Half the size of bfloat16, symmetric, without zero points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_LARGEST = 127


class Quantised(NamedTuple):
    """Integers and what one of them is worth."""

    cells: Tensor
    """Int8, shape (kv_heads, cells, head_dim)."""
    scale: Tensor
    """Float32; for keys (kv_heads, 1, head_dim), for values (kv_heads, cells, 1)."""


def quantise_keys(keys: Tensor) -> Quantised:
    """Quantise keys of shape (kv_heads, cells, head_dim)."""
    return _quantise(keys, dim=1)


def quantise_values(values: Tensor) -> Quantised:
    """Quantise values of shape (kv_heads, cells, head_dim)."""
    return _quantise(values, dim=2)


def restore(quantised: Quantised, dtype: torch.dtype) -> Tensor:
    """Return the cells in ``dtype``, off by at most half a scale each."""
    return (quantised.cells.float() * quantised.scale).to(dtype)


def _quantise(cells: Tensor, dim: int) -> Quantised:
    wide = cells.float()
    if wide.numel() == 0:
        shape = [1 if axis == dim else size for axis, size in enumerate(wide.shape)]
        return Quantised(wide.to(torch.int8), torch.ones(shape))
    scale = wide.abs().amax(dim, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny * _LARGEST) / _LARGEST
    return Quantised((wide / scale).round().clamp(-_LARGEST, _LARGEST).to(torch.int8), scale)


__all__ = ["Quantised", "quantise_keys", "quantise_values", "restore"]
