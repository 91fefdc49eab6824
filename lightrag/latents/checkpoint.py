"""Finds the parts of a published compressor checkpoint and builds its decoders from them.

It looks at tensor names, never at class names, and runs no code that came with a checkpoint. It knows nothing of
prompts, ratios or budgets.

Layouts read (published names in brackets): a bare decoder (FlexRAG), a causal LM with ``model.`` and ``lm_head``, one
folder with prefixed parts (TacZip, AceRAG), and a folder with one sub-folder per part (trainers).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lightrag.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    import torch

Role = Literal["encoder", "language_model", "estimator"]

_PREFIXES: dict[Role, tuple[str, ...]] = {
    "encoder": ("context_compressor.", "compressive_encoder."),
    "language_model": ("language_model.",),
    "estimator": ("compression_rate_adapter.embedding_model.", "embedding_model."),
}
_FOLDERS: dict[Role, tuple[str, ...]] = {
    "encoder": ("context_compressor", "compressive_encoder", "encoder"),
    "language_model": ("language_model", "lm"),
    "estimator": ("compression_rate_adapter", "embedding_model", "estimator", "embedding"),
}
# Key of a combined configuration that names where the part's own configuration (and weights) come from.
_REFERENCES: dict[Role, str] = {
    "encoder": "encoder_name_or_path",
    "language_model": "language_model_name_or_path",
    "estimator": "embedding_model_name_or_path",
}
_DECODER_NAME = re.compile(r"(?:^|\.)(embed_tokens\.|layers\.\d+\.|norm\.weight$|lm_head\.)")
_LAYER_NAME = re.compile(r"layers\.(\d+)\.")


class Weights(Mapping[str, "torch.Tensor"]):
    """Tensors of one checkpoint folder, read when asked for.

    Raises:
        ArtifactError: the folder holds no weights, or they cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = _index(folder)
        self._binaries: dict[Path, dict[str, torch.Tensor]] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, name: str) -> torch.Tensor:
        path = self._files[name]
        if path.suffix == ".bin":
            if path not in self._binaries:
                self._binaries[path] = _read_binary(path)
            return self._binaries[path][name]
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return file.get_tensor(name)

    def rows(self, name: str) -> int:
        """First dimension of a tensor, without reading it."""
        path = self._files[name]
        if path.suffix == ".bin":
            return self[name].shape[0]
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            return int(file.get_slice(name).get_shape()[0])


@dataclass(frozen=True, slots=True)
class Part:
    """One decoder inside a checkpoint: which tensors are its own, and what shape it has."""

    role: Role
    weights: Weights
    names: Mapping[str, str]
    """Decoder name (``layers.0.mlp.up_proj.weight``, ``lm_head.weight``) to the name in ``weights``."""
    config: Any
    """The ``transformers`` configuration of the decoder."""

    @property
    def layers(self) -> int:
        """Number of decoder layers whose weights are present."""
        found = [int(match.group(1)) for name in self.names if (match := _LAYER_NAME.search(name))]
        return max(found) + 1 if found else 0

    def build(self, layers: int | None = None, dtype: torch.dtype | None = None, device: str = "cpu") -> Any:
        """Build the decoder without its language-model head, ready for inference.

        Args:
            layers: keep the first so many layers; ``None`` keeps all that are present.
            dtype: ``None`` keeps the stored one.
            device: where the weights go.

        Raises:
            ArtifactError: tensors are missing or do not fit the configuration.
            UsageError: more layers are wanted than there are.
        """
        from lightrag.latents.building import build_decoder

        if layers is not None and not 0 < layers <= self.layers:
            raise UsageError(f"layers must be between 1 and {self.layers}, the layers present, not {layers}")
        return build_decoder(self, layers or self.layers, dtype, device)

    def build_causal_lm(self, dtype: torch.dtype | None = None, device: str = "cpu") -> Any:
        """Build the whole language model, head included, ready for inference.

        Raises:
            ArtifactError: tensors are missing or do not fit the configuration.
        """
        from lightrag.latents.building import build_causal_lm

        return build_causal_lm(self, dtype, device)


def find_part(path: str | Path, role: Role, *, base: str | Path | None = None) -> Part:
    """Find one part of a checkpoint.

    Args:
        path: folder of a checkpoint in any layout that this module reads.
        role: which part; ``encoder`` also accepts a bare decoder or a causal LM.
        base: folder whose ``config.json`` describes the decoder, for combined checkpoints that only name it.

    Raises:
        ArtifactError: the part is not there, or nothing describes its architecture.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ArtifactError(f"checkpoint folder {str(folder)!r} does not exist", subject=str(folder))
    for name in _FOLDERS[role]:
        if (folder / name).is_dir() and _has_weights(folder / name):
            return find_part(folder / name, role, base=base)
    weights = Weights(folder)
    names = _own_names(weights, role)
    if not names:
        return _find_elsewhere(folder, role, base)
    return Part(role, weights, names, _decoder_config(folder, role, base, names, weights))


def has_part(path: str | Path, role: Role) -> bool:
    """Tell whether a checkpoint carries weights of this part itself."""
    folder = Path(path)
    if any((folder / name).is_dir() and _has_weights(folder / name) for name in _FOLDERS[role]):
        return True
    return _has_weights(folder) and bool(_own_names(Weights(folder), role))


def holds_language_model(path: str | Path) -> bool:
    """Tell whether a combined checkpoint carries its language model's weights under a prefix of their own."""
    folder = Path(path)
    return _has_weights(folder) and any(name.startswith(_PREFIXES["language_model"]) for name in Weights(folder))


