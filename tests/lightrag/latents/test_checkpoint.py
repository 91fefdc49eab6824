from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForCausalLM

from lightrag.errors import ArtifactError, UsageError
from lightrag.latents.checkpoint import find_part, has_part, language_model_path
from lightrag.latents.encoder import LatentEncoder
from tests.checkpoints import save_causal_lm

IDS = torch.arange(20)


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal_lm(tmp_path_factory.mktemp("layouts") / "lm", "llama", num_hidden_layers=3)


def decoder_tensors(lm: Path) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix("model."): tensor
        for name, tensor in load_file(lm / "model.safetensors").items()
        if name.startswith("model.") and "layers.2." not in name
    }


def copy_config(lm: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((lm / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 2}), encoding="utf-8")


def write_combined(lm: Path, folder: Path, prefix: str = "context_compressor.", **extra: torch.Tensor) -> None:
    folder.mkdir()
    config = {"model_type": "AceRAG", "num_hidden_layers": 2, "language_model_name_or_path": "../lm"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    state = {f"{prefix}model.{name}": tensor.clone() for name, tensor in decoder_tensors(lm).items()}
    save_file(state | extra, folder / "model.safetensors")


def states(path: Path, **options: Any) -> torch.Tensor:
    from lightrag.latents.decoder import run_packed

    encoder = LatentEncoder.load(path, **options)
    return run_packed(encoder.model, IDS, [len(IDS)])


@pytest.mark.parametrize(
    "layout", ["bare_bin", "bare_safetensors", "sub_folder", "combined", "combined_old", "sharded"]
)
def test_every_layout_gives_the_encoder_that_was_stored(lm: Path, tmp_path: Path, layout: str) -> None:
    expected = states(lm, layers=2)
    folder = tmp_path / "checkpoint"
    shutil.copytree(lm, tmp_path / "lm")
    tensors = {name: tensor.clone() for name, tensor in decoder_tensors(lm).items()}
    match layout:
        case "bare_bin":
            copy_config(lm, folder)
            torch.save(tensors, folder / "pytorch_model.bin")
        case "bare_safetensors":
            copy_config(lm, folder)
            save_file(tensors, folder / "model.safetensors")
        case "sub_folder":
            copy_config(lm, folder / "compressive_encoder")
            torch.save(tensors, folder / "compressive_encoder" / "pytorch_model.bin")
        case "combined":
            write_combined(lm, folder)
        case "combined_old":
            write_combined(lm, folder, "compressive_encoder.")
        case "sharded":
            copy_config(lm, folder)
            names = sorted(tensors)
            halves = {"a.safetensors": names[:5], "b.safetensors": names[5:]}
            for file, part in halves.items():
                save_file({name: tensors[name] for name in part}, folder / file)
            index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert has_part(folder, "encoder")
    assert torch.equal(states(folder), expected)


def test_unmerged_adapters_are_merged(lm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "estimator"
    folder.mkdir()
    down, up = torch.randn(4, 128), torch.randn(128, 4)
    prefix = "compression_rate_adapter.embedding_model.model.base_model.model."
    state = {}
    for name, tensor in decoder_tensors(lm).items():
        if name.endswith("layers.0.self_attn.q_proj.weight"):
            module = prefix + name.removesuffix(".weight")
            state |= {f"{module}.base_layer.weight": tensor.clone()}
            state |= {f"{module}.lora_A.default.weight": down, f"{module}.lora_B.default.weight": up}
        else:
            state[prefix + name] = tensor.clone()
    save_file(state, folder / "model.safetensors")
    model = find_part(folder, "estimator", base=lm).build()
    original = AutoModel.from_pretrained(lm).layers[0].self_attn.q_proj.weight
    # Published adapters: rank 16 with alpha 32; here rank 4, so the factor is 32 / 4.
    torch.testing.assert_close(model.layers[0].self_attn.q_proj.weight, original + 8 * up @ down)


def test_a_grown_vocabulary_is_taken_from_the_tensor(lm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "grown"
    copy_config(lm, folder)
    tensors = decoder_tensors(lm)
    tensors["embed_tokens.weight"] = torch.cat([tensors["embed_tokens.weight"], torch.zeros(1, 128)])
    save_file(tensors, folder / "model.safetensors")
    assert torch.equal(states(folder), states(lm, layers=2))


def test_what_is_missing_is_named(lm: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        find_part(tmp_path / "nowhere", "encoder")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ArtifactError, match="no safetensors"):
        find_part(empty, "encoder")
    shutil.copytree(lm, tmp_path / "lm")
    write_combined(lm, tmp_path / "combined")
    with pytest.raises(ArtifactError, match="no estimator weights"):
        find_part(tmp_path / "combined", "estimator")
    assert language_model_path(tmp_path / "combined") == str(tmp_path / "lm")
    lonely = tmp_path / "other" / "lonely"
    lonely.parent.mkdir()
    write_combined(lm, lonely)
    with pytest.raises(ArtifactError, match="base="):
        find_part(lonely, "encoder")
    assert torch.equal(states(lonely, base=lm), states(lm, layers=2))
    with pytest.raises(UsageError, match="between 1 and 3"):
        LatentEncoder.load(lm, layers=4)


def test_missing_tensors_and_pickles_are_refused(lm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    copy_config(lm, folder)
    tensors = decoder_tensors(lm)
    del tensors["norm.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ArtifactError, match=r"norm\.weight"):
        LatentEncoder.load(folder)
    (folder / "model.safetensors").unlink()
    torch.save({"norm.weight": Path("not a tensor")}, folder / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="cannot be read"):
        LatentEncoder.load(folder)


@pytest.mark.parametrize("tied", [False, True])
def test_the_language_model_inside_a_combined_checkpoint_is_whole(tmp_path: Path, tied: bool) -> None:
    lm = save_causal_lm(tmp_path / "lm", "qwen3", tie_word_embeddings=tied)
    folder = tmp_path / "combined"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "AceRAG", "language_model_name_or_path": "../lm"}), encoding="utf-8"
    )
    state = {f"language_model.{name}": tensor for name, tensor in load_file(lm / "model.safetensors").items()}
    save_file(state, folder / "model.safetensors")
    built = find_part(folder, "language_model").build_causal_lm()
    reference = AutoModelForCausalLM.from_pretrained(lm)
    with torch.inference_mode():
        torch.testing.assert_close(built(IDS[None]).logits, reference(IDS[None]).logits)
