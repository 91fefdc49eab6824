"""Documents' memories put together and taken apart."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, NotFoundError, UsageError
from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.composing import DocumentMemory, compose, extract, replace_documents
from lightrag.memory.full_context import FullContextModel
from lightrag.memory.kv_memory import KVMemory
from tests.checkpoints import save_causal_lm
from tests.lightrag.memory.beacon.checkpoints import save_beacon_checkpoint


def tokens(count: int, seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, 160) for _ in range(count)]


@pytest.fixture(scope="module")
def beacon(tmp_path_factory: pytest.TempPathFactory) -> BeaconModel:
    return BeaconModel.load(save_beacon_checkpoint(tmp_path_factory.mktemp("compose")))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> FullContextModel:
    return FullContextModel.load(save_causal_lm(tmp_path_factory.mktemp("compose-full"), "llama"))


def distance(one: KVMemory, other: KVMemory) -> float:
    assert one.cells == other.cells
    pairs = zip((*one.keys, *one.values), (*other.keys, *other.values), strict=True)
    return max(float((a - b).abs().max()) for a, b in pairs)


def test_the_first_document_is_exact_and_the_second_only_moved(beacon: BeaconModel) -> None:
    first, second = beacon.memorise(tokens(64, 1)), beacon.memorise(tokens(50, 2))
    both = compose([DocumentMemory("a", first), DocumentMemory("b", second)])
    assert both.cells == first.cells + second.cells
    assert both.source_tokens == 114
    assert torch.equal(both.keys[1][:, : first.cells], first.keys[1])
    assert torch.equal(both.values[0][:, first.cells :], second.values[0])
    assert distance(extract(both, "b"), second) < 1e-5


def test_moved_keys_are_those_of_reading_at_the_new_place(full: FullContextModel) -> None:
    """In the first layer keys depend on token and place only, so composing must equal reading on."""
    one, two = tokens(40, 1), tokens(30, 2)
    both = compose([DocumentMemory("a", full.memorise(one)), DocumentMemory("b", full.memorise(two))])
    whole = full.memorise(one + two)
    assert both.keys[0].sub(whole.keys[0]).abs().max() < 1e-4
    assert both.keys[1].sub(whole.keys[1]).abs().max() > 0.1


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 80), min_size=2, max_size=4), data=st.data())
def test_removing_and_replacing_equal_composing_anew(
    beacon: BeaconModel, lengths: list[int], data: st.DataObject
) -> None:
    memories = {str(index): beacon.memorise(tokens(length, index)) for index, length in enumerate(lengths)}
    both = compose([DocumentMemory(*item) for item in memories.items()])
    gone = data.draw(st.sampled_from(sorted(memories)))
    changed = data.draw(st.sampled_from(sorted(set(memories) - {gone})))
    fresh = beacon.memorise(tokens(33, 99))
    result = replace_documents(both, {gone: None, changed: fresh})
    expected = [(name, fresh if name == changed else memory) for name, memory in memories.items() if name != gone]
    assert distance(result, compose([DocumentMemory(*item) for item in expected])) < 1e-4
    assert [part.document_id for part in result.parts] == [name for name, _ in expected]


def test_composed_memories_can_be_composed_and_read_on(beacon: BeaconModel) -> None:
    pieces = [DocumentMemory(name, beacon.memorise(tokens(40, seed))) for seed, name in enumerate("abc")]
    nested = compose([DocumentMemory("ab", compose(pieces[:2])), pieces[2]])
    assert distance(nested, compose(pieces)) < 1e-5
    longer = beacon.memorise(tokens(70, 9), onto=nested)
    assert longer.source_tokens == 190
    assert longer.cells == nested.cells + 2 * 8 + 6 + 1


def test_what_cannot_be_composed_is_refused(beacon: BeaconModel, full: FullContextModel) -> None:
    memory = beacon.memorise(tokens(10, 1))
    with pytest.raises(UsageError, match="no memory"):
        compose([])
    with pytest.raises(UsageError, match=r"\['a'\]"):
        compose([DocumentMemory("a", memory), DocumentMemory("a", memory)])
    with pytest.raises(ArtifactError, match="another model"):
        compose([DocumentMemory("a", memory), DocumentMemory("b", full.memorise(tokens(5, 1)))])
    with pytest.raises(NotFoundError, match="'c'"):
        extract(compose([DocumentMemory("a", memory)]), "c")
    with pytest.raises(UsageError, match="no memory"):
        replace_documents(compose([DocumentMemory("a", memory)]), {"a": None})


def test_scalings_that_have_grown_apart_are_refused(tmp_path: Path) -> None:
    folder = save_beacon_checkpoint(
        tmp_path, rope_scaling={"type": "dynamic", "factor": 2.0}, max_position_embeddings=40
    )
    model = BeaconModel.load(folder)
    short, long = model.memorise(tokens(20, 1)), model.memorise(tokens(190, 2))
    with pytest.raises(UsageError, match="'long' is rotated differently"):
        compose([DocumentMemory("short", short), DocumentMemory("long", long)])
