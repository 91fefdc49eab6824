"""One interface over the models that make KV memories, and the choice between them by what a checkpoint is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from lightrag.errors import UsageError
from lightrag.memory.decoding import ReadingSession
from lightrag.memory.kv_memory import KVMemory, ModelIdentity

if TYPE_CHECKING:
    import torch


class MemoryModel(Protocol):
    """Reads token ids into memories and on over them; holds nothing of what it read."""

    @property
    def identity(self) -> ModelIdentity:
        """Which model it is; memories of others are refused."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and memories."""
        ...

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        ...

    def session(self, memories: Sequence[KVMemory | None]) -> ReadingSession:
        """Start reading a batch of sequences, one over each memory; one memory may stand several times."""
        ...

    def memorise_batch(
        self, token_ids: Sequence[Sequence[int]], *, onto: Sequence[KVMemory | None] | None = None
    ) -> list[KVMemory]:
        """Read texts of any lengths together, each onto a memory or onto nothing."""
        ...


def load_memory_model(
    folder: str | Path,
    *,
    ratios: int | Sequence[int] | None = None,
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
    device: str = "cpu",
) -> MemoryModel:
    """Load a beacon checkpoint as such, and any other decoder for full-context memories.

    Args:
        folder: checkpoint in Hugging Face layout.
        ratios: compression ratios of a beacon model; ``None`` takes its own.
        dtype: ``auto`` is float32 on the CPU and bfloat16 elsewhere.
        device: as torch names it.

    Raises:
        ConfigurationError: the checkpoint is not one that can make memories.
        UsageError: ``ratios`` were given for a model that does not compress.
    """
    import torch

    from lightrag.memory.beacon.config import is_beacon_checkpoint
    from lightrag.memory.beacon.model import BeaconModel
    from lightrag.memory.full_context import FullContextModel
    from lightrag.models.packing import pack_linear_layers

    name = ("float32" if device == "cpu" else "bfloat16") if dtype == "auto" else dtype
    kind: torch.dtype = getattr(torch, name)
    if is_beacon_checkpoint(Path(folder)):
        model = BeaconModel.load(folder, ratios=ratios, dtype=kind, device=device)
        pack_linear_layers(model.decoder)  # not by the model itself, whose decoder may be trained
        return model
    if ratios is not None:
        raise UsageError(
            f"{str(folder)!r} is not a beacon checkpoint (its config.json has no beacon_window): it keeps every token, "
            "so it takes no ratios",
            subject=str(folder),
        )
    return FullContextModel.load(folder, dtype=kind, device=device)


__all__ = ["MemoryModel", "load_memory_model"]
