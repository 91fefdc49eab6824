"""Reads checkpoints in the published layout, and base models that have no beacon tensors yet.

Knows nothing of memories. Safetensors, single or sharded, are preferred; ``pytorch_model.bin`` is read as weights only,
which executes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lightrag.errors import ArtifactError
from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.decoder import BeaconDecoder

_BEACON_EMBEDDING = "model.beacon_embed_tokens.weight"


def load_decoder(folder: Path, config: BeaconConfig, *, dtype: torch.dtype, device: torch.device) -> BeaconDecoder:
    """Build the decoder from a checkpoint folder.

    Raises:
        ArtifactError: there are no weights, a tensor is missing, or one has another shape than the configuration says.
    """
    with torch.device("meta"):
        decoder = BeaconDecoder(config)
    expected = decoder.state_dict()
    tensors = read_tensors(folder, wanted=frozenset(expected))
    if config.tied_embeddings:
        tensors.setdefault("lm_head.weight", tensors["model.embed_tokens.weight"])
    _initialise_beacons(tensors, config, expected)
    _check(tensors, expected, folder)
    decoder.load_state_dict({name: tensors[name].to(device, dtype) for name in expected}, assign=True)
    return decoder.eval().requires_grad_(False)


def read_tensors(folder: Path, *, wanted: frozenset[str]) -> dict[str, Tensor]:
    """Read the wanted tensors of a checkpoint.

    Raises:
        ArtifactError: there is no weight file, or one is damaged.
    """
    files = weight_files(folder)
    tensors: dict[str, Tensor] = {}
    for path in files:
        tensors.update(_read_safetensors(path, wanted) if path.suffix == ".safetensors" else _read_bin(path, wanted))
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """Return the weight files of a checkpoint.

    Raises:
        ArtifactError: there are none, or the index names files that are missing.
    """
    for stem, suffix in (("model", ".safetensors"), ("pytorch_model", ".bin")):
        index, single = folder / f"{stem}{suffix}.index.json", folder / f"{stem}{suffix}"
        if index.is_file():
            try:
                names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            except (ValueError, KeyError, AttributeError) as error:
                raise ArtifactError(f"{str(index)!r} is not a weight index: {error}", subject=str(index)) from error
            missing = sorted(name for name in names if not (folder / Path(name).name).is_file())
            if missing:
                raise ArtifactError(f"{str(folder)!r} lacks the weight files {missing!r}", subject=str(folder))
            return [folder / Path(name).name for name in sorted(names)]
        if single.is_file():
            return [single]
    raise ArtifactError(
        f"{str(folder)!r} has no weights: expected model.safetensors, its index, or pytorch_model.bin",
        subject=str(folder),
    )


def tensor_names(path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file.

    Raises:
        ArtifactError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except SafetensorError as error:
        raise ArtifactError(f"{str(path)!r} is damaged: {error}", subject=str(path)) from error


def _read_safetensors(path: Path, wanted: frozenset[str]) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys() if name in wanted}  # noqa: SIM118  # no mapping
    except SafetensorError as error:
        raise ArtifactError(f"{str(path)!r} is damaged: {error}", subject=str(path)) from error


def _read_bin(path: Path, wanted: frozenset[str]) -> dict[str, Tensor]:
    import pickle

    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if not isinstance(loaded, Mapping):
            raise TypeError(f"it holds a {type(loaded).__name__}")
    # The reader meets arbitrary bytes, and answers with whatever its look-ups and conversions raise.
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError) as error:
        raise ArtifactError(
            f"{str(path)!r} is not a file of plain weights; convert it to safetensors: {error}", subject=str(path)
        ) from error
    return {name: tensor for name, tensor in loaded.items() if name in wanted}


def _initialise_beacons(tensors: dict[str, Tensor], config: BeaconConfig, expected: Mapping[str, Tensor]) -> None:
    """Copy the ordinary projections where beacon ones are missing, a whole kind at a time, and the eos or bos row."""
    for kind in config.params:
        names = [name for name in expected if f".beacon_{kind}_proj." in name]
        if any(name not in tensors for name in names):
            for name in names:
                source = name.replace(f"beacon_{kind}_proj", f"{kind}_proj")
                if source in tensors:
                    tensors[name] = tensors[source].clone()
    if _BEACON_EMBEDDING not in tensors and "model.embed_tokens.weight" in tensors:
        eos = config.eos_token_ids[0] if config.eos_token_ids else None
        token = eos if config.embed_init == "eos" else config.bos_token_id
        if token is None:
            raise ArtifactError(
                f"the beacon embedding starts as a copy of the {config.embed_init} token's, but config.json names none"
            )
        tensors[_BEACON_EMBEDDING] = tensors["model.embed_tokens.weight"][token : token + 1].clone()


def _check(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], folder: Path) -> None:
    missing = sorted(set(expected) - set(tensors))
    if missing:
        shown = ", ".join(missing[:5]) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
        raise ArtifactError(f"{str(folder)!r} lacks the tensors {shown}", subject=str(folder))
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            raise ArtifactError(
                f"tensor {name!r} in {str(folder)!r} has shape {tuple(tensors[name].shape)}, "
                f"config.json says {tuple(tensor.shape)}",
                subject=str(folder),
            )


__all__ = ["load_decoder", "read_tensors", "tensor_names", "weight_files"]
