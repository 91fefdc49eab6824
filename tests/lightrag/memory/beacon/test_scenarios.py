"""Checkpoints and readings drawn at random, against the obvious implementation (float32, tolerance 1e-4 of a unit)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.kv_memory import KVMemory
from tests.lightrag.memory.beacon.checkpoints import CONFIG, tensors
from tests.lightrag.memory.beacon.reference import Reference
from tests.lightrag.memory.beacon.test_modes import TOLERANCE, assert_same_cells

DRAWN = 30
OPTIONAL = ("rms_norm_eps", "rope_theta", "beacon_sink_size", "beacon_attend_prev", "beacon_embed_init", "beacon_pos")
"""Fields that a checkpoint may leave out where it has their defaults, or where its maker forgot them."""


def drawn_config(source: random.Random) -> dict[str, Any]:
    """A configuration of the published kind; every mode, shape and scaling comes up."""
    heads, kv_heads = source.choice([(4, 2), (4, 4), (6, 2), (8, 1), (3, 1)])
    window = source.choice([7, 12, 16, 24, 32, 33, 48, 64])
    ratios = source.choice([[source.randint(0, window)], [2, 4, 8, 16, 32, 1], [1, 0, 3], [4, 0, 2, window]])
    placement = source.choice(["interleave", "interleave", "append"])
    config = CONFIG | {
        "model_type": source.choice(["qwen2", "mistral"]),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "hidden_size": heads * source.choice([8, 16, 32]),
        "intermediate_size": source.choice([24, 96]),
        "num_hidden_layers": source.randint(1, 3),
        "vocab_size": source.randint(40, 200),
        "rms_norm_eps": source.choice([1e-6, 1e-5]),
        "rope_theta": source.choice([1e4, 1e6]),
        "tie_word_embeddings": source.random() < 0.3,
        "eos_token_id": source.choice([2, [5, 2]]),
        "max_position_embeddings": source.choice([40, 64, 4096]),
        "beacon_window": window,
        "beacon_stride": window,
        "beacon_ratio": ratios,
        "beacon_ratio_mix": source.choice(["step-random", "instance-random", "sequence", "adapt-30"]),
        "beacon_param": source.choice([["q", "k", "v"], ["q", "k", "v", "o"], ["v"], ["k", "o"], []]),
        "beacon_sink_size": source.choice([0, 0, 1, 5, window + 3]),
        "beacon_pos": placement,
        "beacon_attn": source.choice(["full-coverage", "full-coverage", "step-expansion"]),
        "beacon_attend_prev": placement == "append" and source.random() < 0.5,
        "beacon_embed_init": source.choice(["eos", "bos"]),
    }
    kind = source.choice(["none", "none", "linear", "dynamic", "yarn", "yarn-t", "yarn-t-logn", "llama3"])
    if kind != "none":
        config["rope_scaling"] = {source.choice(["type", "rope_type"]): kind, "factor": source.choice([1.5, 2.0, 8.0])}
    if kind == "llama3":
        config["rope_scaling"] |= {
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
        }  # fmt: skip
    return config


def save_checkpoint(folder: Path, config: dict[str, Any], source: random.Random) -> None:
    """Write it whole or in shards, in float32 or bfloat16, with or without what has a default."""
    made = tensors(config["model_type"], "".join(config["beacon_param"]), source.randrange(1000), config)
    made.setdefault("model.beacon_embed_tokens.weight", torch.randn(1, config["hidden_size"]))
    if config["tie_word_embeddings"]:
        del made["lm_head.weight"]
    if source.random() < 0.4:
        made = {name: tensor.bfloat16() for name, tensor in made.items()}
    defaults = {"rms_norm_eps": 1e-6, "rope_theta": 1e4, "beacon_sink_size": 0, "beacon_attend_prev": True}
    defaults |= {"beacon_embed_init": "eos", "beacon_pos": "interleave"}
    left_out = {name for name in OPTIONAL if config[name] == defaults[name] and source.random() < 0.5}
    kept = {name: value for name, value in config.items() if name not in left_out}
    (folder / "config.json").write_text(json.dumps(kept), encoding="utf-8")
    if source.random() < 0.5:
        save_file(made, folder / "model.safetensors")
        return
    names = sorted(made)
    source.shuffle(names)
    shards = {f"model-0000{n + 1}-of-00003.safetensors": names[n::3] for n in range(3)}
    for shard, held in shards.items():
        save_file({name: made[name] for name in held}, folder / shard)
    places = {name: shard for shard, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), encoding="utf-8")


def assert_close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """Weights are large, so logits are too; what counts is the error beside their size."""
    assert ours.shape == theirs.shape
    assert ours.sub(theirs).abs().max() < TOLERANCE * max(1.0, float(theirs.abs().max()))


@pytest.mark.parametrize("seed", range(DRAWN))
def test_a_drawn_checkpoint_is_read_as_the_obvious_implementation_reads_it(seed: int, tmp_path: Path) -> None:
    source = random.Random(seed)
    config = drawn_config(source)
    save_checkpoint(tmp_path, config, source)
    model = BeaconModel.load(tmp_path)
    texts = [
        [
            [source.randrange(config["vocab_size"]) for _ in range(source.choice([1, 2, 9, 33, 80]))]
            for _ in range(source.randint(1, 4))
        ]
        for _ in range(2)
    ]
    references = [Reference(tmp_path, **config) for _ in texts]
    memories: list[KVMemory | None] = [None] * len(texts)
    for piece in range(max(len(text) for text in texts)):
        # Texts that have ended drop out of the batch, so it is ragged in every way.
        going = [index for index, text in enumerate(texts) if piece < len(text)]
        read = [texts[index][piece] for index in going]
        readings = model.read_batch(read, onto=[memories[index] for index in going], logits="step")
        for index, ids, reading in zip(going, read, readings, strict=True):
            memories[index] = reading.memory
            assert_close(reading.logits, references[index].read(ids))
            assert_same_cells(model, reading.memory, references[index], config["beacon_attn"] == "full-coverage")
