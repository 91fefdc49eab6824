"""The training loss of a beacon model: window by window, with gradients through the memory.

Knows nothing of data, optimisers or schedules. Gradients flow from later windows into the beacons of earlier ones
through their keys and values, without cutting. Samples with equally many windows are computed together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from lightrag.errors import UsageError
from lightrag.memory.attention import bottom_right_causal
from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.decoder import BeaconDecoder
from lightrag.memory.beacon.plan import Cursor, Step
from lightrag.memory.beacon.ratio import RatioPolicy
from lightrag.memory.beacon.rows import pack_rows, step_expansion_mask, window_positions
from lightrag.memory.kv_memory import BeaconState
from lightrag.memory.rope import move_keys

IGNORED = -100
"""Label of tokens that do not count."""


class LabelledTokens(NamedTuple):
    """One sample."""

    token_ids: Sequence[int] | NDArray[np.int32]
    labels: Sequence[int] | NDArray[np.int32]
    """Like ``token_ids``, not shifted; -100 where a token does not count."""


class WindowedLosses(NamedTuple):
    """Summed negative log-likelihood of each sample, and how many tokens it is of."""

    totals: Tensor
    """Shape (samples,)."""
    tokens: Tensor
    """Shape (samples,)."""

    @property
    def means(self) -> Tensor:
        """Loss per token of each sample, shape (samples,)."""
        return self.totals / self.tokens.clamp(min=1)


class WindowedLoss(NamedTuple):
    """Summed negative log-likelihood and how many tokens it is of; ``total / tokens`` is the loss."""

    total: Tensor
    tokens: int

    @property
    def mean(self) -> Tensor:
        """Loss per token."""
        return self.total / max(self.tokens, 1)


class _Cells:
    """One step's attention: closed cells in front, the step's own behind. Tensors are (batch, heads, cells, width)."""

    def __init__(self, batch: int, keys: list[Tensor], values: list[Tensor], visible: Tensor) -> None:
        self.batch, self.past_keys, self.past_values, self.visible = batch, keys, values, visible
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def store(self, layer: int, keys: Tensor, values: Tensor) -> None:
        self.keys.append(self._unpack(keys))
        self.values.append(self._unpack(values))

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        keys, values = self.keys[layer], self.values[layer]
        if self.past_keys:
            keys = torch.cat((self.past_keys[layer], keys), 2)
            values = torch.cat((self.past_values[layer], values), 2)
        mixed = functional.scaled_dot_product_attention(
            self._unpack(queries), keys, values, attn_mask=self.visible, enable_gqa=True
        )
        return mixed.transpose(0, 1).flatten(1, 2)

    def _unpack(self, packed: Tensor) -> Tensor:
        """From (heads, batch · rows, width)."""
        return packed.reshape(packed.shape[0], self.batch, -1, packed.shape[-1]).transpose(0, 1)


def windowed_loss(
    decoder: BeaconDecoder,
    config: BeaconConfig,
    token_ids: Sequence[int],
    labels: Sequence[int],
    *,
    generator: np.random.Generator | None = None,
    training: bool = True,
    recompute: bool = False,
) -> WindowedLoss:
    """Compute the loss of one sample; see :func:`windowed_losses`."""
    losses = windowed_losses(
        decoder,
        config,
        [LabelledTokens(token_ids, labels)],
        generator=generator,
        training=training,
        recompute=recompute,
    )
    return WindowedLoss(losses.totals[0], int(losses.tokens[0]))


def windowed_losses(
    decoder: BeaconDecoder,
    config: BeaconConfig,
    samples: Sequence[LabelledTokens],
    *,
    generator: np.random.Generator | None = None,
    training: bool = True,
    recompute: bool = False,
) -> WindowedLosses:
    """Compute the loss of samples together (section 4 of the MemoRAG paper; windowed as published).

    Args:
        decoder: with gradients enabled on whatever shall be trained.
        config: window, ratios and placement.
        samples: with equally many windows, see :func:`count_windows`; they share the ratio of each window, which is
            chosen for the longest of them.
        generator: draws ratios; ``None`` draws the published sequence anew for every call.
        training: as in training, the last window gets no beacons, and where beacons are not both interleaved and of
            full coverage the first window does not count.
        recompute: trade time for memory by computing every window again in the backward pass.

    Raises:
        UsageError: a sample is empty, has labels of another length, or other samples have more windows.
    """
    _check(samples, config)
    device = decoder.lm_head.weight.device
    tokens, targets = _rectangle(samples, device)
    policy = RatioPolicy(config, generator)
    steps = Cursor(config, BeaconState(), closed=0, received=0).plan(tokens.shape[1], policy, training=training)
    if training and not (config.placement == "interleave" and config.attention == "full-coverage"):
        targets[:, : steps[0].tokens] = IGNORED
    totals, at = torch.zeros(len(samples), device=device), 0
    keys: list[Tensor] = []
    values: list[Tensor] = []
    for step in steps:
        span = slice(at, at + step.tokens)
        arguments = (decoder, config, step, tokens[:, span], targets[:, span], keys, values)
        if recompute:
            part, keys, values = checkpoint(_window, *arguments, use_reentrant=False)
        else:
            part, keys, values = _window(*arguments)
        totals, at = totals + part, at + step.tokens
    return WindowedLosses(totals, (targets != IGNORED).sum(1))


def count_windows(tokens: int, window: int) -> int:
    """Number of windows of a sample, the last one perhaps shorter."""
    return -(-tokens // window)


def _check(samples: Sequence[LabelledTokens], config: BeaconConfig) -> None:
    for token_ids, labels in samples:
        if not len(token_ids) or len(token_ids) != len(labels):
            raise UsageError(f"a sample needs as many labels as tokens, got {len(labels)} for {len(token_ids)}")
    counts = sorted({count_windows(len(sample.token_ids), config.window) for sample in samples})
    if len(counts) != 1:
        raise UsageError(
            f"samples are computed together where they have equally many windows of {config.window} tokens, "
            f"these have {counts}"
        )


def _rectangle(samples: Sequence[LabelledTokens], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and shifted labels, shape (samples, longest). What fills shorter rows up is seen by nothing before it."""
    longest = max(len(sample.token_ids) for sample in samples)
    tokens = torch.zeros(len(samples), longest, dtype=torch.long)
    targets = torch.full((len(samples), longest), IGNORED)
    for row, (token_ids, labels) in enumerate(samples):
        tokens[row, : len(token_ids)] = torch.as_tensor(token_ids, dtype=torch.long)
        targets[row, : len(labels) - 1] = torch.as_tensor(labels, dtype=torch.long)[1:]
    return tokens.to(device), targets.to(device)


