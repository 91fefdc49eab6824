"""From names to loaded models: hub ids and local paths, with the options of the published system."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightrag.compat.hardware import (
    default_device,
    four_bit_config,
    quantise_linears,
    require_flash_attention,
    require_four_bit,
)
from lightrag.config import EmbedderSettings
from lightrag.errors import ConfigurationError
from lightrag.models.files import BUNDLED_EMBEDDER, quiet_loading, resolve_model
from lightrag.models.registry import open_embedder

if TYPE_CHECKING:
    import torch

    from lightrag.memory.full_context import FullContextModel
    from lightrag.memory.memory_model import MemoryModel
    from lightrag.models.base import Embedder
    from lightrag.models.local.model import TransformersLanguageModel


@dataclass(frozen=True)
class Checkpoints:
    """Where models come from and how they are loaded; impossible options are refused before anything is fetched.

    Raises:
        ConfigurationError: ``load_in_4bit`` or ``enable_flash_attn`` need what this machine lacks.
    """

    cache_dir: str | Path | None = None
    """Where downloads are kept; empty: the hub's own cache."""
    access_token: str | None = None
    """For the hub; empty: the one that is logged in."""
    load_in_4bit: bool = False
    enable_flash_attn: bool | None = None
    """``True`` insists on a flash kernel; otherwise the device's best one is used, which mostly is one."""

    def __post_init__(self) -> None:
        if self.load_in_4bit:
            require_four_bit(self.device)
        if self.enable_flash_attn:
            require_flash_attention(self.device)

    @cached_property
    def device(self) -> str:
        """As torch names it."""
        return default_device()

    def folder(self, name: str | Path) -> Path:
        """Find a checkpoint here, or fetch it.

        Raises:
            BackendError: it is neither here nor to be had.
            ConfigurationError: the name is empty.
        """
        if not str(name).strip():
            raise ConfigurationError("the name of a model is empty: give a local folder or a hub id")
        return resolve_model(str(name), cache_dir=self.cache_dir or None, token=self.access_token or None)

    def embedder(self, name: str | Path) -> Embedder:
        """Open the retrieval model; its weights are loaded at the first use, its files are looked for now."""
        folder = self.folder(name)
        # Under its own name, a well-known model's languages are known too.
        plain = str(name) == BUNDLED_EMBEDDER or not (self.cache_dir or self.access_token)
        model = str(name) if plain else str(folder)
        return open_embedder(EmbedderSettings(model=model, device=self.device))

    def memory_model(self, name: str | Path, ratio: int | None) -> MemoryModel:
        """Load a beacon checkpoint, told by its configuration, for compressed memories, any other for full ones.

        Args:
            name: of the checkpoint.
            ratio: tokens per cell of a beacon memory; ``None`` takes the checkpoint's. Full memories keep every token.
        """
        from lightrag.memory.beacon.config import is_beacon_checkpoint
        from lightrag.memory.memory_model import load_memory_model

        folder = self.folder(name)
        if not is_beacon_checkpoint(folder):
            return self.full_context_model(folder)
        if not self.load_in_4bit:
            return load_memory_model(folder, ratios=ratio, device=self.device)
        from lightrag.memory.beacon.model import BeaconModel

        model = BeaconModel.load(folder, ratios=ratio, dtype=self._dtype)
        quantise_linears(model.decoder, self.device)
        return model

    def full_context_model(self, name: str | Path) -> FullContextModel:
        """Load a decoder that keeps every token it reads."""
        from lightrag.memory.full_context import FullContextModel

        with quiet_loading():
            return FullContextModel.load(
                self.folder(name),
                dtype=self._dtype,
                device=self.device,
                quantization_config=four_bit_config() if self.load_in_4bit else None,
            )

    def language_model(self, name: str | Path) -> TransformersLanguageModel:
        """Open a generator; its weights are loaded at the first use, its files are looked for now."""
        from lightrag.models.local.model import TransformersLanguageModel

        folder = self.folder(name)
        build = partial(_load_in_4bit, folder, self.device) if self.load_in_4bit else None
        return TransformersLanguageModel(str(folder), device=self.device, build=build)

    @property
    def _dtype(self) -> torch.dtype:
        import torch

        return torch.float32 if self.device == "cpu" else torch.bfloat16


def _load_in_4bit(folder: Path, device: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=four_bit_config(), device_map={"": device}, local_files_only=True
    )


__all__ = ["Checkpoints"]
