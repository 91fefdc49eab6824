"""Every mode against the obvious implementation beside this file (float32, tolerance 1e-4)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, ConfigurationError, UsageError
from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.kv_memory import KVMemory
from lightrag.memory.rope import move_keys
from tests.lightrag.memory.beacon.checkpoints import save_beacon_checkpoint
from tests.lightrag.memory.beacon.reference import Reference

TOLERANCE = 1e-4

MODES: dict[str, dict[str, Any]] = {
    "ratio 16": {"beacon_ratio": [16]},
    "ratio 6, which does not divide the window": {"beacon_ratio": [6]},
    "ratio above the window": {"beacon_ratio": [48]},
    "ratio 0, raw": {"beacon_ratio": [0]},
    "ratios of which some do not fit": {"beacon_ratio": [5, 64, 8, 0, 2], "beacon_ratio_mix": "sequence"},
    "sequence": {"beacon_ratio": [2, 4, 8], "beacon_ratio_mix": "sequence"},
    "sequence with raw windows": {"beacon_ratio": [4, 0, 2], "beacon_ratio_mix": "sequence"},
    "step-random": {"beacon_ratio": [2, 3, 4, 8, 16]},
    "instance-random": {"beacon_ratio": [2, 4, 8], "beacon_ratio_mix": "instance-random"},
    "adapt": {"beacon_ratio": [2, 4, 8], "beacon_ratio_mix": "adapt-50", "max_position_embeddings": 64},
    "adapt, too long": {"beacon_ratio": [2, 4], "beacon_ratio_mix": "adapt-50", "max_position_embeddings": 40},
    "sink": {"beacon_sink_size": 3},
    "sink with beacons in it": {"beacon_sink_size": 7},
    "append": {"beacon_pos": "append"},
    "append, raw": {"beacon_pos": "append", "beacon_ratio": [0]},
    "append, many ratios": {"beacon_pos": "append", "beacon_ratio": [2, 8], "beacon_ratio_mix": "sequence"},
    "append, step-expansion": {"beacon_pos": "append", "beacon_attn": "step-expansion"},
    "append, step-expansion, alone": {
        "beacon_pos": "append", "beacon_attn": "step-expansion", "beacon_attend_prev": False,
    },
    "interleave, step-expansion": {"beacon_attn": "step-expansion", "beacon_attend_prev": False},
    "rope linear": {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "rope dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 48},
    "rope yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}, "max_position_embeddings": 4096},
    "rope yarn, outgrown": {"rope_scaling": {"type": "yarn", "factor": 1.5}, "max_position_embeddings": 40},
    "rope yarn-t": {"rope_scaling": {"type": "yarn-t", "factor": 1.5}, "max_position_embeddings": 40},
    "rope yarn-t-logn": {"rope_scaling": {"type": "yarn-t-logn", "factor": 2.0}, "max_position_embeddings": 40},
    "rope llama3": {
        "rope_scaling": {
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        }
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("beacon")
    return {
        (kind, params): save_beacon_checkpoint(root / f"{kind}-{params}", kind, params)
        for kind, params in (("qwen2", "qkv"), ("mistral", "qkv"), ("qwen2", "qkvo"), ("mistral", "v"), ("qwen2", ""))
    }


def tokens(count: int, seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, 160) for _ in range(count)]


def assert_same_cells(model: BeaconModel, memory: KVMemory, reference: Reference, full_coverage: bool = True) -> None:
    keys, values = reference.cells()
    assert torch.stack(memory.values).sub(values).abs().max() < TOLERANCE
    if full_coverage:
        here = torch.arange(memory.cells)
        table = model.config.rope.table(memory.rope.length)
        ours = torch.stack([move_keys(layer, here, torch.zeros_like(here), table) for layer in memory.keys])
        assert (ours / table.scale).sub(keys).abs().max() < TOLERANCE


@pytest.mark.parametrize("kind", ["qwen2", "mistral"])
@pytest.mark.parametrize("mode", MODES)
def test_a_mode_computes_what_the_obvious_implementation_computes(
    mode: str, kind: str, folders: dict[tuple[str, str], Path]
) -> None:
    folder = folders[kind, "qkv"]
    model, reference = BeaconModel.load(folder, **MODES[mode]), Reference(folder, **MODES[mode])
    memory: KVMemory | None = None
    for size, seed in ((107, 1), (20, 2), (40, 3)):
        ids = tokens(size, seed)
        reading = model.read(ids, onto=memory, logits="step")
        memory = reading.memory
        assert reading.logits.sub(reference.read(ids)).abs().max() < TOLERANCE
        assert_same_cells(model, memory, reference, "beacon_attn" not in MODES[mode])


@pytest.mark.parametrize(("kind", "params"), [("qwen2", "qkvo"), ("mistral", "v")])
def test_any_subset_of_projections_may_have_beacon_versions(
    kind: str, params: str, folders: dict[tuple[str, str], Path]
) -> None:
    folder, ids = folders[kind, params], tokens(100, 4)
    reading = BeaconModel.load(folder).read(ids, logits="step")
    assert reading.logits.sub(Reference(folder).read(ids)).abs().max() < TOLERANCE


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    mode=st.sampled_from(["ratio 6, which does not divide the window", "step-random", "sink", "append"]),
    sizes=st.lists(st.integers(1, 45), min_size=1, max_size=6),
)
def test_splitting_a_text_over_calls_changes_nothing(
    mode: str, sizes: list[int], folders: dict[tuple[str, str], Path]
) -> None:
    model = BeaconModel.load(folders["qwen2", "qkv"], **MODES[mode])
    ids = tokens(sum(sizes), 5)
    whole = model.memorise(ids)
    pieces: KVMemory | None = None
    at = 0
    for size in sizes:
        pieces = model.memorise(ids[at : at + size], onto=pieces)
        at += size
    assert pieces is not None
    assert pieces.beacon == whole.beacon
    assert pieces.source_tokens == whole.source_tokens
    for ours, theirs in zip((*pieces.keys, *pieces.values), (*whole.keys, *whole.values), strict=True):
        assert ours.sub(theirs).abs().max() < TOLERANCE


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 120), min_size=2, max_size=5),
    questions=st.lists(st.integers(1, 40), min_size=5, max_size=5),
    mode=st.sampled_from(["ratio 16", "step-random", "sink", "append, step-expansion", "rope yarn-t", "rope dynamic"]),
)
def test_a_ragged_batch_equals_its_sequences_one_by_one(
    lengths: list[int], questions: list[int], mode: str, folders: dict[tuple[str, str], Path]
) -> None:
    model = BeaconModel.load(folders["qwen2", "qkv"], **MODES[mode])
    texts = [tokens(length, seed) for seed, length in enumerate(lengths)]
    asked = [tokens(length, 50 + seed) for seed, length in enumerate(questions[: len(texts)])]
    together = model.read_batch(asked, onto=model.memorise_batch(texts), logits="all")
    for text, question, reading in zip(texts, asked, together, strict=True):
        alone = model.read(question, onto=model.memorise(text), logits="all")
        assert reading.logits.sub(alone.logits).abs().max() < TOLERANCE
        assert reading.memory.beacon == alone.memory.beacon


def test_first_and_last_tokens_can_be_skipped_as_published(folders: dict[tuple[str, str], Path]) -> None:
    folder, ids, question = folders["qwen2", "qkv"], tokens(130, 6), tokens(10, 7)
    model, reference = BeaconModel.load(folder), Reference(folder)
    reading = model.read(ids, logits="step", skip_first=5, skip_last=5 + 64)
    assert reading.logits.sub(reference.read(ids, skip_first=5, skip_last=5 + 64)).abs().max() < TOLERANCE
    assert_same_cells(model, reading.memory, reference)
    assert reading.memory.cells == 5 + 64 // 4 + (130 - 69)
    answer = model.read(question, onto=reading.memory, protect=True)
    assert answer.memory.cells == reading.memory.cells + 10


def test_a_protected_question_sees_the_memory_and_costs_one_cell_per_token(
    folders: dict[tuple[str, str], Path],
) -> None:
    model = BeaconModel.load(folders["qwen2", "qkv"])
    memory = model.memorise(tokens(100, 8))
    question = tokens(70, 9)
    reading = model.read(question, onto=memory, protect=True, logits="all")
    assert reading.memory.cells == memory.cells + 70
    pieces = model.read(question[30:], onto=model.read(question[:30], onto=memory, protect=True).memory, protect=True)
    assert pieces.logits[-1].sub(reading.logits[-1]).abs().max() < TOLERANCE
    assert reading.logits.sub(model.read(question, protect=True, logits="all").logits).abs().max() > 0.1


@pytest.mark.parametrize("before", [130, 255])
def test_a_large_window_can_be_resumed_close_to_its_end(before: int, folders: dict[tuple[str, str], Path]) -> None:
    """Then more cells move into the working cache than rows are read."""
    model = BeaconModel.load(folders["qwen2", "qkv"], ratios=1, beacon_window=256, beacon_stride=256)
    ids = tokens(before + 130, 14)
    whole = model.memorise(ids)
    pieces = model.memorise(ids[:before])
    for token in ids[before : before + 3]:
        pieces = model.memorise([token], onto=pieces)
    pieces = model.memorise(ids[before + 3 :], onto=pieces)
    assert pieces.beacon == whole.beacon
    assert pieces.keys[1].sub(whole.keys[1]).abs().max() < TOLERANCE


def test_reading_never_changes_a_memory(folders: dict[tuple[str, str], Path]) -> None:
    model = BeaconModel.load(folders["qwen2", "qkv"])
    memory = model.memorise(tokens(75, 10))
    before = [tensor.clone() for tensor in (*memory.keys, *memory.values)]
    for protect in (False, True):
        model.read_batch([tokens(90, 11), tokens(3, 12)], onto=[memory, memory], protect=protect)
    assert all(torch.equal(a, b) for a, b in zip(before, (*memory.keys, *memory.values), strict=True))


def test_a_base_model_starts_as_published(folders: dict[tuple[str, str], Path]) -> None:
    model = BeaconModel.load(
        folders["qwen2", ""], beacon_window=32, beacon_stride=32, beacon_ratio=[4], beacon_param=["q", "k", "v"]
    )
    weights = model.decoder.state_dict()
    embedding = weights["model.embed_tokens.weight"]
    assert torch.equal(weights["model.beacon_embed_tokens.weight"][0], embedding[2])
    for name in ("q_proj.weight", "k_proj.bias", "v_proj.weight"):
        beacon, plain = (weights[f"model.layers.1.self_attn.{prefix}{name}"] for prefix in ("beacon_", ""))
        assert torch.equal(beacon, plain)


@pytest.mark.parametrize(
    ("settings_", "named"),
    [
        ({"beacon_stride": 16}, "beacon_stride 16"),
        ({"beacon_attn": "segmentation"}, "segmentation"),
        ({"beacon_attn": "step-expansion"}, "beacon_attend_prev"),
        ({"beacon_ratio": [64], "beacon_pos": "append"}, "leaves no beacon in a window of 32"),
        ({"beacon_ratio": [3, 5]}, "no ratio that divides the window of 32"),
        ({"beacon_ratio": []}, "beacon_ratio"),
        ({"beacon_ratio": "four"}, "cannot be understood.*four"),
        ({"num_hidden_layers": None}, "lacks 'num_hidden_layers'"),
        ({"beacon_ratio_mix": "adapt"}, "adapt"),
        ({"model_type": "llama"}, "llama"),
        ({"rope_scaling": {"type": "longrope", "factor": 2.0}}, "longrope"),
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(
    settings_: dict[str, Any], named: str, folders: dict[tuple[str, str], Path]
) -> None:
    with pytest.raises(ConfigurationError, match=named):
        BeaconModel.load(folders["qwen2", "qkv"], **settings_)


def test_wrong_calls_say_what_is_wrong(folders: dict[tuple[str, str], Path]) -> None:
    model = BeaconModel.load(folders["qwen2", "qkv"])
    other = BeaconModel.load(folders["mistral", "qkv"]).memorise([3, 4])
    with pytest.raises(UsageError, match="0 to 159, got 3 to 160"):
        model.memorise([3, 160])
    with pytest.raises(UsageError, match="nothing to read"):
        model.memorise([])
    with pytest.raises(ArtifactError, match="architecture 'mistral' != 'qwen2'"):
        model.memorise([3], onto=other)
    with pytest.raises(UsageError, match="skip_first 9"):
        model.memorise([3, 4], skip_first=9)
