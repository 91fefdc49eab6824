"""Which model a folder holds, as far as the meaning of its KV cells goes; weights are sampled, not read whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from lightrag.errors import ConfigurationError
from lightrag.memory.kv_memory import ModelIdentity
from lightrag.models.files import sample_blocks

_CONFIG_KEYS: Final = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "sliding_window",
    "use_sliding_window",
    "beacon_window",
    "beacon_param",
    "beacon_pos",
    "beacon_attn",
    "beacon_attend_prev",
    "beacon_sink_size",
)
"""Settings that change what a cell means. Ratios are missing on purpose: one model makes memories of any ratio."""


IDENTITY_NAME: Final = "memory_model.json"
"""In a folder that was derived from another checkpoint: the identity of that one, whose memories it reads."""


def identify_model(folder: Path) -> ModelIdentity:
    """Identify the model in a folder in milliseconds, whatever its size.

    Raises:
        ConfigurationError: the folder has no ``config.json`` or no weights, or its ``memory_model.json`` is damaged.
    """
    derived = folder / IDENTITY_NAME
    if derived.is_file():
        try:
            return ModelIdentity(**json.loads(derived.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{str(derived)!r} is damaged: {error}", subject=str(derived)) from error
    path = folder / "config.json"
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is not a readable model configuration: {error}", subject=str(path)
        ) from error
    kept = {key: config[key] for key in _CONFIG_KEYS if config.get(key) is not None}
    tokenizer = folder / "tokenizer.json"
    return ModelIdentity(
        architecture=str(config.get("model_type", "unknown")),
        config_hash=_hash(json.dumps(kept, sort_keys=True).encode()),
        weights_id=_weights_id(folder),
        tokenizer_hash=_hash(tokenizer.read_bytes()) if tokenizer.is_file() else "",
    )


def _hash(*parts: bytes) -> str:
    from blake3 import blake3

    total = blake3()
    for part in parts:
        total.update(part)
    return total.hexdigest(16)


def _weights_id(folder: Path) -> str:
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise ConfigurationError(
            f"{str(folder)!r} has no weights (*.safetensors or pytorch_model*.bin)", subject=str(folder)
        )
    return _hash(*(part for file in files for part in sample_blocks(file)))


__all__ = ["IDENTITY_NAME", "identify_model"]
