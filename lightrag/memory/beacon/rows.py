"""From planned steps to the rows of one forward pass: order, positions, masks.

Knows nothing of weights or caches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.decoder import Rows
from lightrag.memory.beacon.plan import BEACON, RAW, Step
from lightrag.memory.rope import RopeTable, cosines_and_sines


def pack_rows(
    token_ids: Tensor,
    steps: Sequence[Step],
    positions: Sequence[Tensor],
    tables: Sequence[RopeTable],
    temperature: Tensor | None,
    dtype: torch.dtype,
) -> Rows:
    """Pack the steps of several sequences one after the other.

    Args:
        token_ids: real tokens of all steps, shape (real,).
        steps: one per sequence that has rows.
        positions: of the rows of each step.
        tables: RoPE table of each sequence.
        temperature: of each packed row, or ``None``.
        dtype: of the model.
    """
    device = token_ids.device
    flags = torch.frombuffer(bytearray(b"".join(step.flags for step in steps)), dtype=torch.uint8)
    beacon_rows = flags == BEACON
    beacons = int(beacon_rows.sum())
    order = inverse = None
    if beacons:
        inverse = torch.cat((beacon_rows.logical_not().nonzero()[:, 0], beacon_rows.nonzero()[:, 0])).to(device)
        order = torch.empty_like(inverse)
        order[inverse] = torch.arange(len(inverse), device=device)
    cos, sin = _turns(positions, tables, dtype)
    factor = None if temperature is None else temperature.to(dtype)[:, None]
    return Rows(token_ids, beacons, order, inverse, cos, sin, factor)


def _turns(positions: Sequence[Tensor], tables: Sequence[RopeTable], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if all(table is tables[0] for table in tables):
        return cosines_and_sines(tables[0].angles(torch.cat(list(positions))), tables[0].scale, dtype)
    turned = [
        cosines_and_sines(table.angles(places), table.scale, dtype)
        for places, table in zip(positions, tables, strict=True)
    ]
    return torch.cat([cos for cos, _ in turned]), torch.cat([sin for _, sin in turned])


def window_positions(config: BeaconConfig, step: Step, closed: int) -> Tensor:
    """Return the positions of all cells of a step's window, new rows last.

    With full coverage they simply count on. In step-expansion a beacon stands where the real token after it stands
    (interleave), or after the last token it sees (append).
    """
    places = torch.arange(closed, closed + len(step.window))
    if config.attention == "full-coverage" or not step.window:
        return places
    flags = torch.frombuffer(bytearray(step.window), dtype=torch.uint8)
    beacon = flags == BEACON
    if config.placement == "interleave":
        return places - (beacon.cumsum(0) - beacon.long())
    if beacon.any():
        tokens = places[flags == RAW]
        count = int(beacon.sum())
        shift = torch.arange(1, count + 1) if config.attend_prev else torch.ones(count, dtype=torch.long)
        places[beacon] = tokens[step.ratio - 1 :: step.ratio][:count] + shift
    return places


def step_expansion_mask(config: BeaconConfig, step: Step, closed: int) -> Tensor | None:
    """Return which cells each new row sees, shape (rows, closed + window); ``None`` where that is plain causal."""
    if config.attention == "full-coverage" or BEACON not in step.window:
        return None
    total, rows = closed + len(step.window), step.rows
    visible = torch.ones(rows, total, dtype=torch.bool).tril(total - rows)
    flags = torch.frombuffer(bytearray(step.window), dtype=torch.uint8)
    columns = closed + (flags == BEACON).nonzero()[:, 0]
    if config.placement == "interleave":
        visible[:, columns] = False
    else:
        tokens = closed + (flags == RAW).nonzero()[:, 0]
        place = torch.arange(len(tokens))
        for index, column in enumerate(columns.tolist()):
            row = visible[column - (total - rows)]
            row[tokens[place >= (index + 1) * step.ratio]] = False
            if not config.attend_prev:
                row[columns] = False
    own = torch.arange(rows)
    visible[own, total - rows + own] = True
    return visible


__all__ = ["pack_rows", "step_expansion_mask", "window_positions"]