def _window(
    decoder: BeaconDecoder,
    config: BeaconConfig,
    step: Step,
    tokens: Tensor,
    targets: Tensor,
    keys: list[Tensor],
    values: list[Tensor],
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return a window's summed losses, shape (samples,), and the closed cells after it."""
    device, batch = tokens.device, tokens.shape[0]
    closed = keys[0].shape[2] if keys else 0
    table = config.rope.table(closed + step.rows, device)
    positions = window_positions(config, step, closed).to(device)
    temperature = config.rope.query_temperature(positions.repeat(batch))
    rows = pack_rows(
        tokens.flatten(),
        [step] * batch,
        [positions] * batch,
        [table] * batch,
        temperature,
        decoder.lm_head.weight.dtype,
    )
    visible = step_expansion_mask(config, step, closed)
    if visible is None:
        visible = bottom_right_causal(step.rows, closed + step.rows, device)
    cells = _Cells(batch, keys, values, visible.to(device))
    states = decoder(rows, cells)
    counted = (targets != IGNORED).flatten()
    each = functional.cross_entropy(decoder.logits(states[counted]), targets.flatten()[counted], reduction="none")
    sample = torch.arange(batch, device=device).repeat_interleave(tokens.shape[1])[counted]
    loss = torch.zeros(batch, device=device).index_add(0, sample, each)
    if step.keep is None:
        return loss, keys, values
    keep = torch.tensor(step.keep, device=device)
    new = torch.arange(closed, closed + len(keep), device=device)
    moved = [move_keys(layer[:, :, keep], positions[keep], new, table) for layer in cells.keys]
    kept = [layer[:, :, keep] for layer in cells.values]
    if keys:
        moved = [torch.cat(pair, 2) for pair in zip(keys, moved, strict=True)]
        kept = [torch.cat(pair, 2) for pair in zip(values, kept, strict=True)]
    return loss, moved, kept


__all__ = [
    "IGNORED",
    "LabelledTokens",
    "WindowedLoss",
    "WindowedLosses",
    "count_windows",
    "windowed_loss",
    "windowed_losses",
]
