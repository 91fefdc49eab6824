"""Against numbers that the published code produced (float32, tolerance 1e-4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lightrag.memory.beacon.loss import windowed_loss
from lightrag.memory.beacon.model import BeaconModel, Reading
from lightrag.memory.decoding import Decoding, generate
from lightrag.memory.kv_memory import KVMemory
from lightrag.memory.rope import move_keys

TOLERANCE = 1e-4
SCENARIOS = {
    "base": {}, "cross": {}, "short": {}, "odd": {}, "batch": {}, "ratio2": {"beacon_ratio": [2]},
    "ratio8": {"beacon_ratio": [8]}, "append_fullcoverage_prev": {"beacon_pos": "append"},
}  # fmt: skip

Shared = Callable[[str], Path]


@pytest.fixture
def numbers(shared: Shared) -> dict[str, NDArray[np.float32]]:
    return dict(np.load(shared("parity/memorag_qwen2.npz")))


@pytest.fixture
def folder(shared: Shared) -> Path:
    return shared("parity/memorag_qwen2")


def unrotated(model: BeaconModel, memory: KVMemory) -> list[torch.Tensor]:
    table = model.config.rope.table(memory.cells)
    here = torch.arange(memory.cells)
    return [move_keys(keys, here, torch.zeros_like(here), table) for keys in memory.keys]


def distance(ours: torch.Tensor, theirs: NDArray[np.float32]) -> float:
    return float(np.abs(ours.numpy() - theirs).max())


@pytest.mark.parametrize("name", SCENARIOS)
def test_memories_and_logits_equal_the_published_ones(
    name: str, folder: Path, numbers: dict[str, NDArray[np.float32]]
) -> None:
    def given(key: str) -> NDArray[np.float32]:
        return numbers[f"{name}/{key}"]

    model = BeaconModel.load(folder, **SCENARIOS[name])  # type: ignore[arg-type]  # overrides of config fields
    rows = given("ctx").tolist()
    memories: list[KVMemory | None] = [None] * len(rows)
    readings: list[Reading] = []
    at = 0
    for size in given("ctx_splits").tolist():
        readings = model.read_batch([row[at : at + size] for row in rows], onto=memories, logits="step")
        memories, at = [reading.memory for reading in readings], at + size
    assert distance(torch.stack([reading.logits for reading in readings]), given("ctx_logits")) < TOLERANCE
    parts = [key for key in ("beacon", "raw") if f"{name}/{key}_k" in numbers]
    values = np.concatenate([given(f"{part}_v") for part in parts], 3)
    keys = np.concatenate([given(f"{part}_k") for part in parts], 3)
    made = [reading.memory for reading in readings]
    assert distance(torch.stack([torch.stack(memory.values) for memory in made], 1), values) < TOLERANCE
    assert distance(torch.stack([torch.stack(unrotated(model, memory)) for memory in made], 1), keys) < TOLERANCE
    start, end, remainder, _, ratio = given("state").tolist()
    for memory in made:
        assert memory.beacon is not None
        assert memory.source_tokens == end
        assert memory.beacon.tokens == end - start
        if ratio > 0:
            assert (memory.beacon.remainder, memory.beacon.ratio) == (remainder, ratio)
        assert list(memory.beacon.flags) == given("open_window").tolist()
    answers = model.read_batch(given("query").tolist(), onto=made, logits="step")
    assert distance(torch.stack([answer.logits for answer in answers]), given("q_logits")) < TOLERANCE


def test_forty_greedy_tokens_equal_the_published_ones(folder: Path, numbers: dict[str, NDArray[np.float32]]) -> None:
    model = BeaconModel.load(folder)
    memory = model.memorise(numbers["gen/ctx"][0].tolist())
    decoding = Decoding(max_tokens=40, suppressed_ids=model.eos_token_ids)
    answer = generate(model.session([memory]), numbers["gen/query"].tolist(), decoding, protect=False)[0]
    assert list(answer.token_ids) == numbers["gen/gen"][0].tolist()


def test_without_beacons_it_is_the_ordinary_model(folder: Path, numbers: dict[str, NDArray[np.float32]]) -> None:
    reading = BeaconModel.load(folder).read(numbers["plain/ctx"][0].tolist(), logits="all", protect=True)
    assert distance(reading.logits, numbers["plain/ctx_logits"][0]) < TOLERANCE


@pytest.mark.parametrize("recompute", [False, True])
def test_training_loss_and_gradients_equal_the_published_ones(
    recompute: bool, folder: Path, numbers: dict[str, NDArray[np.float32]]
) -> None:
    model = BeaconModel.load(folder)
    trained = {name: weight for name, weight in model.decoder.named_parameters() if "beacon" in name}
    for weight in trained.values():
        weight.requires_grad_(True)
    ids = numbers["train/ctx"][0].tolist()
    loss = windowed_loss(model.decoder, model.config, ids, ids, recompute=recompute).mean
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert abs(loss.item() - float(numbers["train/loss"])) < TOLERANCE
    norms = {key.removeprefix("train/grad_norm/"): value for key, value in numbers.items() if "grad_norm/" in key}
    assert set(norms) == set(trained)
    for name, norm in norms.items():
        gradient = trained[name].grad
        assert gradient is not None
        assert abs(float(gradient.norm()) - float(norm)) < TOLERANCE
    for key, theirs in numbers.items():
        if key.startswith("train/grad/"):
            gradient = trained[key.removeprefix("train/grad/")].grad
            assert gradient is not None
            assert distance(gradient, theirs) < TOLERANCE
