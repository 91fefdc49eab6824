"""Writes beacon models in the published layout: ordinary weights linked from where they came from, beacons beside them.

Knows nothing of training.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from torch import Tensor

from lightrag.memory.beacon.checkpoint import tensor_names, weight_files
from lightrag.memory.beacon.config import BeaconConfig, read_config
from lightrag.memory.beacon.decoder import BeaconDecoder
from lightrag.memory.beacon.serving import copy_without_beacons
from lightrag.memory.identity import IDENTITY_NAME

_BEACONS, _ORDINARY = "model-beacons.safetensors", "model-ordinary.safetensors"
_INDEX = "model.safetensors.index.json"


def write_beacon_checkpoint(target: Path, source: Path, config: BeaconConfig, decoder: BeaconDecoder) -> None:
    """Write a checkpoint that :class:`lightrag.memory.beacon.model.BeaconModel` loads.

    Args:
        target: an empty folder.
        source: checkpoint with the same ordinary weights, tokenizer and configuration.
        config: beacon settings.
        decoder: its beacon tensors are written in their own type.
    """
    from safetensors.torch import save_file

    weights = weight_files(source)
    _copy_other_files(source, target, weights)
    state = decoder.state_dict()
    beacons = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items() if "beacon" in name}
    save_file(beacons, target / _BEACONS, metadata={"format": "pt"})
    places = dict.fromkeys(beacons, _BEACONS)
    if all(path.suffix == ".safetensors" for path in weights):
        for number, path in enumerate(weights, 1):
            if any("beacon" not in name for name in tensor_names(path)):
                name = f"model-{number:05}-of-{len(weights):05}.safetensors"
                places |= dict.fromkeys(copy_without_beacons(path.resolve(), target / name), name)
    else:
        places |= _write_ordinary(target, state, config)
    _write_json(target / _INDEX, {"metadata": {}, "weight_map": dict(sorted(places.items()))})
    _write_json(target / "config.json", read_config(source) | beacon_fields(config))


def beacon_fields(config: BeaconConfig) -> dict[str, Any]:
    """The beacon fields of a published ``config.json``, all of them."""
    return {
        "beacon_window": config.window,
        "beacon_stride": config.window,
        "beacon_attn": config.attention,
        "beacon_attend_prev": config.attend_prev,
        "beacon_ratio": list(config.ratios),
        "beacon_ratio_mix": config.ratio_mix,
        "beacon_param": [name for name in "qkvo" if name in config.params],
        "beacon_embed_init": config.embed_init,
        "beacon_sink_size": config.sink_size,
        "beacon_pos": config.placement,
        "beacon_parallel_window": 1,
    }


def _copy_other_files(source: Path, target: Path, weights: list[Path]) -> None:
    """Tokenizer, chat template and the like; the identity of another model must not come along."""
    left_out = {"config.json", _INDEX, "pytorch_model.bin.index.json", IDENTITY_NAME, *(path.name for path in weights)}
    for path in source.iterdir():
        if path.is_file() and path.name not in left_out and path.suffix not in (".safetensors", ".bin"):
            shutil.copy2(path, target / path.name)


def _write_ordinary(target: Path, state: dict[str, Tensor], config: BeaconConfig) -> dict[str, str]:
    from safetensors.torch import save_file

    left_out = {"lm_head.weight"} if config.tied_embeddings else set()
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if "beacon" not in name and name not in left_out
    }
    save_file(tensors, target / _ORDINARY, metadata={"format": "pt"})
    return dict.fromkeys(tensors, _ORDINARY)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


__all__ = ["beacon_fields", "write_beacon_checkpoint"]
