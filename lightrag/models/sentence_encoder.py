"""Loaded sentence encoders: token ids in, vectors out.

Most of them, the bundled one too, are a transformer and a way to pool what it says, which transformers alone can do.
All others are run by sentence-transformers, which costs every process another processor second and 130 MiB.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np

from lightrag.errors import BackendError, ConfigurationError
from lightrag.models.base import FloatMatrix
from lightrag.models.files import quiet_loading

Pooling = Literal["mean", "cls"]

_PLAIN_TYPES: Final = frozenset({"bert", "roberta", "xlm-roberta", "distilbert", "mpnet"})
"""Encoders whose positions count from the left, and which need nothing but ids and a mask."""
_POOLINGS: Final[dict[str, Pooling]] = {
    "mean": "mean",
    "cls": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}


class Encoder(Protocol):
    """A loaded model."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    def forward(self, batch: Sequence[Sequence[int]], *, prompt_length: int) -> FloatMatrix:
        """Embed token ids of similar length, special tokens included.

        Args:
            batch: ids of every text.
            prompt_length: how many ids at the beginning are a prompt, which some models leave out of the vector.

        Returns:
            Vectors of any length, shape (len(batch), dimension).

        Raises:
            BackendError: the model failed.
        """
        ...


def open_encoder(name: str, folder: Path, device: str, dtype: str = "auto") -> Encoder:
    """Load an encoder.

    Args:
        name: for messages.
        folder: of its files.
        device: as torch names it.
        dtype: of the weights, as torch names it; ``auto`` takes the checkpoint's.

    Raises:
        BackendError: its files cannot be loaded, or not on this device.
        ConfigurationError: it is no encoder of texts.
    """
    pooling = plain_pooling(folder)
    try:
        with quiet_loading():
            if pooling is not None:
                return PooledEncoder(name, folder, device, dtype, pooling)
            return ModularEncoder(name, folder, device, dtype)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise BackendError(f"embedder {name!r} cannot be loaded on {device!r}: {error}", subject=name) from error


def plain_pooling(folder: Path) -> Pooling | None:
    """How a model pools that is a plain transformer and a pooling; ``None`` for any other.

    Raises:
        BackendError: a file cannot be read, or does not say what such a file says.
    """
    path = folder / "modules.json"
    modules = _read_json(path, [])
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise BackendError(f"model file {str(path)!r} holds no list of modules", subject=str(path))
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]) or modules[0].get("path"):
        return None
    if read_object(folder / "config.json").get("model_type") not in _PLAIN_TYPES:
        return None
    pooling = read_object(folder / str(modules[1].get("path")) / "config.json")
    if not pooling.get("include_prompt", True):
        return None
    old_style = [name for name, on in pooling.items() if name.startswith("pooling_mode_") and on]
    asked = [str(pooling["pooling_mode"])] if "pooling_mode" in pooling else old_style
    return _POOLINGS.get(asked[0]) if len(asked) == 1 else None


class PooledEncoder:
    """A transformer whose last layer is pooled, run by transformers."""

    def __init__(self, name: str, folder: Path, device: str, dtype: str, pooling: Pooling) -> None:
        from transformers import AutoModel

        from lightrag.models.packing import pack_linear_layers

        self._name = name
        self._pooling = pooling
        options = {"local_files_only": True, "dtype": _torch_dtype(dtype)}
        self._model: Any = AutoModel.from_pretrained(str(folder), **options).to(device).eval()
        pack_linear_layers(self._model)
        self._padding = self._model.config.pad_token_id or 0
        self.dimension: int = self._model.config.hidden_size

    def forward(self, batch: Sequence[Sequence[int]], *, prompt_length: int) -> FloatMatrix:
        """Embed; see :class:`Encoder`."""
        import torch

        ids, mask = _padded(batch, self._padding, self._model.device, left=False)
        try:
            with torch.inference_mode():
                hidden = self._model(input_ids=ids, attention_mask=mask).last_hidden_state
                if self._pooling == "cls":
                    vectors = hidden[:, 0]
                else:
                    weights = mask.unsqueeze(-1).to(hidden.dtype)
                    vectors = (hidden * weights).sum(1, dtype=torch.float32) / weights.sum(1, dtype=torch.float32)
        except RuntimeError as error:  # out of memory, a lost device
            raise BackendError(f"embedder {self._name!r} failed: {error}", subject=self._name) from error
        return np.asarray(vectors.float().cpu().numpy())


class ModularEncoder:
    """Any text encoder that sentence-transformers can run."""

    def __init__(self, name: str, folder: Path, device: str, dtype: str = "auto") -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.base.modules import Transformer

        from lightrag.models.packing import pack_linear_layers

        self._name = name
        options = {"local_files_only": True, "model_kwargs": {"dtype": _torch_dtype(dtype)}}
        self._model: Any = SentenceTransformer(str(folder), device=device, **options).eval()
        if not isinstance(self._model[0], Transformer):
            raise ConfigurationError(
                f"embedder {name!r} is a {type(self._model[0]).__name__}, not a transformer encoder", subject=name
            )
        pack_linear_layers(self._model)
        self._padding = self._model.tokenizer.pad_token_id or 0
        self._left = self._model.tokenizer.padding_side == "left"
        self.dimension: int = self._model.get_embedding_dimension()

    def forward(self, batch: Sequence[Sequence[int]], *, prompt_length: int) -> FloatMatrix:
        """Embed; see :class:`Encoder`."""
        import torch

        ids, mask = _padded(batch, self._padding, self._model.device, left=self._left)
        features = {"input_ids": ids, "attention_mask": mask, "prompt_length": prompt_length, "modality": "text"}
        try:
            with torch.inference_mode():
                output = self._model(features)
        except RuntimeError as error:  # out of memory, a lost device
            raise BackendError(f"embedder {self._name!r} failed: {error}", subject=self._name) from error
        return np.asarray(output["sentence_embedding"].float().cpu().numpy())


def _torch_dtype(name: str) -> Any:
    import torch

    return name if name == "auto" else getattr(torch, name)


def _padded(batch: Sequence[Sequence[int]], padding: int, device: Any, *, left: bool) -> tuple[Any, Any]:
    """Ids and mask as tensors of shape (texts, tokens of the longest)."""
    import torch

    longest = max(map(len, batch))
    ids = torch.full((len(batch), longest), padding)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(batch):
        place = slice(longest - len(tokens), longest) if left else slice(len(tokens))
        ids[row, place] = torch.tensor(tokens)
        mask[row, place] = 1
    return ids.to(device), mask.to(device)


def read_object(path: Path) -> dict[str, Any]:
    """The object in a model's JSON file; an empty one where there is no file.

    Raises:
        BackendError: it cannot be read, or is no object.
    """
    content = _read_json(path, {})
    if not isinstance(content, dict):
        raise BackendError(f"model file {str(path)!r} holds no JSON object", subject=str(path))
    return content


def _read_json(path: Path, missing: Any) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else missing
    except (OSError, ValueError) as error:
        raise BackendError(f"model file {str(path)!r} cannot be read: {error}", subject=str(path)) from error


__all__ = ["Encoder", "ModularEncoder", "PooledEncoder", "open_encoder", "plain_pooling", "read_object"]
