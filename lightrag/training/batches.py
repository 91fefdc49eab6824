"""Which examples make up the batch of a step. Pure arithmetic on the seed, so every worker and every resumed run agree.

Examples that must be computed together come in groups: texts with equally many windows, for instance.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache


def batch_indices(examples: int, batch_size: int, step: int, seed: int) -> list[int]:
    """Examples of a step: every epoch goes through all of them in an order of its own."""
    places = [divmod(place, examples) for place in range(step * batch_size, (step + 1) * batch_size)]
    return [_order(examples, f"{seed}/{epoch}")[at] for epoch, at in places]


def grouped_indices(groups: Sequence[Sequence[int]], batch_size: int, step: int, seed: int) -> list[int]:
    """Examples of a step, all of one group: every epoch goes through all groups.

    Args:
        groups: numbers of the examples in each group; with a single one this is :func:`batch_indices`.
        batch_size: where a group is no multiple of it, its last batch of an epoch is filled up with others of it.
        step: counted from 0.
        seed: of the orders.
    """
    if len(groups) == 1:
        return [groups[0][at] for at in batch_indices(len(groups[0]), batch_size, step, seed)]
    return _batch_of_groups(tuple(map(len, groups)), batch_size, step, seed, groups)


def _batch_of_groups(
    sizes: tuple[int, ...], batch_size: int, step: int, seed: int, groups: Sequence[Sequence[int]]
) -> list[int]:
    batches = [(group, number) for group, size in enumerate(sizes) for number in range(-(-size // batch_size))]
    epoch, at = divmod(step, len(batches))
    group, number = batches[_order(len(batches), f"{seed}/{epoch}/batches")[at]]
    order = _order(sizes[group], f"{seed}/{epoch}/{group}")
    first = number * batch_size
    return [groups[group][order[place % len(order)]] for place in range(first, first + batch_size)]


@lru_cache(maxsize=64)
def _order(count: int, seed: str) -> tuple[int, ...]:
    order = list(range(count))
    random.Random(seed).shuffle(order)  # noqa: S311  # no secret depends on it
    return tuple(order)


__all__ = ["batch_indices", "grouped_indices"]
