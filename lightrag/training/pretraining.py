"""Two-stream pre-training of a compressive encoder: predict each window from the latents of those before it.

Source: FlexRAG (arXiv 2409.15699) section 3.2, equations 2 and 3. The language model is frozen; all windows of a text
are predicted in one packed pass instead of one pass each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lightrag.errors import UsageError
from lightrag.latents.decoder import run_packed

Method = Literal["stride", "random", "shuffled"]
"""``stride``: every r-th position; ``random``: sorted draws; ``shuffled``: unsorted draws, as TacZip was released."""


class Chooser(Protocol):
    """Draws one element, as ``numpy.random.Generator`` does."""

    def choice(self, a: Sequence[int]) -> Any:
        """Draw one of the values."""
        ...


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How one text is cut, and what of each window is kept for the windows behind it."""

    bounds: tuple[tuple[int, int], ...]
    """Token range of each window."""
    keep: tuple[tuple[int, ...], ...]
    """Kept positions of every window but the last, counted from the window's first token."""


class TwoStreamLoss(NamedTuple):
    """Loss of one text."""

    loss: Tensor
    """Mean over all predicted tokens; differentiable with respect to the encoder."""
    window_losses: Tensor
    """Mean per predicted window, shape (windows - 1,)."""
    window_tokens: tuple[int, ...]


def plan_windows(
    tokens: int,
    window: int,
    ratios: Sequence[int],
    chooser: Chooser,
    *,
    method: Method = "stride",
    generator: torch.Generator | None = None,
) -> WindowPlan:
    """Cut a text into windows and draw a compression ratio for each.

    Args:
        tokens: length of the text.
        window: tokens per window; the last may be shorter.
        ratios: candidates.
        chooser: draws one ratio per window, the last included although it is never compressed.
        method: which positions are kept.
        generator: of random positions; ``None``: torch's global one.

    Raises:
        UsageError: the text has fewer than two windows, or a ratio keeps nothing of one.
    """
    bounds = [(start, min(start + window, tokens)) for start in range(0, tokens, window)]
    if len(bounds) < 2:
        raise UsageError(f"a text of {tokens} tokens has no second window of {window} to predict")
    drawn = [int(chooser.choice(ratios)) for _ in bounds]
    if max(drawn) > window:
        raise UsageError(f"ratio {max(drawn)} keeps nothing of a window of {window} tokens")
    keep = [
        _positions(end - start, ratio, method, generator)
        for (start, end), ratio in zip(bounds[:-1], drawn, strict=False)
    ]
    return WindowPlan(tuple(bounds), tuple(keep))


def two_stream_loss(
    encoder: Any, language_model: Any, ids: Tensor, plan: WindowPlan, *, encoder_max_length: int = 4096
) -> TwoStreamLoss:
    """Loss of one text under a plan.

    Args:
        encoder: decoder whose states are latents; gradients flow into it.
        language_model: causal LM with ``model`` and ``lm_head``; freeze it with ``requires_grad_(False)``.
        ids: token ids, shape (tokens,).
        plan: from :func:`plan_windows`.
        encoder_max_length: windows are read together until a sequence holds so many tokens.
    """
    states = _latents(encoder, ids, plan, encoder_max_length)
    embed = language_model.get_input_embeddings()
    embeds, rows, targets, lengths = [], [], [], []
    at = 0
    for number, (start, end) in enumerate(plan.bounds[1:], 1):
        before = torch.cat(states[:number])
        embeds.append(torch.cat([before, embed(ids[start:end])]))
        # The last state predicts the window's first token, its last token predicts nothing.
        rows.append(torch.arange(at + len(before) - 1, at + len(before) + end - start - 1, device=ids.device))
        targets.append(ids[start:end])
        lengths.append(len(embeds[-1]))
        at += lengths[-1]
    hidden = run_packed(language_model.model, torch.cat(embeds), lengths, rows=torch.cat(rows))
    losses = F.cross_entropy(language_model.lm_head(hidden).float(), torch.cat(targets), reduction="none")
    sizes = [len(target) for target in targets]
    parts = torch.split(losses, sizes)
    return TwoStreamLoss(losses.mean(), torch.stack([part.mean() for part in parts]), tuple(sizes))


def _positions(length: int, ratio: int, method: Method, generator: torch.Generator | None) -> tuple[int, ...]:
    count = length // ratio
    if method == "stride":
        return tuple(range(ratio - 1, count * ratio, ratio))
    drawn = torch.randperm(length, generator=generator)[:count].tolist()
    return tuple(sorted(drawn) if method == "random" else drawn)


def _latents(encoder: Any, ids: Tensor, plan: WindowPlan, max_length: int) -> list[Tensor]:
    """Kept states per window; windows are grouped into sequences of at least ``max_length`` tokens, the last ended."""
    compressed = plan.bounds[: len(plan.keep)]
    ends, filled = [0], 0
    for start, end in compressed:
        filled += end - start
        if filled >= max_length:
            ends.append(end)
            filled = 0
    last = compressed[-1][1]
    if ends[-1] != last:
        ends.append(last)
    lengths = [end - start for start, end in pairwise(ends)]
    rows = torch.tensor(
        [start + at for (start, _), keep in zip(compressed, plan.keep, strict=True) for at in keep], device=ids.device
    )
    order = torch.argsort(rows)
    states = run_packed(encoder, ids[:last], lengths, rows=rows[order])
    # Back into the order of the plan, which only differs for shuffled positions.
    return list(torch.split(states[torch.argsort(order)], [len(keep) for keep in plan.keep]))


__all__ = ["Chooser", "Method", "TwoStreamLoss", "WindowPlan", "plan_windows", "two_stream_loss"]
