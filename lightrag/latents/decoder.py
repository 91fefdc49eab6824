"""Runs Llama-like decoders over packed sequences: many sequences in one pass, without a padding token.

It takes the modules of a ``transformers`` decoder (Llama, Mistral, Qwen2, Qwen3) and only replaces how they are
called, so weights keep their published names. It knows nothing of text, ratios or prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightrag.errors import UsageError

SUPPORTED = frozenset({"llama", "mistral", "qwen2", "qwen3"})
"""Model types whose decoder layers have the shape that this module calls."""


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """Keys and values of tokens with which every sequence begins, computed once (an instruction)."""

    layers: tuple[tuple[Tensor, Tensor], ...]
    """Per layer keys and values, each of shape (kv_heads, tokens, head_dim), rotated for positions 0 …"""

    @property
    def tokens(self) -> int:
        """Length of the prefix."""
        return int(self.layers[0][0].shape[1])


def check_supported(model: Any) -> None:
    """Refuse decoders whose layers this module would call wrongly.

    Raises:
        UsageError: the model type is not one of :data:`SUPPORTED`.
    """
    kind = model.config.model_type
    if kind not in SUPPORTED:
        raise UsageError(f"decoders of type {kind!r} are not supported, only {', '.join(sorted(SUPPORTED))}")


def run_packed(
    model: Any,
    ids: Tensor,
    lengths: Sequence[int],
    *,
    prefix: PrefixCache | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """Run a decoder over sequences laid end to end; tokens attend to earlier tokens of their own sequence only.

    Args:
        model: decoder of a supported type.
        ids: token ids of all sequences, shape (tokens,), or their embeddings, shape (tokens, hidden).
        lengths: length of each sequence; they add up to ``tokens``.
        prefix: what every sequence begins with; positions count from its end.
        rows: ascending indices into ``ids`` whose states are wanted; the last layer then computes only those.

    Returns:
        States after the final norm, shape (tokens or len(rows), hidden).
    """
    states, _ = _run(model, ids, lengths, prefix, rows, collect=False)
    return states


def make_prefix(model: Any, ids: Sequence[int]) -> PrefixCache | None:
    """Compute keys and values of a common beginning; ``None`` for an empty one."""
    if not ids:
        return None
    device = model.embed_tokens.weight.device
    with torch.inference_mode():
        _, layers = _run(model, torch.tensor(ids, device=device), [len(ids)], None, None, collect=True)
    return PrefixCache(tuple(layers))


def _run(
    model: Any, ids: Tensor, lengths: Sequence[int], prefix: PrefixCache | None, rows: Tensor | None, *, collect: bool
) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    first = prefix.tokens if prefix else 0
    positions = torch.cat([torch.arange(first, first + length, device=ids.device) for length in lengths])
    hidden = ids if ids.is_floating_point() else model.embed_tokens(ids)  # (tokens, hidden)
    cos, sin = model.rotary_emb(hidden[None], positions[None])  # (1, tokens, head_dim) each
    rotation = (cos[0], sin[0])
    collected = []
    last = len(model.layers) - 1
    for index, layer in enumerate(model.layers):
        before = prefix.layers[index] if prefix else None
        hidden, pair = _layer(layer, hidden, rotation, lengths, before, rows if index == last else None)
        if collect:
            collected.append(pair)
    return model.norm(hidden), collected


def _layer(
    layer: Any,
    hidden: Tensor,
    rotation: tuple[Tensor, Tensor],
    lengths: Sequence[int],
    before: tuple[Tensor, Tensor] | None,
    rows: Tensor | None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    attention = layer.self_attn
    normed = layer.input_layernorm(hidden)
    wanted = normed if rows is None else normed[rows]
    cos, sin = rotation
    query_cos, query_sin = (cos, sin) if rows is None else (cos[rows], sin[rows])
    query = _rotate(_heads(attention, "q", wanted), query_cos, query_sin)  # (heads, rows, head_dim)
    key = _rotate(_heads(attention, "k", normed), cos, sin)  # (kv_heads, tokens, head_dim)
    value = _heads(attention, "v", normed)
    window = _sliding_window(attention)
    mixed = _attend(query, key, value, lengths, before, rows, attention.scaling, window)
    hidden = (hidden if rows is None else hidden[rows]) + attention.o_proj(mixed)
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden)), (key, value)


def _heads(attention: Any, name: str, hidden: Tensor) -> Tensor:
    """Project and split into heads, shape (heads, tokens, head_dim); Qwen3 normalises queries and keys per head."""
    projected = getattr(attention, f"{name}_proj")(hidden).view(hidden.shape[0], -1, attention.head_dim)
    norm = getattr(attention, f"{name}_norm", None)
    return (norm(projected) if norm is not None else projected).transpose(0, 1)


def _rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = states.chunk(2, dim=-1)
    return states * cos + torch.cat((-second, first), dim=-1) * sin


def _sliding_window(attention: Any) -> int | None:
    if hasattr(attention, "sliding_window"):
        return attention.sliding_window
    # Mistral keeps it in its configuration only; Llama has none.
    return getattr(attention.config, "sliding_window", None) if attention.config.model_type == "mistral" else None


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    lengths: Sequence[int],
    before: tuple[Tensor, Tensor] | None,
    rows: Tensor | None,
    scale: float,
    window: int | None,
) -> Tensor:
    """Attend within each sequence; returns (rows, heads * head_dim)."""
    results = []
    start = row = 0
    bounds = torch.cumsum(torch.tensor(lengths), 0)
    counts = list(lengths) if rows is None else _rows_per_sequence(rows, bounds)
    for length, count in zip(lengths, counts, strict=True):
        if not count:
            start += length
            continue
        keys, values = key[:, start : start + length], value[:, start : start + length]
        if before is not None:
            keys, values = torch.cat((before[0], keys), 1), torch.cat((before[1], values), 1)
        places = None if rows is None else rows[row : row + count] - start
        results.append(_attend_one(query[:, row : row + count], keys, values, length, places, scale, window))
        start, row = start + length, row + count
    return torch.cat(results, 1).transpose(0, 1).flatten(1)


def _rows_per_sequence(rows: Tensor, bounds: Tensor) -> list[int]:
    upto = torch.searchsorted(rows.cpu(), bounds)
    return [int(count) for count in torch.diff(upto, prepend=torch.zeros(1, dtype=upto.dtype))]


def _attend_one(
    query: Tensor, keys: Tensor, values: Tensor, length: int, places: Tensor | None, scale: float, window: int | None
) -> Tensor:
    """Causal attention of one sequence; ``places`` are the query rows' positions, ``None`` for all of them."""
    total = keys.shape[1]
    grouped = query.shape[0] != keys.shape[0]
    if places is None and (window is None or total <= window):
        # The kernels' own causal mask is aligned to the first key, so a prefix is matched by as many dummy queries.
        padded = F.pad(query, (0, 0, total - length, 0)) if total > length else query
        mixed = F.scaled_dot_product_attention(
            padded[None], keys[None], values[None], is_causal=True, scale=scale, enable_gqa=grouped
        )
        return mixed[0, :, total - length :]
    device = query.device
    places = torch.arange(length, device=device) if places is None else places
    distance = (places + total - length)[:, None] - torch.arange(total, device=device)[None]
    mask = distance >= 0
    if window is not None:
        mask &= distance < window
    return F.scaled_dot_product_attention(
        query[None], keys[None], values[None], attn_mask=mask[None, None], scale=scale, enable_gqa=grouped
    )[0]


__all__ = ["SUPPORTED", "PrefixCache", "check_supported", "make_prefix", "run_packed"]
