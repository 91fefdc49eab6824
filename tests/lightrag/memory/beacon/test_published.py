"""Files of the published system, written here as it writes them."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch

from lightrag.errors import ArtifactError
from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.beacon.published import import_published_memory
from tests.lightrag.memory.beacon.checkpoints import save_beacon_checkpoint
from tests.lightrag.memory.beacon.reference import Reference


def tokens(count: int, seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, 160) for _ in range(count)]


def export(reference: Reference) -> dict[str, Any]:
    """The published dictionary, as far as anybody reads it, with tensors of a batch of one."""

    def batch(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> list[Any]:
        return [(k[None], v[None]) if k.shape[1] else (None, None) for k, v in pairs]

    return {
        "_start_idx": reference.received - reference.t, "_end_idx": reference.received,
        "_is_full_window": reference.t == 0, "_interleave_remainder": reference.rho,
        "_interleave_compression_ratio": reference.ratio, "_compression_ratio": reference.sticky,
        "_beacon_indices": torch.tensor(reference.flags), "all_labels": None,
        "sink_activations": batch(reference.sink), "beacon_activations": batch(reference.mem),
        "raw_activations": batch(reference.raw),
    }  # fmt: skip


@pytest.mark.parametrize("length", [64, 75, 103, 20])
def test_reading_goes_on_from_a_published_memory(length: int, tmp_path: Path) -> None:
    folder = save_beacon_checkpoint(tmp_path / "model")
    model, reference = BeaconModel.load(folder), Reference(folder)
    reference.read(tokens(length, 1))
    torch.save(export(reference), tmp_path / "memory.bin")
    memory = import_published_memory(tmp_path / "memory.bin", model)
    native = model.memorise(tokens(length, 1))
    assert memory.beacon == native.beacon
    assert memory.keys[1].sub(native.keys[1]).abs().max() < 1e-4
    question = tokens(40, 2)
    reading = model.read(question, onto=memory, logits="step")
    assert reading.logits.sub(reference.read(question)).abs().max() < 1e-4


def test_code_in_a_file_is_never_executed(tmp_path: Path) -> None:
    marker = tmp_path / "executed"

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {marker}",)

    torch.save({"beacon_activations": Evil()}, tmp_path / "memory.bin")
    model = BeaconModel.load(save_beacon_checkpoint(tmp_path / "model"))
    with pytest.raises(ArtifactError, match="plain tensors"):
        import_published_memory(tmp_path / "memory.bin", model)
    assert not marker.exists()


def test_files_that_are_something_else_are_named(tmp_path: Path) -> None:
    folder = save_beacon_checkpoint(tmp_path / "model")
    model = BeaconModel.load(folder)
    path = tmp_path / "memory.bin"
    with pytest.raises(ArtifactError, match="cannot be read"):
        import_published_memory(path, model)
    for content in (b"hello", b"", b"PK\x03\x04", b"cos\nsystem\n(S'true'\ntR."):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match="plain tensors") as refused:
            import_published_memory(path, model)
        assert "weights_only" not in str(refused.value)
    torch.save({"memory": torch.zeros(3)}, path)
    with pytest.raises(ArtifactError, match="lacks"):
        import_published_memory(path, model)
    reference = Reference(folder)
    reference.read(tokens(64, 1))
    torch.save(export(reference) | {"beacon_activations": [(torch.zeros(1, 3, 4, 16),) * 2] * 2}, path)
    with pytest.raises(ArtifactError, match=r"shape \(3, 4, 16\)"):
        import_published_memory(path, model)
