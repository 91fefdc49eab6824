"""FlexRAG's likelihood-based choice of important tokens, defects included: an iterative pass of LLMLingua.

It compresses the encoder input window by window and then looks for the surviving ids in the input. Two published
defects are kept: the token *before* a surprising one survives, and whatever lies behind the last full window survives
whole. For importance by surprisal without them see :class:`lightrag.latents.importance.SurprisalImportance`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import UsageError

Losses = Callable[[Sequence[int]], NDArray[np.float32]]
"""Surprisal of the second, third, … token of a sequence, in nats; one value fewer than tokens."""

WINDOW = 200
"""Tokens that are compressed at a time."""


def important_tokens(
    ids: Sequence[int], losses: Losses, proportion: float, *, window: int = WINDOW, leading: int = 1
) -> list[int]:
    """Positions that survive, ascending.

    Args:
        ids: an encoder input, BOS and EOS included.
        losses: of the language model.
        proportion: share of the tokens that is aimed at.
        window: tokens that are compressed at a time.
        leading: positions at the beginning that are never important (BOS).

    Raises:
        UsageError: the proportion is not between 0 and 1.
    """
    if not 0 < proportion < 1:
        raise UsageError(f"proportion must lie between 0 and 1, not {proportion}")
    survivors = _compress(list(ids), losses, proportion * len(ids), window)
    return [position for position in _match(survivors, ids) if position >= leading]


def _compress(ids: list[int], losses: Losses, target: float, window: int) -> list[int]:
    ratio = max(min(1.0, target / (len(ids) + 3)), 0.0)
    deltas = _window_lengths(len(ids) + 2, window)
    known = losses(ids)
    end = min(window, len(ids))
    for step, delta in enumerate(deltas):
        if end > len(ids):
            break
        if step:
            known[: end - 1] = losses(ids[:end])
        keep = _keep(known, ratio, end - window + delta, delta)
        ids = [token for token, kept in zip(ids, keep, strict=True) if kept]
        known = known[keep[:-1]]
        reached = end - window + delta
        end = reached - int((~keep[:reached]).sum()) + window
    return ids


def _keep(known: NDArray[np.float32], ratio: float, end: int, size: int) -> NDArray[np.bool_]:
    """Which tokens stay; slices with negative bounds are meant as Python means them, as in the released code."""
    rank = max(0, min(len(known) - 1, int(len(known) * ratio) - 1))
    threshold = np.sort(known)[::-1][rank]
    # One value per token, but a token's own value stands one place further left.
    keep = np.concatenate([known > threshold, known[:1] > 0])
    keep[end:] = True
    keep[: end - size] = True
    return keep


def _window_lengths(total: int, window: int) -> list[int]:
    if 1 + total < window:
        return [total]
    lengths, rest = [window - 1], 1 + total - window
    if rest > window:
        lengths += [window] * (rest // window)
        rest %= window
    return [*lengths, rest] if rest else lengths


def _match(survivors: Sequence[int], ids: Sequence[int]) -> list[int]:
    """Positions of the survivors, each at its first occurrence behind the one before."""
    positions, at = [], 0
    for token in survivors:
        while ids[at] != token:
            at += 1
        positions.append(at)
        at += 1
    return positions


__all__ = ["WINDOW", "Losses", "important_tokens"]
