"""A CLIP-type model: pictures and texts as unit vectors in one space.

Source: Radford et al. 2021 (arXiv 2103.00020). Any ``transformers`` checkpoint with image and text features serves.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from lightrag.conversation.images.pictures import decode
from lightrag.errors import ArtifactError
from lightrag.models.base import FloatMatrix
from lightrag.models.files import model_fingerprint, quiet_loading, resolve_model
from lightrag.models.vectors import unit_rows

BATCH: Final = 16
"""Pictures of one forward pass."""


class PictureEmbedder:
    """Embeds with one model on one device. Blocking; safe to share between threads.

    Args:
        model: local path or hub id.
        device: as torch names it.
        max_pixels: of a picture.
    """

    def __init__(self, model: str, *, device: str = "cpu", max_pixels: int = 50_000_000) -> None:
        self.name = model
        self._device = device
        self._max_pixels = max_pixels
        self._lock = threading.Lock()

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return resolve_model(self.name)

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever equal pictures may get other vectors."""
        return model_fingerprint(self.folder)

    @cached_property
    def dimension(self) -> int:
        """Length of a vector; the weights are only asked where the configuration does not say."""
        try:
            config = json.loads((self.folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise self._no_model(f"its config.json cannot be read: {error}") from error
        return int(config.get("projection_dim") or self.texts([""]).shape[1])

    def pictures(self, files: Sequence[bytes]) -> FloatMatrix:
        """Embed image files; shape (len(files), dimension).

        Raises:
            ArtifactError: the checkpoint is no such model.
        """
        parts = [self._pictures(files[start : start + BATCH]) for start in range(0, len(files), BATCH)]
        return np.concatenate(parts) if parts else np.zeros((0, self.dimension), np.float32)

    def texts(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed texts, cut to what the model reads; shape (len(texts), dimension)."""
        tokens = self._tokenizer(
            list(texts), return_tensors="pt", padding=True, truncation=True, max_length=self._text_window
        )
        known = {name: tokens[name].to(self._device) for name in ("input_ids", "attention_mask") if name in tokens}
        return self._run(self._model.get_text_features, known)

    def _pictures(self, files: Sequence[bytes]) -> FloatMatrix:
        pixels = self._processor(images=[decode(file, self._max_pixels) for file in files], return_tensors="pt")
        return self._run(self._model.get_image_features, {"pixel_values": pixels["pixel_values"].to(self._device)})

    def _run(self, features: Any, inputs: dict[str, Any]) -> FloatMatrix:
        import torch

        with self._lock, torch.inference_mode():
            made = features(**inputs)
        # Newer releases of transformers wrap the features.
        rows = made if isinstance(made, torch.Tensor) else made.pooler_output
        return unit_rows(rows.float().cpu().numpy())

    @cached_property
    def _text_window(self) -> int:
        config = getattr(self._model.config, "text_config", self._model.config)
        return int(getattr(config, "max_position_embeddings", 77))

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModel

        from lightrag.models.packing import pack_linear_layers

        try:
            with quiet_loading():
                model = AutoModel.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise self._no_model(str(error)) from error
        if not (hasattr(model, "get_image_features") and hasattr(model, "get_text_features")):
            raise self._no_model(f"a {type(model).__name__} has no image and text features")
        model = model.to(self._device).eval()
        pack_linear_layers(model)
        return model

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise self._no_model(str(error)) from error

    @cached_property
    def _processor(self) -> Any:
        from transformers import AutoImageProcessor

        try:
            return AutoImageProcessor.from_pretrained(self.folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise self._no_model(str(error)) from error

    def _no_model(self, reason: str) -> ArtifactError:
        return ArtifactError(
            f"multimodal_embedder {self.name!r} is no CLIP-type checkpoint: {reason}", subject="multimodal_embedder"
        )


__all__ = ["BATCH", "PictureEmbedder"]
