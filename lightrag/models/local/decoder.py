"""A loaded causal language model as one function: new tokens of some rows in, logits of their last positions out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightrag.errors import BackendError, ConfigurationError, UsageError
from lightrag.models.base import KVMemory
from lightrag.models.files import quiet_loading
from lightrag.models.local import attention
from lightrag.models.local.attention import Prefix, SharedMemory
from lightrag.models.local.cache import TailCache
from lightrag.models.local.configuration import read_shape
from lightrag.models.local.rendering import RenderedPrompt
from lightrag.models.packing import pack_linear_layers
from lightrag.types import LatentPart


class Decoder:
    """Weights on a device.

    Args:
        folder: of the checkpoint.
        name: for messages.
        device: as torch names it.
        dtype: ``auto`` (as the checkpoint says), ``float32``, ``bfloat16`` or ``float16``.
        build: makes the ``transformers`` model where the folder's own weights are not to be taken.
    """

    def __init__(
        self, folder: Path, name: str, device: str, dtype: str, build: Callable[[], Any] | None = None
    ) -> None:
        from transformers import AutoModelForCausalLM

        attention.register()
        self._name = name
        shape = read_shape(folder, name)
        if not shape.attention_only:
            raise ConfigurationError(
                f"model {name!r} ({shape.architecture}) has layers that are not attention; use backend 'vllm'",
                subject=name,
            )
        kernel = "eager" if shape.capped else attention.ATTENTION
        precision = "auto" if dtype == "auto" else getattr(torch, dtype)
        try:
            with quiet_loading():
                self._model: Any = (
                    build()
                    if build is not None
                    else AutoModelForCausalLM.from_pretrained(str(folder), dtype=precision, attn_implementation=kernel)
                )
            if build is not None:
                self._model.set_attn_implementation(kernel)
                self._model = self._model if precision == "auto" else self._model.to(precision)
            self._model = self._model.to(device).eval()
            pack_linear_layers(self._model)
        except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
            raise BackendError(f"model {name!r} cannot be loaded on {device!r}: {error}", subject=name) from error
        self.layers = shape.layers
        self.device: torch.device = self._model.device
        self.dtype: torch.dtype = self._model.dtype
        self._embedding = self._model.get_input_embeddings()
        self.hidden: int = self._embedding.weight.shape[1]
        accepted = inspect.signature(self._model.forward).parameters
        self._last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    @property
    def end_tokens(self) -> frozenset[int]:
        """Ids after which the model has finished."""
        ends = self._model.generation_config.eos_token_id
        return frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])

    def check_memory(self, memory: KVMemory) -> None:
        """Refuse a memory that this model cannot read where it lies.

        Raises:
            UsageError: other layers, heads, width, cells, type or device than the model's.
        """
        layers = memory.layers()
        if len(layers) != self.layers:
            raise UsageError(f"the memory has {len(layers)} layers, model {self._name!r} has {self.layers}")
        keys, values = layers[0]
        for what, states in (("keys", keys), ("values", values)):
            if states.dim() != 3 or states.shape[1] != memory.cells:
                raise UsageError(f"memory {what} of shape {tuple(states.shape)} do not hold {memory.cells} cells")
            if states.dtype != self.dtype or states.device != self.device:
                raise UsageError(
                    f"memory {what} are {states.dtype} on {states.device}, model {self._name!r} is {self.dtype} on "
                    f"{self.device}; load the memory for this model"
                )

    def embed(self, prompt: RenderedPrompt) -> Tensor:
        """Input embeddings of a prompt with its latents in place, shape (length, hidden)."""
        parts = []
        for segment in prompt.segments:
            if isinstance(segment, LatentPart):
                parts.append(torch.as_tensor(segment.states).to(self.device, self.dtype))
            else:
                parts.append(self._embedding(torch.tensor(segment, device=self.device)))
        return torch.cat(parts)

    def forward(
        self, inputs: Tensor, cache: TailCache, padding: Tensor, cells: Tensor, prefix: Prefix | None
    ) -> Tensor:
        """Append columns to the cache.

        Args:
            inputs: token ids of shape (rows, columns), or embeddings of shape (rows, columns, hidden).
            cache: of these rows; changed.
            padding: leading columns of each row, counted from the cache's first, that are not part of it.
            cells: positions in front of each row.
            prefix: the memories there.

        Returns:
            Logits of the last column, shape (rows, vocabulary).
        """
        first = cache.get_seq_length()
        columns = torch.arange(first + inputs.shape[1], device=self.device)
        positions = (columns[first:] - padding[:, None]).clamp(min=0) + cells[:, None]
        named = {"input_ids": inputs} if inputs.dim() == 2 else {"inputs_embeds": inputs}
        output = self._model(
            **named,
            attention_mask=columns >= padding[:, None],
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            **({"prefix": prefix} if prefix is not None else {}),
            **self._last_only,
        )
        if prefix is not None and len(prefix.layers_seen) != self.layers:
            raise BackendError(f"model {self._name!r} does not hand its memory to attention; use another architecture")
        return output.logits[:, -1]

    def prefix(self, memories: Sequence[KVMemory | None]) -> Prefix | None:
        """Group rows by the memory they stand behind."""
        groups: dict[str, tuple[KVMemory, list[int]]] = {}
        for row, memory in enumerate(memories):
            if memory is not None and memory.cells:
                groups.setdefault(memory.fingerprint, (memory, []))[1].append(row)
        if not groups:
            return None
        return Prefix(
            [
                SharedMemory(
                    memory.layers(), None if len(rows) == len(memories) else torch.tensor(rows, device=self.device)
                )
                for memory, rows in groups.values()
            ]
        )


__all__ = ["Decoder"]
