"""Tiny random beacon checkpoints, so that every mode can be compared where no reference data is at hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.checkpoints import save_causal_lm

CONFIG: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 160, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "max_position_embeddings": 4096, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
    "beacon_window": 32, "beacon_stride": 32, "beacon_attn": "full-coverage", "beacon_ratio": [4],
    "beacon_ratio_mix": "step-random", "beacon_param": ["q", "k", "v"], "beacon_embed_init": "eos",
    "beacon_sink_size": 0, "beacon_attend_prev": True, "beacon_pos": "interleave",
}  # fmt: skip


def tensors(model_type: str, params: str, seed: int = 7, config: Mapping[str, Any] | None = None) -> dict[str, Tensor]:
    """Weights with the published names, large enough that a mistake changes logits by whole units."""
    config = CONFIG if config is None else config
    generator = torch.Generator().manual_seed(seed)
    hidden, inner, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]

    def draw(*shape: int, scale: float = 0.2) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    made = {"model.embed_tokens.weight": draw(vocab, hidden, scale=1.0), "lm_head.weight": draw(vocab, hidden)}
    made["model.norm.weight"] = 1 + draw(hidden, scale=0.1)
    if params:
        made["model.beacon_embed_tokens.weight"] = draw(1, hidden, scale=1.0)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        for norm in ("input_layernorm", "post_attention_layernorm"):
            made[f"{name}{norm}.weight"] = 1 + draw(hidden, scale=0.1)
        made |= {f"{name}mlp.{p}_proj.weight": draw(inner, hidden) for p in ("gate", "up")}
        made[f"{name}mlp.down_proj.weight"] = draw(hidden, inner)
        for p, rows in (("q", hidden), ("k", kv), ("v", kv), ("o", hidden)):
            for prefix in ("", "beacon_") if p in params else ("",):
                made[f"{name}self_attn.{prefix}{p}_proj.weight"] = draw(rows, hidden)
                if model_type == "qwen2" and p != "o":
                    made[f"{name}self_attn.{prefix}{p}_proj.bias"] = draw(rows)
    return made


def save_beacon_checkpoint(folder: Path, model_type: str = "qwen2", params: str = "qkv", **config: Any) -> Path:
    """Write a checkpoint in the published layout. ``params`` empty: a base model without beacon tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = CONFIG | {"model_type": model_type, "beacon_param": list(params)} | config
    if not params:
        settings = {key: value for key, value in settings.items() if not key.startswith("beacon_")}
    (folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    save_file(tensors(model_type, params), folder / "model.safetensors")
    return folder


def save_servable_beacon_checkpoint(folder: Path) -> Path:
    """A Qwen2 that engines can serve, with beacon tensors that differ from the ordinary ones."""
    save_causal_lm(folder, "qwen2", seed=5)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name in list(weights):
        for kind in ("q", "k", "v"):
            if f"self_attn.{kind}_proj" in name:
                noise = torch.randn(weights[name].shape, generator=generator) * 0.05
                weights[name.replace(f"{kind}_proj", f"beacon_{kind}_proj")] = weights[name] + noise
    weights["model.beacon_embed_tokens.weight"] = weights["model.embed_tokens.weight"][:1] * 0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config |= {"beacon_window": 64, "beacon_stride": 64, "beacon_ratio": [4], "beacon_param": ["q", "k", "v"]}
    (folder / "config.json").write_text(json.dumps(config))
    return folder
