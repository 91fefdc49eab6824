"""Attention over a memory that many rows share, without copying it: the memory and each row's own keys are attended
separately, and the two parts are merged exactly. Knows nothing of batches, tokens or files.

Registered with transformers under :data:`ATTENTION`, so any model that takes an attention backend can use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

ATTENTION: Final = "lightrag_shared_prefix"
_SCORES: Final = 1 << 25
"""Scores computed at once where no fused kernel returns its log-sum-exp (128 MiB of float32)."""


class Part(NamedTuple):
    """Attention over some of the keys, and what is needed to merge it with attention over others."""

    output: Tensor
    """Shape (batch, heads, rows, head_dim)."""
    log_sum_exp: Tensor
    """Of the scores; float32, shape (batch, heads, rows)."""


class SharedMemory(NamedTuple):
    """A memory and the rows of the batch that continue it."""

    layers: Sequence[tuple[Tensor, Tensor]]
    """Keys and values of each layer, (kv_heads, cells, head_dim)."""
    rows: Tensor | None
    """Indices into the batch; ``None`` for all of it."""


class Prefix:
    """The memories in front of one batch; passed to the model's forward as ``prefix``."""

    def __init__(self, memories: Sequence[SharedMemory]) -> None:
        self.memories = tuple(memories)
        self.layers_seen: set[int] = set()
        """Layers that attended to it; a model that drops the argument would otherwise ignore its memory silently."""


def attend(queries: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor | None = None) -> Part:
    """Attend to some keys and return the log-sum-exp of the scores as well.

    Args:
        queries: shape (batch, heads, rows, head_dim).
        keys: shape (batch, heads, cells, head_dim).
        values: shape (batch, heads, cells, value_dim).
        scale: factor on the scores.
        mask: true where a row sees a cell, broadcastable to (batch, heads, rows, cells).
    """
    if queries.device.type == "cpu":
        bias = None if mask is None else torch.zeros_like(mask, dtype=queries.dtype).masked_fill(~mask, float("-inf"))
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return Part(*flash(queries, keys, values, 0.0, False, attn_mask=bias, scale=scale))
    if mask is None and queries.dtype in (torch.float16, torch.bfloat16) and queries.shape[-1] % 8 == 0:
        flash = torch.ops.aten._scaled_dot_product_flash_attention
        output, log_sum_exp = flash(queries, keys, values, 0.0, False, scale=scale)[:2]
        return Part(output, log_sum_exp[..., : queries.shape[2]])
    step = max(1, _SCORES // (queries.shape[0] * queries.shape[1] * keys.shape[2]))
    parts = [
        _attend_plainly(
            queries[:, :, at : at + step], keys, values, scale, mask if mask is None else mask[:, :, at : at + step]
        )
        for at in range(0, queries.shape[2], step)
    ]
    return Part(torch.cat([part.output for part in parts], 2), torch.cat([part.log_sum_exp for part in parts], 2))


def merge(first: Part, second: Part) -> Tensor:
    """Combine attention over two disjoint sets of keys into attention over both (FlashAttention, section 3.1)."""
    total = torch.logaddexp(first.log_sum_exp, second.log_sum_exp)
    share = (first.log_sum_exp - total).exp().unsqueeze(-1)
    return (first.output.float() * share + second.output.float() * (1 - share)).to(first.output.dtype)


def shared_prefix_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    prefix: Prefix | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' backends do, and also to the memories in ``prefix``.

    Args:
        module: the attention layer, which knows its ``layer_idx``.
        query: shape (batch, heads, rows, head_dim), rotated for positions behind the memory.
        key: the rows' own keys, shape (batch, kv_heads, cells, head_dim).
        value: like ``key``.
        attention_mask: true where a row sees an own cell, shape (batch, 1, rows, cells).
        scaling: factor on the scores.
        dropout: must be 0 with a memory.
        prefix: memories in front of rows; without, this is the ordinary SDPA backend.
        kwargs: handed on to it.

    Returns:
        Output of shape (batch, rows, heads, head_dim), and ``None`` for weights.
    """
    if prefix is None or not prefix.memories:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    layer = int(module.layer_idx)  # type: ignore[arg-type]  # nn.Module attributes are typed as tensors or modules
    prefix.layers_seen.add(layer)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    own = _attend_own(query, key, value, scale, attention_mask)
    output = own.output
    for memory in prefix.memories:
        keys, values = memory.layers[layer]
        rows = slice(None) if memory.rows is None else memory.rows
        part = _attend_shared(query[rows], keys, values, scale)
        merged = merge(part, Part(own.output[rows], own.log_sum_exp[rows]))
        output = merged if memory.rows is None else output.index_copy(0, memory.rows, merged)
    return output.transpose(1, 2).contiguous(), None


def register() -> None:
    """Make transformers know the backend; its masks are those of SDPA."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(ATTENTION, shared_prefix_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def _attend_own(query: Tensor, key: Tensor, value: Tensor, scale: float, mask: Tensor | None) -> Part:
    batch, heads, rows, width = query.shape
    kv_heads = key.shape[1]
    if mask is None:
        # transformers leaves out the mask of a plain causal block, and of a single row that sees everything.
        mask = torch.ones(rows, key.shape[2], dtype=torch.bool, device=query.device).tril(key.shape[2] - rows)[
            None, None
        ]
    # Query heads of one key head become rows, so that keys are not repeated.
    folded = query.reshape(batch, kv_heads, heads // kv_heads * rows, width)
    part = attend(folded, key, value, scale, mask.repeat(1, 1, heads // kv_heads, 1))
    return Part(part.output.reshape(batch, heads, rows, -1), part.log_sum_exp.reshape(batch, heads, rows))


def _attend_shared(query: Tensor, keys: Tensor, values: Tensor, scale: float) -> Part:
    """All rows of the batch read one memory in one pass, as if they were rows of one sequence."""
    batch, heads, rows, width = query.shape
    kv_heads = keys.shape[0]
    group = heads // kv_heads
    folded = query.reshape(batch, kv_heads, group * rows, width).transpose(0, 1)
    part = attend(folded.reshape(1, kv_heads, batch * group * rows, width), keys[None], values[None], scale)
    output = part.output.reshape(kv_heads, batch, group * rows, -1).transpose(0, 1)
    log_sum_exp = part.log_sum_exp.reshape(kv_heads, batch, group * rows).transpose(0, 1)
    return Part(output.reshape(batch, heads, rows, -1), log_sum_exp.reshape(batch, heads, rows))


def _attend_plainly(queries: Tensor, keys: Tensor, values: Tensor, scale: float, mask: Tensor | None) -> Part:
    scores = (queries @ keys.transpose(-1, -2)).float() * scale
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    log_sum_exp = scores.logsumexp(-1)
    weights = (scores - log_sum_exp[..., None]).exp()
    return Part(weights.to(values.dtype) @ values, log_sum_exp)


__all__ = ["ATTENTION", "Part", "Prefix", "SharedMemory", "attend", "merge", "register", "shared_prefix_attention"]
