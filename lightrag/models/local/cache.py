"""Keys and values that the sequences of a running batch have produced; sequences come and go.

Sequences are aligned at their ends, so the next token of each goes into the same column. Knows nothing of memories:
those stand in front of a sequence without being part of it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

_GROWTH = 64


class TailLayer(CacheLayerMixin):
    """One layer's keys and values in buffers with room to grow, shape (sequences, kv_heads, capacity, head_dim).

    transformers' own dynamic layer concatenates, that is copies everything, at every token.
    """

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.length = 0
        """Columns in use."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Take shape, type and device from the first states."""
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append columns; returns views of everything, valid until the next change."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.length + key_states.shape[2]
        if end > self.keys.shape[2]:
            self._resize(end + max(_GROWTH, end // 2 if self.length else 0))
        self.keys[:, :, self.length : end] = key_states
        self.values[:, :, self.length : end] = value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys that the next query sees."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Columns in use."""
        return self.length

    def get_max_length(self) -> int:
        """No limit."""
        return -1

    def keep(self, rows: Tensor, columns: int) -> None:
        """Keep some sequences, and of those the last ``columns`` columns."""
        first = self.length - columns
        self.keys = self.keys[:, :, first : self.length].index_select(0, rows)
        self.values = self.values[:, :, first : self.length].index_select(0, rows)
        self.length = columns

    def join(self, other: TailLayer) -> None:
        """Add the sequences of another layer below, aligned at the ends."""
        length = max(self.length, other.length)
        self.keys = torch.cat([_aligned(self.keys, self.length, length), _aligned(other.keys, other.length, length)])
        self.values = torch.cat(
            [_aligned(self.values, self.length, length), _aligned(other.values, other.length, length)]
        )
        self.length = length

    def _resize(self, capacity: int) -> None:
        self.keys, self.values = (_resized(states, self.length, capacity) for states in (self.keys, self.values))


class TailCache(Cache):
    """The layers of a running batch."""

    def __init__(self, layers: int) -> None:
        super().__init__(layers=[TailLayer() for _ in range(layers)])

    def keep(self, rows: Tensor, columns: int) -> None:
        """Keep some sequences, the longest of which has ``columns`` tokens."""
        for layer in self.layers:
            layer.keep(rows, columns)

    def join(self, other: TailCache) -> None:
        """Add the sequences of another batch below."""
        for mine, theirs in zip(self.layers, other.layers, strict=True):
            mine.join(theirs)


def _resized(states: Tensor, length: int, capacity: int) -> Tensor:
    larger = states.new_empty((*states.shape[:2], capacity, states.shape[3]))
    larger[:, :, :length] = states[:, :, :length]
    return larger


def _aligned(states: Tensor, length: int, columns: int) -> Tensor:
    # Zeros, not empty memory: a hidden NaN times an attention weight of zero is still NaN.
    padding = states.new_zeros((*states.shape[:2], columns - length, states.shape[3]))
    return torch.cat([padding, states[:, :, :length]], dim=2)


__all__ = ["TailCache", "TailLayer"]
