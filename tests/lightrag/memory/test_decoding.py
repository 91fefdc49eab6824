"""Generation over shared memories: no question copies a memory, however it is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lightrag.memory.decoding import Decoding, generate
from lightrag.memory.kv_memory import BeaconState, KVMemory
from lightrag.memory.memory_model import MemoryModel, load_memory_model
from tests.checkpoints import save_causal_lm
from tests.lightrag.memory.beacon.checkpoints import save_beacon_checkpoint

CELLS = 8192
QUESTION = list(range(3, 35))


def allocations(action: Callable[[], object]) -> list[int]:
    """Bytes of every tensor that an action makes, inside kernels too."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        action()
    return [event.cpu_memory_usage for event in profile.events() if event.cpu_memory_usage > 0]


def with_cells(model: MemoryModel, made: KVMemory) -> KVMemory:
    """A memory of the model with many cells; how they came about does not matter to what they cost."""
    shape = (made.keys[0].shape[0], CELLS, made.keys[0].shape[2])
    keys, values = (tuple(torch.randn(shape) for _ in made.keys) for _ in range(2))
    state = BeaconState() if made.kind == "beacon" else None
    return KVMemory(made.kind, model.identity, keys, values, made.rope, source_tokens=CELLS, beacon=state)


@pytest.fixture(scope="module", params=["beacon", "full"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MemoryModel:
    folder: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "beacon":
        save_beacon_checkpoint(folder, max_position_embeddings=16384)
    else:
        save_causal_lm(folder, "llama", seed=5, max_position_embeddings=16384)
    return load_memory_model(folder)


@pytest.mark.parametrize("questions", [1, 3])
def test_a_question_copies_no_layer_of_the_memory(questions: int, model: MemoryModel) -> None:
    memory = with_cells(model, model.memorise([3, 4, 5]))
    layer = memory.keys[0].numel() * memory.keys[0].element_size()
    assert any(size >= layer for size in allocations(lambda: memory.keys[0].clone())), "copies are not seen"

    def ask() -> None:
        generate(model.session([memory] * questions), [QUESTION] * questions, Decoding(max_tokens=3))

    sizes = allocations(ask)
    assert sizes
    assert max(sizes) < layer / 2