def language_model_path(path: str | Path) -> str:
    """Name or folder of the language model that a combined checkpoint refers to.

    Raises:
        ArtifactError: the checkpoint does not say.
    """
    folder = Path(path)
    reference = _read_config(folder).get(_REFERENCES["language_model"], "")
    if not reference:
        raise ArtifactError(f"checkpoint {str(folder)!r} does not name its language model", subject=str(folder))
    return _resolve(folder, reference)


# --- names ------------------------------------------------------------------------------------------------------------


def _own_names(weights: Weights, role: Role) -> dict[str, str]:
    for prefix in _PREFIXES[role]:
        own = {name: name[len(prefix) :] for name in weights if name.startswith(prefix)}
        if own:
            return {strip_name(short): name for name, short in own.items()}
    if any(name.startswith(prefix) for prefixes in _PREFIXES.values() for prefix in prefixes for name in weights):
        return {}  # A combined checkpoint without this part: its bare names belong to nobody.
    return {strip_name(name): name for name in weights if _DECODER_NAME.search(name)}


def strip_name(name: str) -> str:
    """Cut wrapper prefixes (``model.``, ``base_model.model.``) down to the decoder's own name."""
    match = _DECODER_NAME.search(name)
    return name[match.start(1) :] if match else name


def _index(folder: Path) -> dict[str, Path]:
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / index).is_file():
            listing = json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"]
            return {name: folder / file for name, file in listing.items()}
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    if not files:
        raise ArtifactError(f"no safetensors and no pytorch_model.bin in {str(folder)!r}", subject=str(folder))
    return {name: file for file in files for name in _names_in(file)}


def _names_in(file: Path) -> list[str]:
    if file.suffix == ".bin":
        return list(_read_binary(file))
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys())
    except (SafetensorError, OSError) as error:
        raise ArtifactError(f"weights {str(file)!r} cannot be read: {error}", subject=str(file)) from error


def _read_binary(file: Path) -> dict[str, torch.Tensor]:
    import pickle

    import torch

    try:
        return dict(torch.load(file, map_location="cpu", weights_only=True, mmap=True))
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError) as error:
        raise ArtifactError(f"weights {str(file)!r} cannot be read: {error}", subject=str(file)) from error


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors")) or any(folder.glob("pytorch_model*.bin"))


# --- configuration ----------------------------------------------------------------------------------------------------


def _read_config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    if not file.is_file():
        return {}
    content = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ArtifactError(f"{str(file)!r} does not hold a JSON object", subject=str(file))
    return content


def _resolve(folder: Path, reference: str) -> str:
    nearby = (folder / reference).resolve()
    return str(nearby) if nearby.is_dir() else reference


def _find_elsewhere(folder: Path, role: Role, base: str | Path | None) -> Part:
    reference = _read_config(folder).get(_REFERENCES[role], "")
    target = Path(_resolve(folder, reference)) if reference else folder
    if target == folder or not target.is_dir():
        raise ArtifactError(
            f"checkpoint {str(folder)!r} has no {role} weights"
            + (f", and {reference!r}, which it names, is not a local folder" if reference else ""),
            subject=str(folder),
        )
    return find_part(target, role, base=base)


def _decoder_config(
    folder: Path, role: Role, base: str | Path | None, names: Mapping[str, str], weights: Weights
) -> Any:
    from transformers import AutoConfig

    own = _read_config(folder)
    # A combined configuration names its parts; the estimator and the encoder share the family of the language model.
    references = [own.get(_REFERENCES[role], ""), own.get(_REFERENCES["language_model"], "")]
    sources = [str(base)] if base else [_resolve(folder, name) for name in references if name]
    if not base and "hidden_size" in own:
        sources.insert(0, str(folder))
    problems = []
    for source in sources:
        try:
            config = AutoConfig.from_pretrained(source)
        except (OSError, ValueError) as error:
            problems.append(f"{source!r}: {error}")
            continue
        return _fit(config, names, weights)
    raise ArtifactError(
        f"nothing describes the {role} in {str(folder)!r}; pass base= with the folder of the language model it was "
        f"made from ({'; '.join(problems) or 'no configuration names it'})",
        subject=str(folder),
    )


def _fit(config: Any, names: Mapping[str, str], weights: Weights) -> Any:
    """Take what the tensors themselves decide (vocabulary may have grown by one token) from the tensors."""
    embedding = names.get("embed_tokens.weight")
    if embedding is not None:
        config.vocab_size = weights.rows(embedding)
    return config


__all__ = [
    "Part",
    "Role",
    "Weights",
    "find_part",
    "has_part",
    "holds_language_model",
    "language_model_path",
    "strip_name",
]
