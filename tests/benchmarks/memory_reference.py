"""The published way of using a KV memory, as the thing to beat: concatenate, rotate and copy in every step.

It runs on the product's own weights, so that only the handling of the cache differs. Per step and layer it puts sink,
memory and open window together, puts the new cells behind, rotates all keys again, repeats them for every query head
and builds a dense mask; a question starts with a deep copy of the memory; logits are computed for every row.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lightrag.memory.beacon.decoder import BeaconDecoder
from lightrag.memory.beacon.model import BeaconModel


class PublishedStyle:
    """A stateful model over one memory of unrotated cells."""

    def __init__(self, model: BeaconModel, cells: int, seed: int = 0) -> None:
        self.model, self.decoder = model, model.decoder
        shape = model.config.cache_shape
        generator = torch.Generator().manual_seed(seed)

        def draw(count: int) -> Tensor:
            size = (1, shape.kv_heads, count, shape.head_dim)
            return torch.randn(size, generator=generator).to(model.dtype)

        self.memory: list[list[tuple[Tensor, Tensor]]] = [
            [(draw(count), draw(count)) for count in (0, cells, 0)] for _ in range(shape.layers)
        ]
        table = model.config.rope.table(model.config.rope.max_positions)
        angles = table.angles(torch.arange(model.config.rope.max_positions))
        both = torch.cat((angles, angles), -1)
        self.cos, self.sin = both.cos(), both.sin()

    def ask(self, question: list[int], count: int) -> list[int]:
        """Answer one question greedily from a copy of the memory."""
        state = copy.deepcopy(self.memory)
        answer, pending = [], question
        for _ in range(count):
            logits = self.step(pending, state)
            pending = [int(logits[-1].argmax())]
            answer += pending
        return answer

    @torch.inference_mode()
    def step(self, ids: list[int], state: list[list[tuple[Tensor, Tensor]]]) -> Tensor:
        """Read tokens without compressing them; returns float32 logits of all of them."""
        decoder: BeaconDecoder = self.decoder
        states = decoder.model.embed_tokens(torch.tensor([ids]))
        for index, layer in enumerate(decoder.model.layers):
            states = states + self._attend(layer, layer.input_layernorm(states), state[index])  # type: ignore[operator]
            states = states + layer.mlp(layer.post_attention_layernorm(states))  # type: ignore[operator]
        return decoder.lm_head(decoder.model.norm(states)).float()[0]

    def _attend(self, layer: Any, states: Tensor, cells: list[tuple[Tensor, Tensor]]) -> Tensor:
        attention, rows = layer.self_attn, states.shape[1]
        query, key, value = (
            getattr(attention, f"{name}_proj")(states).view(1, rows, -1, attention.head_dim).transpose(1, 2)
            for name in ("q", "k", "v")
        )
        past = [torch.cat([part[side] for part in cells], 2) for side in (0, 1)]
        keys, values = torch.cat((past[0], key), 2), torch.cat((past[1], value), 2)
        total = keys.shape[2]
        cos, sin = (side[torch.arange(total)].to(keys.dtype)[None, None] for side in (self.cos, self.sin))
        query = query * cos[:, :, -rows:] + _half(query) * sin[:, :, -rows:]
        rotated = keys * cos + _half(keys) * sin
        mask = torch.full((rows, total), torch.finfo(keys.dtype).min, dtype=keys.dtype).triu(total - rows + 1)
        repeat = attention.heads // attention.kv_heads
        mixed = functional.scaled_dot_product_attention(
            query, rotated.repeat_interleave(repeat, 1), values.repeat_interleave(repeat, 1), attn_mask=mask
        )
        cells[2] = (torch.cat((cells[2][0], key), 2), torch.cat((cells[2][1], value), 2))
        output: Tensor = attention.o_proj(mixed.transpose(1, 2).flatten(2))
        return output


def _half(states: Tensor) -> Tensor:
    first, second = states.chunk(2, -1)
    return torch.cat((-second, first), -1)
