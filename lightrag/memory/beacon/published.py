"""Imports ``memory.bin``, the file in which the published system keeps a beacon memory.

The file is a pickle of tensors, numbers and lists. It is read as weights only: a reader that knows those and nothing
else, so no code in the file is ever executed; a file that holds anything else is refused.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightrag.errors import ArtifactError, UsageError
from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.kv_memory import BeaconState, KVMemory, rope_state
from lightrag.memory.rope import cosines_and_sines, rotate

_ACTIVATIONS = ("sink_activations", "beacon_activations", "raw_activations")


def import_published_memory(path: str | Path, model: BeaconModel) -> KVMemory:
    """Read a published ``memory.bin`` for the model that made it.

    The file does not say which model that was: only shapes can be checked.

    Raises:
        ArtifactError: the file is damaged, holds anything but plain data, or does not fit the model.
        UsageError: the model compresses in a way whose open windows the published file does not describe.
    """
    if model.config.attention != "full-coverage":
        raise UsageError("published memories can only be imported for full-coverage models")
    state = _read(Path(path))
    keys, values, raw_cells = _cells(state, model, str(path))
    cells = keys[0].shape[1]
    table = model.config.rope.table(cells)
    cos, sin = cosines_and_sines(table.angles(torch.arange(cells)), table.scale, model.dtype)
    memory = KVMemory(
        kind="beacon",
        model=model.identity,
        keys=tuple(rotate(layer.to(model.dtype), cos, sin) for layer in keys),
        values=tuple(layer.to(model.dtype) for layer in values),
        rope=rope_state(table, cells),
        source_tokens=int(state["_end_idx"]),
        beacon=_resumable(state, raw_cells, model.config),
    )
    return memory.to(model.device)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ArtifactError(f"{str(path)!r} cannot be read: {error}", subject=str(path)) from error
    # The reader meets arbitrary bytes, and answers with whatever its look-ups and conversions raise. What it says to
    # an unknown kind of object is advice to execute the file, which is not passed on.
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise ArtifactError(
            f"{str(path)!r} is no published beacon memory: those hold plain tensors, numbers and lists, and nothing "
            "else is read",
            subject=str(path),
        ) from error
    missing = [
        key for key in (*_ACTIVATIONS, "_start_idx", "_end_idx") if not isinstance(state, dict) or key not in state
    ]
    if missing:
        raise ArtifactError(f"{str(path)!r} is not a published beacon memory: it lacks {missing!r}", subject=str(path))
    return state


def _cells(state: Mapping[str, Any], model: BeaconModel, subject: str) -> tuple[list[Tensor], list[Tensor], int]:
    """Return unrotated keys and values per layer, and how many of the cells are an open window's."""
    shape = model.config.cache_shape
    keys, values, raw_cells = [], [], 0
    for layer in range(shape.layers):
        pairs = [_pair(state, name, layer, subject) for name in _ACTIVATIONS]
        sides = []
        for side in (0, 1):
            found = [pair[side] for pair in pairs if pair is not None]
            if not found:
                raise ArtifactError(f"{subject!r} has no cells in layer {layer}", subject=subject)
            sides.append(torch.cat(found, 1))
            if sides[-1].shape[0] != shape.kv_heads or sides[-1].shape[2] != shape.head_dim:
                raise ArtifactError(
                    f"{subject!r} has cells of shape {tuple(sides[-1].shape)} in layer {layer}; this model needs "
                    f"({shape.kv_heads}, cells, {shape.head_dim})",
                    subject=subject,
                )
        keys.append(sides[0])
        values.append(sides[1])
        raw_cells = pairs[2][0].shape[1] if pairs[2] is not None else 0
    return keys, values, raw_cells


def _pair(state: Mapping[str, Any], name: str, layer: int, subject: str) -> tuple[Tensor, Tensor] | None:
    try:
        key, value = state[name][layer]
    except (IndexError, TypeError, ValueError) as error:
        raise ArtifactError(f"{subject!r} has no {name} of layer {layer}", subject=subject) from error
    if key is None:
        return None
    if key.shape[0] != 1:
        raise ArtifactError(
            f"{subject!r} holds a batch of {key.shape[0]} memories; only one can be imported", subject=subject
        )
    return key[0], value[0]


def _resumable(state: Mapping[str, Any], raw_cells: int, config: BeaconConfig) -> BeaconState:
    tokens = int(state["_end_idx"]) - int(state["_start_idx"])
    flags = state.get("_beacon_indices")
    ratio = state.get("_interleave_compression_ratio")
    opened = 1 if tokens and config.placement == "interleave" else 0
    return BeaconState(
        flags=bytes(int(flag) for flag in flags.tolist()) if raw_cells and flags is not None else bytes(raw_cells),
        tokens=tokens,
        remainder=int(state.get("_interleave_remainder") or 0),
        ratio=-1 if ratio is None else int(ratio),
        windows=int(state["_start_idx"]) // config.window + opened,
        sticky_ratio=_sticky(state, config),
    )


def _sticky(state: Mapping[str, Any], config: BeaconConfig) -> int:
    chosen = state.get("_compression_ratio")
    once = config.ratio_mix == "instance-random" or config.ratio_mix.startswith("adapt-")
    return int(chosen) if once and chosen is not None else -1


__all__ = ["import_published_memory"]
