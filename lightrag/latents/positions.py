"""Which positions of a document stand for it at a given size, so that every size contains all smaller ones.

A state stands for its own token and those before it, back to the kept position before. The last position is always
kept, so every token is covered. At a power of two ``r`` the kept positions are those of the published stride:
``r - 1, 2r - 1, …`` and the last; sizes in between fill the next level in a spread-out order.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import UsageError

Positions = NDArray[np.int64]
"""Positions of a document's tokens, from 0."""


@lru_cache(maxsize=4096)
def nested_order(tokens: int) -> Positions:
    """All positions in the order in which they are worth keeping, shape (tokens,); read-only.

    The first ``ceil(tokens / r)`` are the published selection at every ``r`` that is a power of two.
    """
    levels = [np.array([tokens - 1] if tokens else [], dtype=np.int64)]
    stride = 1 << (tokens.bit_length() - 1) if tokens else 0
    while stride:
        fresh = np.arange(stride, tokens + 1, 2 * stride, dtype=np.int64) - 1  # odd multiples, less one
        fresh = fresh[fresh != tokens - 1]
        levels.append(fresh[_spread(len(fresh))])
        stride >>= 1
    order = np.concatenate(levels)
    order.flags.writeable = False
    return order


def kept_positions(tokens: int, count: int) -> Positions:
    """The ``count`` positions that stand for a document, ascending.

    Raises:
        UsageError: more positions than tokens are asked for, or a negative number.
    """
    if not 0 <= count <= tokens:
        raise UsageError(f"between 0 and {tokens} states can stand for {tokens} tokens, not {count}")
    return np.sort(nested_order(tokens)[:count])


def count_at_ratio(tokens: int, ratio: float) -> int:
    """States that stand for a document at a ratio, any real number from 1; at least one for a document with tokens.

    Raises:
        UsageError: the ratio is below 1 or not a number.
    """
    if not ratio >= 1:
        raise UsageError(f"a compression ratio must be at least 1, not {ratio}")
    return min(tokens, max(1, ceil(tokens / ratio))) if tokens else 0


def _spread(count: int) -> Positions:
    """Indices 0 … count-1 in bit-reversed order, so that every beginning of it is spread over the whole range."""
    width = max(1, (count - 1).bit_length())
    indices = np.arange(1 << width, dtype=np.int64)
    reversed_bits = np.zeros_like(indices)
    for bit in range(width):
        reversed_bits |= ((indices >> bit) & 1) << (width - 1 - bit)
    return reversed_bits[reversed_bits < count]


__all__ = ["Positions", "count_at_ratio", "kept_positions", "nested_order"]
