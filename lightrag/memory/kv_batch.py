"""The working cache of a batch: shared frozen memories in front, each sequence's own cells behind.

Knows nothing of layers' weights, tokens or beacons. Rows of all sequences are packed one after the other, without
padding; every sequence has its own length. Frozen memories are only read, so any number of batches share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightrag.memory.attention import (
    AttentionPart,
    attend_folded,
    attend_masked,
    attend_part,
    merge_parts,
)

_PADDED_ROWS = 16
"""Up to so many new rows per sequence one padded kernel call for all beats one call per sequence."""


class CacheShape(NamedTuple):
    """What the cache of a model looks like."""

    layers: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class _Frozen:
    """A memory's layers, of which the first ``visible`` cells are seen."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    visible: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which packed row belongs to which sequence in the step under way."""

    rows: tuple[int, ...]
    starts: tuple[int, ...]
    active: tuple[int, ...]
    groups: tuple[tuple[_Frozen, Tensor | None], ...]
    """Frozen memories with the packed rows that see them; ``None`` for all rows."""
    padded: tuple[Tensor, Tensor] | None
    """For short steps: row index of each padded place, and the bias that hides later cells and padding."""
    masks: tuple[Tensor | None, ...]


class KVBatch:
    """A batch of sequences over frozen memories.

    Use per step: :meth:`begin`, then per layer :meth:`store` and :meth:`attend`, then :meth:`finish`.

    Args:
        shape: of the model's cache.
        memories: one per sequence: per-layer keys and values of shape (kv_heads, cells, head_dim), or ``None``.
        dtype: of own cells.
        device: of own cells.
    """

    def __init__(
        self,
        shape: CacheShape,
        memories: Sequence[tuple[tuple[Tensor, ...], tuple[Tensor, ...]] | None],
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.shape = shape
        self.own: list[int] = [0] * len(memories)
        """Own cells of each sequence."""
        shared: dict[tuple[int, int], _Frozen] = {}
        self._frozen: list[_Frozen | None] = []
        for memory in memories:
            cells = memory[0][0].shape[1] if memory else 0
            if memory is None or cells == 0:
                self._frozen.append(None)
            else:
                key = (id(memory[0][0]), cells)
                self._frozen.append(shared.setdefault(key, _Frozen(memory[0], memory[1], cells)))
        self._dtype, self._device = dtype, device
        self._keys = [self._allocate(0) for _ in range(shape.layers)]
        self._values = [self._allocate(0) for _ in range(shape.layers)]
        self._layout: _Layout | None = None

    def __len__(self) -> int:
        return len(self.own)

    def visible(self, sequence: int) -> int:
        """Frozen cells that a sequence sees."""
        frozen = self._frozen[sequence]
        return frozen.visible if frozen else 0

    def cells(self, sequence: int) -> int:
        """All cells that a sequence sees."""
        return self.visible(sequence) + self.own[sequence]

    @property
    def capacity(self) -> int:
        """Own cells per sequence that there is room for."""
        return self._keys[0].shape[2]

    def reserve(self, cells: int) -> None:
        """Make room for ``cells`` own cells per sequence; existing ones are kept."""
        capacity = self.capacity
        if cells <= capacity:
            return
        for buffers in (self._keys, self._values):
            for layer, buffer in enumerate(buffers):
                grown = self._allocate(cells)
                grown[:, :, :capacity] = buffer
                buffers[layer] = grown

    def begin(self, rows: Sequence[int], masks: Sequence[Tensor | None] | None = None) -> None:
        """Lay out a step.

        Args:
            rows: new rows of each sequence; 0 leaves a sequence out.
            masks: for each sequence ``None`` for causal attention, or the visible cells as a boolean tensor of shape
                (rows, cells before the step + rows).
        """
        needed = max(own + new for own, new in zip(self.own, rows, strict=True))
        if needed > self.capacity:
            # Doubling keeps the cost of growing during generation constant per token.
            self.reserve(max(needed, 2 * self.capacity, 64))
        active = tuple(index for index, count in enumerate(rows) if count)
        starts, at = [], 0
        for count in rows:
            starts.append(at)
            at += count
        chosen = tuple(masks) if masks is not None else (None,) * len(rows)
        plain = all(mask is None for mask in chosen)
        short = plain and len(active) > 1 and max(rows) <= _PADDED_ROWS
        self._layout = _Layout(
            rows=tuple(rows),
            starts=tuple(starts),
            active=active,
            groups=self._group(rows, starts, active) if plain else (),
            padded=self._pad(rows, starts, active) if short else None,
            masks=chosen,
        )

    def store(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Write the step's packed new cells, shape (kv_heads, rows, head_dim), keys rotated."""
        layout = self._current()
        for index in layout.active:
            start, count, own = layout.starts[index], layout.rows[index], self.own[index]
            self._keys[layer][index, :, own : own + count] = keys[:, start : start + count]
            self._values[layer][index, :, own : own + count] = values[:, start : start + count]

    def attend(self, layer: int, queries: Tensor) -> Tensor:
        """Attend to everything each row may see.

        Args:
            layer: index of the layer, stored before.
            queries: packed rotated queries, shape (heads, rows, head_dim).

        Returns:
            Tensor of the shape of ``queries``.
        """
        layout = self._current()
        if any(mask is not None for mask in layout.masks):
            return self._attend_with_masks(layer, queries.contiguous(), layout)
        queries = queries.contiguous()
        if layout.padded is not None:
            own = self._attend_padded(layer, queries, layout)
        else:
            own = self._attend_each(layer, queries, layout)
        for frozen, rows in layout.groups:
            own = _merge_frozen(own, queries, frozen, layer, rows)
        return own.output[0]

    def finish(self) -> None:
        """Count the step's rows as own cells."""
        layout = self._current()
        self.own = [own + count for own, count in zip(self.own, layout.rows, strict=True)]
        self._layout = None

    def own_cells(self, layer: int, sequence: int) -> tuple[Tensor, Tensor]:
        """Return views of a sequence's own keys and values; valid until the next :meth:`begin`."""
        count = self.own[sequence]
        return self._keys[layer][sequence, :, :count], self._values[layer][sequence, :, :count]

    def drain(self) -> list[tuple[tuple[Tensor, ...], tuple[Tensor, ...]]]:
        """Return per sequence the keys and the values of all layers, and end the batch.

        Working buffers are given up layer by layer, so the results cost one layer of extra room at a time.
        """
        cells = []
        for layer in range(self.shape.layers):
            cells.append([self._all_cells(layer, sequence) for sequence in range(len(self))])
            self._keys[layer] = self._values[layer] = self._allocate(0)
        self.own = []
        return [
            (tuple(layer[sequence][0] for layer in cells), tuple(layer[sequence][1] for layer in cells))
            for sequence in range(len(self._frozen))
        ]

    def _all_cells(self, layer: int, sequence: int) -> tuple[Tensor, Tensor]:
        keys, values = self.own_cells(layer, sequence)
        frozen = self.frozen_cells(layer, sequence)
        if frozen is None:
            return keys.clone(), values.clone()
        return torch.cat((frozen[0], keys), 1), torch.cat((frozen[1], values), 1)

    def write(self, layer: int, sequence: int, start: int, keys: Tensor, values: Tensor) -> None:
        """Overwrite own cells from ``start`` on; call :meth:`truncate` once all layers are done."""
        count = keys.shape[1]
        self._keys[layer][sequence, :, start : start + count] = keys
        self._values[layer][sequence, :, start : start + count] = values

    def truncate(self, sequence: int, own: int, visible: int) -> None:
        """Keep only the first ``own`` own cells and the first ``visible`` frozen cells of a sequence."""
        self.own[sequence] = own
        frozen = self._frozen[sequence]
        if frozen is not None and visible != frozen.visible:
            self._frozen[sequence] = _Frozen(frozen.keys, frozen.values, visible) if visible else None

    def replace_frozen(self, sequence: int, keys: tuple[Tensor, ...], values: tuple[Tensor, ...]) -> None:
        """Put other tensors in the place of a sequence's frozen memory."""
        self._frozen[sequence] = _Frozen(keys, values, keys[0].shape[1])

    def frozen_cells(self, layer: int, sequence: int) -> tuple[Tensor, Tensor] | None:
        """Return views of the frozen cells that a sequence sees."""
        frozen = self._frozen[sequence]
        if frozen is None:
            return None
        return frozen.keys[layer][:, : frozen.visible], frozen.values[layer][:, : frozen.visible]

    def _allocate(self, cells: int) -> Tensor:
        size = (len(self.own), self.shape.kv_heads, cells, self.shape.head_dim)
        # Zeros, because padded attention multiplies cells beyond a sequence's end by zero, and 0 * NaN is NaN.
        return torch.zeros(size, dtype=self._dtype, device=self._device)

    def _current(self) -> _Layout:
        if self._layout is None:
            raise RuntimeError("begin() must come before store(), attend() and finish()")
        return self._layout

    def _group(
        self, rows: Sequence[int], starts: Sequence[int], active: Sequence[int]
    ) -> tuple[tuple[_Frozen, Tensor | None], ...]:
        members: dict[int, tuple[_Frozen, list[int]]] = {}
        for index in active:
            frozen = self._frozen[index]
            if frozen is not None:
                members.setdefault(id(frozen), (frozen, []))[1].extend(
                    range(starts[index], starts[index] + rows[index])
                )
        total = sum(rows)
        return tuple(
            (frozen, None if len(places) == total else torch.tensor(places, device=self._device))
            for frozen, places in members.values()
        )

    def _pad(self, rows: Sequence[int], starts: Sequence[int], active: Sequence[int]) -> tuple[Tensor, Tensor]:
        most = max(rows)
        longest = max(self.own[index] + rows[index] for index in active)
        place = torch.arange(most)
        count = torch.tensor([rows[index] for index in active])[:, None]
        begin = torch.tensor([starts[index] for index in active])[:, None]
        own = torch.tensor([self.own[index] for index in active])[:, None]
        source = begin + torch.minimum(place, count - 1)  # padding repeats the last row, so it is never fully hidden
        seen = own + torch.minimum(place, count - 1) + 1  # (active, most)
        hidden = torch.arange(longest) >= seen[..., None]
        bias = torch.zeros(hidden.shape, dtype=self._dtype).masked_fill(hidden, float("-inf"))
        return source.to(self._device), bias.to(self._device)

    def _attend_padded(self, layer: int, queries: Tensor, layout: _Layout) -> AttentionPart:
        assert layout.padded is not None  # noqa: S101  # narrowed by the caller
        source, bias = layout.padded
        heads, total, width = queries.shape
        sequences, most = source.shape
        repeat = heads // self.shape.kv_heads
        picked = queries[:, source.flatten()].view(self.shape.kv_heads, repeat, sequences, most, width)
        folded = picked.permute(2, 0, 1, 3, 4).reshape(sequences, self.shape.kv_heads, repeat * most, width)
        keys, values = (
            self._select(buffers[layer], layout.active, bias.shape[-1]) for buffers in (self._keys, self._values)
        )
        spread = bias[:, None, None].expand(-1, 1, repeat, -1, -1).reshape(sequences, 1, repeat * most, -1)
        output, sums = attend_part(folded, keys, values, bias=spread)
        # Padding repeats the last row of its sequence, so writing it again writes the same value.
        flat = source.flatten()
        result = torch.empty_like(queries)
        unfolded = output.view(sequences, self.shape.kv_heads, repeat, most, width).permute(1, 2, 0, 3, 4)
        result[:, flat] = unfolded.reshape(heads, sequences * most, width)
        lse = sums.new_empty(heads, total)
        lse[:, flat] = (
            sums.view(sequences, self.shape.kv_heads, repeat, most).permute(1, 2, 0, 3).reshape(heads, sequences * most)
        )
        return AttentionPart(result[None], lse[None])

    def _select(self, buffer: Tensor, active: tuple[int, ...], cells: int) -> Tensor:
        if active == tuple(range(active[0], active[-1] + 1)):
            return buffer[active[0] : active[-1] + 1, :, :cells]
        return buffer[torch.tensor(active, device=self._device), :, :cells]

    def _attend_each(self, layer: int, queries: Tensor, layout: _Layout) -> AttentionPart:
        outputs, sums = [], []
        for index in layout.active:
            start, count, own = layout.starts[index], layout.rows[index], self.own[index]
            mine = queries[:, start : start + count].contiguous()
            keys = self._keys[layer][index, :, : own + count]
            values = self._values[layer][index, :, : own + count]
            if count == 1:
                part = attend_folded(mine, keys, values)
            else:
                new = attend_part(mine[None], keys[None, :, own:], values[None, :, own:], causal=True)
                part = merge_parts([new, attend_folded(mine, keys[:, :own], values[:, :own])]) if own else new
            outputs.append(part.output)
            sums.append(part.log_sum_exp)
        if len(outputs) == 1:
            return AttentionPart(outputs[0], sums[0])
        return AttentionPart(torch.cat(outputs, 2), torch.cat(sums, 2))

    def _attend_with_masks(self, layer: int, queries: Tensor, layout: _Layout) -> Tensor:
        outputs = []
        for index in layout.active:
            start, count, own = layout.starts[index], layout.rows[index], self.own[index]
            keys = self._keys[layer][index, :, : own + count]
            values = self._values[layer][index, :, : own + count]
            frozen = self.frozen_cells(layer, index)
            if frozen is not None:
                keys, values = torch.cat((frozen[0], keys), 1), torch.cat((frozen[1], values), 1)
            visible = layout.masks[index]
            if visible is None:
                visible = torch.ones(count, keys.shape[1], dtype=torch.bool, device=self._device)
                visible = visible.tril(keys.shape[1] - count)
            outputs.append(attend_masked(queries[:, start : start + count], keys, values, visible))
        return torch.cat(outputs, 1)


def _merge_frozen(
    own: AttentionPart, queries: Tensor, frozen: _Frozen, layer: int, rows: Tensor | None
) -> AttentionPart:
    keys, values = frozen.keys[layer][:, : frozen.visible], frozen.values[layer][:, : frozen.visible]
    if rows is None:
        return merge_parts([own, attend_folded(queries, keys, values)])
    part = attend_folded(queries[:, rows].contiguous(), keys, values)
    merged = merge_parts([AttentionPart(own.output[:, :, rows], own.log_sum_exp[:, :, rows]), part])
    own.output[:, :, rows] = merged.output
    own.log_sum_exp[:, :, rows] = merged.log_sum_exp
    return own


__all__ = ["CacheShape", "KVBatch"]
