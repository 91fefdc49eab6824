"""Attention in parts: over a shared memory, over own cells, over new tokens; parts are merged exactly.

Knows nothing of layers or caches. A part returns its output and the log-sum-exp of its scores, which is all that is
needed to combine parts as if their keys had been one tensor; so a shared memory is never copied or concatenated.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_FLASH_CUDA_DTYPES = (torch.float16, torch.bfloat16)


class AttentionPart(NamedTuple):
    """Attention over some of the keys."""

    output: Tensor
    """Shape (batch, heads, n, head_dim)."""
    log_sum_exp: Tensor
    """Float32, shape (batch, heads, n)."""


def attend_part(
    queries: Tensor, keys: Tensor, values: Tensor, *, causal: bool = False, bias: Tensor | None = None
) -> AttentionPart:
    """Attend with the device's fused kernel; no score matrix is materialised on CPU and CUDA.

    Args:
        queries: shape (batch, heads, n, head_dim).
        keys: shape (batch, kv_heads, cells, head_dim), at least one cell; heads are a multiple of kv_heads.
        values: like ``keys``.
        causal: query i sees keys 0…i; needs n == cells.
        bias: added to the scores, shape broadcastable to (batch, 1, n, cells), in the dtype of the queries.
    """
    if queries.device.type == "cpu":
        flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        return AttentionPart(*flash(queries, keys, values, is_causal=causal, attn_mask=bias))
    if queries.device.type == "cuda":
        return _attend_cuda(queries, keys, values, causal, bias)
    return _attend_plain(queries, keys, values, causal, bias)


def attend_folded(queries: Tensor, keys: Tensor, values: Tensor) -> AttentionPart:
    """Attend without a mask, the query heads of one key head folded into rows, so that keys are read once.

    Args:
        queries: shape (heads, n, head_dim), contiguous.
        keys: shape (kv_heads, cells, head_dim).
        values: like ``keys``.

    Returns:
        A part with batch size 1 and ``heads`` heads.
    """
    heads, rows, width = queries.shape
    kv_heads = keys.shape[0]
    folded = queries.reshape(1, kv_heads, heads // kv_heads * rows, width)
    output, log_sum_exp = attend_part(folded, keys[None], values[None])
    return AttentionPart(output.reshape(1, heads, rows, width), log_sum_exp.reshape(1, heads, rows))


def merge_parts(parts: list[AttentionPart]) -> AttentionPart:
    """Combine parts over disjoint keys into attention over all of them.

    Each part's output is weighted by its share of the softmax denominator (the rule of FlashAttention, section 3.1).
    """
    if len(parts) == 1:
        return parts[0]
    sums = torch.stack([part.log_sum_exp for part in parts])
    total = sums.logsumexp(0)
    weights = (sums - total).exp().unsqueeze(-1)
    merged = parts[0].output.float() * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        merged += part.output.float() * weight
    return AttentionPart(merged.to(parts[0].output.dtype), total)


def attend_masked(queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor) -> Tensor:
    """Attend with an explicit mask; differentiable. For training and the rarely used attention patterns.

    Args:
        queries: shape (heads, n, head_dim).
        keys: shape (kv_heads, cells, head_dim).
        values: like ``keys``.
        visible: boolean, shape (n, cells).

    Returns:
        Tensor of shape (heads, n, head_dim).
    """
    return torch.nn.functional.scaled_dot_product_attention(
        queries[None], keys[None], values[None], attn_mask=visible[None, None], enable_gqa=True
    )[0]


def bottom_right_causal(rows: int, cells: int, device: torch.device) -> Tensor:
    """Return the mask under which the last of ``rows`` sees all ``cells`` and each earlier row one cell less."""
    return torch.ones(rows, cells, dtype=torch.bool, device=device).tril(cells - rows)


def _attend_cuda(queries: Tensor, keys: Tensor, values: Tensor, causal: bool, bias: Tensor | None) -> AttentionPart:
    rows = queries.shape[2]
    repeat = queries.shape[1] // keys.shape[1]
    if repeat > 1:
        keys, values = keys.repeat_interleave(repeat, 1), values.repeat_interleave(repeat, 1)
    if bias is None and queries.dtype in _FLASH_CUDA_DTYPES and queries.shape[-1] % 8 == 0:
        flash = torch.ops.aten._scaled_dot_product_flash_attention(queries, keys, values, is_causal=causal)
        return AttentionPart(flash[0], flash[1][..., :rows])
    if bias is not None:
        # Biases only come with a few rows over own cells, where a score matrix is small.
        return _attend_plain(queries, keys, values, causal, bias)
    efficient = torch.ops.aten._scaled_dot_product_efficient_attention(
        queries, keys, values, None, True, is_causal=causal
    )
    return AttentionPart(efficient[0], efficient[1][..., :rows])


def _attend_plain(queries: Tensor, keys: Tensor, values: Tensor, causal: bool, bias: Tensor | None) -> AttentionPart:
    repeat = queries.shape[1] // keys.shape[1]
    if repeat > 1:
        keys, values = keys.repeat_interleave(repeat, 1), values.repeat_interleave(repeat, 1)
    scores = (queries * queries.shape[-1] ** -0.5 @ keys.transpose(-1, -2)).float()
    if bias is not None:
        scores = scores + bias
    if causal:
        hidden = bottom_right_causal(queries.shape[2], keys.shape[2], queries.device).logical_not()
        scores = scores.masked_fill(hidden, float("-inf"))
    log_sum_exp = scores.logsumexp(-1)
    weights = (scores - log_sum_exp[..., None]).exp().to(values.dtype)
    return AttentionPart(weights @ values, log_sum_exp)


__all__ = ["AttentionPart", "attend_folded", "attend_masked", "attend_part", "bottom_right_causal", "merge_parts"]
