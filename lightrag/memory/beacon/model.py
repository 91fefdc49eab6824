"""A beacon memory model: reads text into compressed memories and answers over them.

Knows nothing of prompts or tokenizers: token ids in, memories and logits out. The model holds no state of what it read;
memories are values, so many memories and many questions share one model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightrag.errors import UsageError
from lightrag.memory.beacon.checkpoint import load_decoder
from lightrag.memory.beacon.config import BeaconConfig
from lightrag.memory.beacon.decoder import BeaconDecoder
from lightrag.memory.beacon.session import BeaconSession, WantedLogits
from lightrag.memory.identity import identify_model
from lightrag.memory.kv_memory import KVMemory, ModelIdentity


@dataclass(frozen=True, slots=True)
class Reading:
    """What came of reading one sequence."""

    logits: Tensor
    """Float32, shape (wanted tokens, vocabulary)."""
    memory: KVMemory


class BeaconModel:
    """A loaded beacon checkpoint (Qwen2 or Mistral). Safe to use from several threads.

    Example::

        model = BeaconModel.load("path/to/checkpoint", ratios=4)
        memory = model.memorise(token_ids)
        longer = model.memorise(more_token_ids, onto=memory)     # exact: as if read in one go
    """

    def __init__(self, decoder: BeaconDecoder, config: BeaconConfig, identity: ModelIdentity) -> None:
        self.decoder = decoder
        self.config = config
        self.identity = identity

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        ratios: int | Sequence[int] | None = None,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        **overrides: Any,
    ) -> BeaconModel:
        """Load a checkpoint in the published format, or a base model without beacon tensors.

        Args:
            folder: holds ``config.json`` and weights.
            ratios: replaces the checkpoint's list of compression ratios.
            dtype: of weights and memories.
            device: of weights and memories.
            overrides: replace fields of ``config.json``, for example ``beacon_sink_size=4``; with a base model
                these make it a beacon model.

        Raises:
            ConfigurationError: the configuration is not one of a supported beacon model.
            ArtifactError: weights are missing or damaged.
        """
        path = Path(folder)
        if ratios is not None:
            overrides["beacon_ratio"] = [ratios] if isinstance(ratios, int) else list(ratios)
        config = BeaconConfig.read(path, **overrides)
        decoder = load_decoder(path, config, dtype=dtype, device=torch.device(device))
        return cls(decoder, config, identify_model(path))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.lm_head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights and of memories."""
        return self.decoder.lm_head.weight.dtype

    @property
    def eos_token_ids(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        return self.config.eos_token_ids

    def with_ratios(self, ratios: int | Sequence[int]) -> BeaconModel:
        """Return a model that shares these weights and compresses by other ratios."""
        return BeaconModel(
            self.decoder,
            self.config.with_ratios(ratios if isinstance(ratios, int) else tuple(ratios)),
            self.identity,
        )

    def session(self, memories: Sequence[KVMemory | None]) -> BeaconSession:
        """Start reading a batch of sequences over memories, each with a length of its own.

        Raises:
            ArtifactError: another model made one of the memories.
        """
        for memory in memories:
            if memory is not None:
                memory.model.check(self.identity)
        moved = [memory.to(self.device, self.dtype) if memory else None for memory in memories]
        return BeaconSession(self.decoder, self.config, moved, self.identity)

    def memorise(
        self,
        token_ids: Sequence[int],
        *,
        onto: KVMemory | None = None,
        skip_first: int = 0,
        skip_last: int | None = None,
    ) -> KVMemory:
        """Read a text into a memory; see :meth:`memorise_batch`."""
        return self.memorise_batch([token_ids], onto=[onto], skip_first=skip_first, skip_last=skip_last)[0]

    def memorise_batch(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        onto: Sequence[KVMemory | None] | None = None,
        skip_first: int = 0,
        skip_last: int | None = None,
    ) -> list[KVMemory]:
        """Read several texts of any lengths, together and without padding.

        Args:
            token_ids: one list per text.
            onto: memories to append to, exactly as if everything had been read in one go.
            skip_first: keep so many first tokens of each text uncompressed.
            skip_last: from this token of each text on, keep tokens uncompressed.

        Raises:
            UsageError: a text is empty, or a token is unknown.
            ArtifactError: another model made a memory in ``onto``.
        """
        readings = self.read_batch(token_ids, onto=onto, logits="none", skip_first=skip_first, skip_last=skip_last)
        return [reading.memory for reading in readings]

    def read(
        self, token_ids: Sequence[int], *, onto: KVMemory | None = None, logits: WantedLogits = "last", **options: Any
    ) -> Reading:
        """Read one sequence and return logits too; see :meth:`read_batch`."""
        return self.read_batch([token_ids], onto=[onto], logits=logits, **options)[0]

    def read_batch(
        self,
        token_ids: Sequence[Sequence[int]],
        *,
        onto: Sequence[KVMemory | None] | None = None,
        logits: WantedLogits = "last",
        protect: bool = False,
        skip_first: int = 0,
        skip_last: int | None = None,
    ) -> list[Reading]:
        """Read several sequences and return what the model predicts next, with the memories as they are then.

        Args:
            token_ids: one list per sequence.
            onto: memories to read onto, ``None`` for nothing.
            logits: of the last token, of the last step (as published), of all tokens, or none.
            protect: keep these tokens uncompressed for good.
            skip_first: keep so many first tokens of each new sequence uncompressed.
            skip_last: from this token of each list on, keep tokens uncompressed.

        Raises:
            UsageError: a list is empty, or a token is unknown.
            ArtifactError: another model made a memory in ``onto``.
        """
        if not token_ids or not all(len(ids) for ids in token_ids):
            raise UsageError("there is nothing to read: every sequence needs at least one token")
        session = self.session(onto if onto is not None else [None] * len(token_ids))
        scores = session.read(token_ids, logits=logits, protect=protect, skip_first=skip_first, skip_last=skip_last)
        return [Reading(part, memory) for part, memory in zip(scores, session.freeze(), strict=True)]


__all__ = ["BeaconModel", "Reading"]
