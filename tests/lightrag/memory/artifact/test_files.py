"""Memories written to places and loaded again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from lightrag.errors import ArtifactError, NotFoundError, UsageError
from lightrag.memory.artifact import saving
from lightrag.memory.artifact.loading import load_memory, read_manifest, stream_layers
from lightrag.memory.artifact.manifest import StoredFile, fingerprint_of
from lightrag.memory.artifact.places import FolderPlace, MemoryPlace, StorePlace
from lightrag.memory.artifact.quantise import quantise_keys, quantise_values, restore
from lightrag.memory.artifact.saving import save_memory
from lightrag.memory.kv_memory import BeaconState, KVMemory, MemoryPart, ModelIdentity, RopeState
from lightrag.storage.objects import open_object_store

IDENTITY = ModelIdentity("qwen2", "c0", "w0", "t0")


def make_memory(cells: int = 70, layers: int = 3, dtype: torch.dtype = torch.float32, seed: int = 0) -> KVMemory:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> tuple[torch.Tensor, ...]:
        return tuple(torch.randn(2, cells, 16, generator=generator).to(dtype) for _ in range(layers))

    return KVMemory(
        kind="beacon",
        model=IDENTITY,
        keys=draw(),
        values=draw(),
        rope=RopeState((1.0, 0.1), scale=1.5, length=90),
        source_tokens=200,
        beacon=BeaconState(b"\x00\x01\x02", 2, 1, 4, 3, -1),
        token_ids=(5, 6),
        parts=(MemoryPart("a", 0, cells, 200),),
    )


def same(one: KVMemory, other: KVMemory) -> bool:
    return all(torch.equal(a, b) for a, b in zip((*one.keys, *one.values), (*other.keys, *other.values), strict=True))


Places = Callable[[Path], MemoryPlace]
PLACES: dict[str, Places] = {
    "folder": lambda path: FolderPlace(path),
    "local store": lambda path: StorePlace(open_object_store(path.as_uri()), "tenant/memory/1"),
    "remote store": lambda path: StorePlace(open_object_store(f"memory://{path.name}"), "memory/1"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_memory_comes_back_bit_by_bit(place: str, dtype: torch.dtype, tmp_path: Path) -> None:
    memory, where = make_memory(dtype=dtype), PLACES[place](tmp_path)
    manifest = save_memory(memory, where)
    loaded = load_memory(where, model=IDENTITY)
    assert same(memory, loaded)
    assert loaded.fingerprint == manifest.fingerprint
    for name in ("kind", "model", "rope", "source_tokens", "beacon", "token_ids", "parts"):
        assert getattr(loaded, name) == getattr(memory, name)


def test_large_memories_become_several_files_of_whole_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = make_memory(cells=9000, layers=5)
    monkeypatch.setattr(saving, "_FILE_BYTES", 5_000_000)
    monkeypatch.setattr(saving, "PART_BYTES", 1_000_000)
    manifest = save_memory(memory, tmp_path)
    assert [file.layers for file in manifest.files] == [(0, 2), (2, 4), (4, 5)]
    assert same(memory, load_memory(tmp_path))
    layers = list(stream_layers(FolderPlace(tmp_path), manifest, dtype=torch.bfloat16))
    assert layers[4].keys.dtype == torch.bfloat16


def test_the_files_are_plain_safetensors(tmp_path: Path) -> None:
    memory = make_memory()
    save_memory(memory, tmp_path)
    tensors = load_file(tmp_path / "cells-00000.safetensors")
    assert torch.equal(tensors["layers.1.k"], memory.keys[1])
    assert json.loads((tmp_path / "memory.json").read_text())["cells"] == 70


def test_equal_content_has_an_equal_fingerprint_and_other_content_another(tmp_path: Path) -> None:
    prints = [save_memory(make_memory(seed=seed), tmp_path / str(n)).fingerprint for n, seed in enumerate((0, 0, 1))]
    assert prints[0] == prints[1] != prints[2]


def test_eight_bit_cells_take_half_of_bfloat16_and_are_close(tmp_path: Path) -> None:
    memory = make_memory(cells=2000, dtype=torch.bfloat16)
    small = save_memory(memory, tmp_path / "small", quantisation="int8").files[0].size
    large = save_memory(memory, tmp_path / "large").files[0].size
    assert small < 0.6 * large
    loaded = load_memory(tmp_path / "small")
    assert loaded.dtype == torch.bfloat16
    for ours, theirs in zip((*loaded.keys, *loaded.values), (*memory.keys, *memory.values), strict=True):
        assert ours.float().sub(theirs.float()).abs().max() < 0.04


@settings(max_examples=30, deadline=None)
@given(cells=st.integers(0, 20), size=st.floats(1e-6, 1e6), seed=st.integers(0, 99))
def test_a_quantised_cell_is_off_by_at_most_half_a_scale(cells: int, size: float, seed: int) -> None:
    keys = torch.randn(2, cells, 8, generator=torch.Generator().manual_seed(seed)) * size
    keys[..., 3] *= 100
    for quantised in (quantise_keys(keys), quantise_values(keys)):
        assert quantised.cells.dtype == torch.int8
        error = restore(quantised, torch.float32).sub(keys).abs()
        assert bool((error <= quantised.scale * 0.501).all())


@pytest.mark.parametrize("place", PLACES)
def test_one_flipped_byte_is_noticed(place: str, tmp_path: Path) -> None:
    where = PLACES[place](tmp_path)
    manifest = save_memory(make_memory(), where)
    name = manifest.files[0].name
    content = bytearray(where.open(name, manifest.files[0].size).buffer.numpy().tobytes())
    if place == "remote store":
        store = open_object_store(f"memory://{tmp_path.name}")
        content[:] = store.get(f"memory/1/{name}")
    content[-5] ^= 1
    where.write(name, [bytes(content)])
    with pytest.raises(ArtifactError, match="is damaged in bytes 0 to"):
        load_memory(where)


def test_a_file_that_changed_after_it_was_verified_is_verified_again(tmp_path: Path) -> None:
    memory = make_memory()
    save_memory(memory, tmp_path)
    for _ in range(2):
        assert same(load_memory(tmp_path), memory)
    path = tmp_path / "cells-00000.safetensors"
    with path.open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x00\x01\x02\x03")
    with pytest.raises(ArtifactError, match="is damaged"):
        load_memory(tmp_path)


def test_a_cut_or_missing_file_is_named(tmp_path: Path) -> None:
    save_memory(make_memory(), tmp_path)
    path = tmp_path / "cells-00000.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ArtifactError, match="the manifest says"):
        load_memory(tmp_path)
    path.unlink()
    with pytest.raises(ArtifactError, match="cells-00000"):
        load_memory(tmp_path)


def test_a_memory_is_absent_until_its_manifest_is_written(tmp_path: Path) -> None:
    class Interrupted(FolderPlace):
        def write(self, name: str, parts: object) -> None:
            if name == "memory.json":
                raise KeyboardInterrupt
            super().write(name, parts)  # type: ignore[arg-type]  # passed on as it came

    with pytest.raises(KeyboardInterrupt):
        save_memory(make_memory(), Interrupted(tmp_path))
    with pytest.raises(NotFoundError):
        load_memory(tmp_path)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights_id": "w1"}, "weights 'w0' != 'w1'"),
        ({"config_hash": "c1", "tokenizer_hash": "t1"}, "configuration 'c0' != 'c1'; tokenizer 't0' != 't1'"),
    ],
)
def test_the_wrong_model_is_told_what_differs(changed: dict[str, str], said: str, tmp_path: Path) -> None:
    save_memory(make_memory(), tmp_path)
    with pytest.raises(ArtifactError, match=said):
        load_memory(tmp_path, model=replace(IDENTITY, **changed))
    load_memory(tmp_path, model=replace(IDENTITY, tokenizer_hash=""))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("[]", "format None"),
        ('{"format": 2}', "format 2"),
        ('{"format": 1}', "kind: Field required"),
    ],
)
def test_a_strange_manifest_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_text(text)
    with pytest.raises(ArtifactError, match=said):
        read_manifest(tmp_path)


def _window(raw: dict[str, Any], **changed: object) -> None:
    raw["beacon"] |= changed


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw["model"].update(weights_id="w1"), "its fingerprint is not that of its model and files"),
        (lambda raw: raw["files"][0].update(digests=["0" * 64]), "its fingerprint is not"),
        (lambda raw: raw.update(kind="full"), "a full memory with the state of a beacon memory"),
        (lambda raw: raw.update(beacon=None), "a beacon memory without the state"),
        (lambda raw: _window(raw, tokens=9), "an open window of 9 tokens and 3 cells"),
        (lambda raw: _window(raw, flags="0" * 71, tokens=71), "71 cells, of 70 in all"),
        (lambda raw: _window(raw, flags="0x1"), "beacon.flags"),
        (lambda raw: raw["parts"][0].update(start=1), "documents beyond the last of 70 cells"),
        (lambda raw: raw["rope"].update(inverse_frequencies=[1.0] * 9), "9 frequencies for heads of 16 dimensions"),
    ],
)
def test_a_manifest_that_was_edited_is_refused(
    change: Callable[[dict[str, Any]], object], said: str, tmp_path: Path
) -> None:
    save_memory(make_memory(), tmp_path)
    raw = json.loads((tmp_path / "memory.json").read_text())
    change(raw)
    (tmp_path / "memory.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match=said):
        load_memory(tmp_path)


def test_a_header_that_points_outside_the_file_is_refused(tmp_path: Path) -> None:
    from blake3 import blake3

    manifest = save_memory(make_memory(), tmp_path)
    path = tmp_path / manifest.files[0].name
    content = bytearray(path.read_bytes())
    content[:8] = (10**15).to_bytes(8, "little")
    path.write_bytes(bytes(content))
    raw = json.loads((tmp_path / "memory.json").read_text())
    raw["files"][0]["digests"] = [blake3(bytes(content)).hexdigest()]
    files = [StoredFile.model_validate_json(json.dumps(file)) for file in raw["files"]]
    raw["fingerprint"] = fingerprint_of(IDENTITY, files)
    (tmp_path / "memory.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        load_memory(tmp_path)


def test_nothing_cannot_be_stored(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without cells"):
        save_memory(make_memory(cells=0), tmp_path)
