"""The transformer of Qwen2 and Mistral with beacon projections, in plain torch.

Knows nothing of windows or caches: it gets rows and a place to attend to. Parameter names are those of the published
checkpoints, so ``state_dict()`` is the file format. Rows travel grouped, real rows first and beacon rows last, so that
each projection touches only the rows it is for; attention sees them in sequence order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.rope import rotate


class AttentionCache(Protocol):
    """Where a layer puts its new cells and looks for old ones; rows are in sequence order."""

    def store(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Take the new cells of a layer, shape (kv_heads, rows, head_dim), keys rotated."""

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """Attend for rotated queries of shape (heads, rows, head_dim)."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Positions and order of the rows of one step."""

    token_ids: Tensor
    """Of the real rows, in order; shape (real,)."""
    beacons: int
    order: Tensor | None
    """Grouped index of each row in sequence order; ``None`` where the orders are equal."""
    inverse: Tensor | None
    """Sequence index of each row in grouped order."""
    cos: Tensor
    """Shape (rows, head_dim / 2), in sequence order."""
    sin: Tensor
    query_factor: Tensor | None = None
    """Temperature of each query, shape (rows, 1), in sequence order."""

    @property
    def real(self) -> int:
        """How many rows are real tokens."""
        return self.token_ids.shape[0]


class RMSNorm(nn.Module):
    """Root-mean-square normalisation with float32 statistics."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, states: Tensor) -> Tensor:
        """Normalise the last dimension."""
        wide = states.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(states.dtype)


class BeaconAttention(nn.Module):
    """Self-attention whose projections have beacon versions where the checkpoint has them."""

    def __init__(self, config: BeaconConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = config.heads, config.kv_heads, config.head_dim
        query_size, kv_size = config.heads * config.head_dim, config.kv_heads * config.head_dim
        sizes = {
            "q": (config.hidden_size, query_size, config.has_bias),
            "k": (config.hidden_size, kv_size, config.has_bias),
            "v": (config.hidden_size, kv_size, config.has_bias),
            "o": (query_size, config.hidden_size, False),
        }
        for name, (inputs, outputs, bias) in sizes.items():
            self.add_module(f"{name}_proj", nn.Linear(inputs, outputs, bias=bias))
            if name in config.params:
                self.add_module(f"beacon_{name}_proj", nn.Linear(inputs, outputs, bias=bias))

    def store_cells(self, states: Tensor, rows: Rows, cache: AttentionCache, layer: int) -> None:
        """Compute the new keys and values of grouped ``states`` and hand them to the cache."""
        keys = self._heads("k", states, rows, self.kv_heads)
        values = self._heads("v", states, rows, self.kv_heads)
        cache.store(layer, rotate(keys, rows.cos, rows.sin), values)

    def forward(self, states: Tensor, rows: Rows, cache: AttentionCache, layer: int) -> Tensor:
        """Attend; grouped rows in, grouped rows out, shape (rows, hidden)."""
        self.store_cells(states, rows, cache, layer)
        queries = rotate(self._heads("q", states, rows, self.heads), rows.cos, rows.sin)
        if rows.query_factor is not None:
            queries = queries * rows.query_factor
        mixed = cache.attend(layer, queries).transpose(0, 1).flatten(1)
        return self._project("o", mixed if rows.inverse is None else mixed[rows.inverse], rows)

    def _heads(self, name: str, states: Tensor, rows: Rows, heads: int) -> Tensor:
        """Project grouped rows and return them in sequence order, shape (heads, rows, head_dim)."""
        projected = self._project(name, states, rows)
        if rows.order is not None:
            projected = projected[rows.order]
        return projected.view(-1, heads, self.head_dim).transpose(0, 1)

    def _project(self, name: str, states: Tensor, rows: Rows) -> Tensor:
        ordinary: nn.Linear = self.get_submodule(f"{name}_proj")  # type: ignore[assignment]  # built as one above
        beacon = self._modules.get(f"beacon_{name}_proj")
        if beacon is None or rows.beacons == 0:
            return ordinary(states)
        return torch.cat((ordinary(states[: rows.real]), beacon(states[rows.real :])))


class GatedMLP(nn.Module):
    """SwiGLU feed-forward block."""

    def __init__(self, config: BeaconConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """Transform each row."""
        return self.down_proj(functional.silu(self.gate_proj(states)) * self.up_proj(states))


class BeaconLayer(nn.Module):
    """One pre-norm decoder layer."""

    def __init__(self, config: BeaconConfig) -> None:
        super().__init__()
        self.self_attn = BeaconAttention(config)
        self.mlp = GatedMLP(config)
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, states: Tensor, rows: Rows, cache: AttentionCache, layer: int) -> Tensor:
        """Transform grouped rows of shape (rows, hidden)."""
        states = states + self.self_attn(self.input_layernorm(states), rows, cache, layer)
        return states + self.mlp(self.post_attention_layernorm(states))


class BeaconBackbone(nn.Module):
    """Embeddings, layers and the final norm."""

    def __init__(self, config: BeaconConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.beacon_embed_tokens = nn.Embedding(1, config.hidden_size)
        self.layers = nn.ModuleList(BeaconLayer(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, rows: Rows, cache: AttentionCache, *, cells_only: bool) -> Tensor:
        """Run all layers; see :meth:`BeaconDecoder.forward`."""
        states = self.embed_tokens(rows.token_ids)
        if rows.beacons:
            states = torch.cat((states, self.beacon_embed_tokens.weight.expand(rows.beacons, -1)))
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, BeaconLayer)  # noqa: S101  # ModuleList forgets the type
            if cells_only and index == last:
                # Nobody will look at the rows, only at the cells: the last layer's attention and MLP serve nothing.
                layer.self_attn.store_cells(layer.input_layernorm(states), rows, cache, index)
                return states[:0]
            states = layer(states, rows, cache, index)
        return states[: rows.real]


class BeaconDecoder(nn.Module):
    """The whole model."""

    def __init__(self, config: BeaconConfig) -> None:
        super().__init__()
        self.model = BeaconBackbone(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, rows: Rows, cache: AttentionCache, *, cells_only: bool = False) -> Tensor:
        """Run one step.

        Args:
            rows: of all sequences.
            cache: takes the new cells and answers attention.
            cells_only: compute nothing but cells.

        Returns:
            Hidden states of the real rows in order, before the final norm, shape (real, hidden); empty for
            ``cells_only``.
        """
        return self.model(rows, cache, cells_only=cells_only)

    def logits(self, states: Tensor) -> Tensor:
        """Return float32 logits of shape (rows, vocabulary) for hidden states of :meth:`forward`."""
        return self.lm_head(self.model.norm(states)).float()


__all__ = ["AttentionCache", "BeaconDecoder", "Rows"]
