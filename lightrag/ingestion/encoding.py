"""What decides how groups of documents are encoded: one recipe for KV memories and one for latents.

Known from settings and small files alone: no weights are loaded to find out that nothing has to be done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from blake3 import blake3

from lightrag.config import Settings
from lightrag.errors import ConfigurationError
from lightrag.ingestion.recipe import Recipe, StageKeys
from lightrag.models.files import resolve_model, sampled_fingerprint
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.storage.groups import GroupRole

MEMORY_VERSION: Final = 1
"""Raised whenever equal documents may become another memory."""
LATENTS_VERSION: Final = 1
"""Raised whenever equal passages may get other stored states."""
PART_TOKENS: Final = 32 * 1024
"""Of a part of latents: 128 MiB where a state has 4,096 values."""
_SEPARATOR_TOKENS: Final = 2
"""Of what stands between two passages or documents of a text, at most."""


class GroupRecipe(Protocol):
    """Decides what is encoded together and when it has to be encoded anew."""

    @property
    def role(self) -> GroupRole:
        """What the groups are for."""
        ...

    @property
    def fingerprint(self) -> str:
        """Of the model, as recorded with a version."""
        ...

    @property
    def key(self) -> str:
        """Changes whenever equal documents may be encoded otherwise."""
        ...

    @property
    def budget(self) -> int:
        """Most tokens that are encoded together."""
        ...

    def document_key(self, keys: StageKeys) -> str:
        """Name what is encoded of a document."""
        ...

    def route_key(self, keys: StageKeys) -> str:
        """Name what routes are made of, of a document; empty where that is part of what is encoded."""
        ...

    def weigh(self, title: str, texts: Sequence[str], tokens: Sequence[int]) -> tuple[int, list[int]]:
        """Count what a document takes of the budget.

        Args:
            title: of the document.
            texts: its passages.
            tokens: their lengths under the embedder's tokenizer.

        Returns:
            Tokens that it takes in every group it is in, and tokens of every passage.
        """
        ...


class MemoryRecipe:
    """KV memories as ``settings.memory`` describes them.

    Raises:
        ConfigurationError: the settings contradict each other or the checkpoint.
        BackendError: the checkpoint is not there.
    """

    role: ClassVar[GroupRole] = "memory"

    def __init__(self, settings: Settings, recipe: Recipe) -> None:
        self._memory = settings.memory
        self._gists = settings.gists
        self._recipe = recipe
        self._check()

    @cached_property
    def folder(self) -> Path:
        """Of the checkpoint."""
        return resolve_model(self._memory.model)

    @cached_property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """Of the memory model."""
        return HuggingFaceTokenizer.open(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Of the model that makes and reads the memories, as in their ``memory.json``."""
        from lightrag.memory.identity import identify_model

        return identify_model(self.folder).fingerprint

    @cached_property
    def writes_gists(self) -> bool:
        """Whether the memory model writes the gists that it memorises: where no language model has written any."""
        return self._memory.kind == "gist" and self._recipe.language_model is None

    @cached_property
    def key(self) -> str:
        """See :class:`GroupRecipe`."""
        from lightrag.memory.gist_memory import prompts_fingerprint
        from lightrag.memory.prompts import prompts_for

        memory = self._memory
        prompts = [(each.context, each.acknowledge) for each in map(prompts_for, ("en", "zh"))]
        gists = (prompts_fingerprint(), self._gists.model_dump()) if self.writes_gists else ()
        settings = (memory.kind, memory.ratio, memory.storage, self.dtype, self.budget)
        return _hash(MEMORY_VERSION, self.fingerprint, settings, prompts, gists)

    @property
    def dtype(self) -> str:
        """Name of the numbers that the model computes with."""
        if self._memory.dtype != "auto":
            return self._memory.dtype
        return "float32" if self._memory.device == "cpu" else "bfloat16"

    @cached_property
    def budget(self) -> int:
        """Tokens of the longest text of one memory."""
        from lightrag.memory.group_window import longest_text

        most = longest_text(self.folder, ratio=self._memory.ratio)
        wanted = self._memory.window_tokens
        if wanted is not None and wanted > most:
            raise ConfigurationError(
                f"memory.window_tokens is {wanted}, but memories of {self._memory.model!r} hold at most {most} tokens "
                "of text beside prompts, question and answer: lower it, or leave it out",
                subject="memory.window_tokens",
            )
        return wanted or most

    def document_key(self, keys: StageKeys) -> str:
        """Of the passages, or of the gists where those are memorised."""
        return keys.gist if self._memory.kind == "gist" else keys.read

    def route_key(self, keys: StageKeys) -> str:
        """Of the gists and their vectors."""
        return "" if self._memory.kind == "gist" else keys.gist

    def weigh(self, title: str, texts: Sequence[str], tokens: Sequence[int]) -> tuple[int, list[int]]:
        """Count what is read: passages, or the gists that they become."""
        head = self.tokenizer.count(title) + 2 * _SEPARATOR_TOKENS
        if self._memory.kind == "gist":
            gist = self._gists.tokens_per_gist + _SEPARATOR_TOKENS
            # A run of passages becomes one gist, and a document has at most one run that is not full.
            return head + gist, [-(-gist // self._gists.chunks_per_gist)] * len(texts)
        return head, [count + _SEPARATOR_TOKENS for count in self.tokenizer.counts(texts)]

    def _check(self) -> None:
        from lightrag.memory.beacon.config import is_beacon_checkpoint

        memory = self._memory
        beacon = is_beacon_checkpoint(self.folder)
        if memory.kind == "beacon" and not beacon:
            problem = (
                "is not a beacon checkpoint (its config.json has no beacon_window): choose memory.kind full or gist"
            )
        elif memory.kind == "full" and beacon:
            problem = "is a beacon checkpoint, which compresses what it reads: choose memory.kind beacon"
        elif memory.ratio is not None and not beacon:
            problem = f"keeps every token, so it takes no memory.ratio (got {memory.ratio}): leave it out"
        else:
            return
        raise ConfigurationError(f"memory.model {memory.model!r} {problem}", subject="memory.model")


class LatentsRecipe:
    """Latents of every passage as ``settings.compression`` describes their encoder.

    Raises:
        ConfigurationError: the settings contradict each other.
        BackendError: a checkpoint is not there.
    """

    role: ClassVar[GroupRole] = "latents"

    def __init__(self, settings: Settings) -> None:
        compression = settings.compression
        problem = ""
        if not compression.model_of("latents"):
            cure = "compression.model" if compression.method == "latents" else "compression.models.latents"
            problem = f"there is no encoder, so compression by {compression.method!r} reads none: set {cure}"
        elif compression.joint:
            problem = "compression.joint encodes passages anew for every question: switch one of them off"
        if problem:
            raise ConfigurationError(f"ingest.latents stores latents, but {problem}", subject="ingest.latents")
        self._compression = compression

    @cached_property
    def fingerprint(self) -> str:
        """Of everything that decides the states; the headers of the groups name the encoder itself."""
        compression = self._compression
        folders = [
            resolve_model(name) for name in (compression.model_of("latents"), compression.language_model) if name
        ]
        settings = (compression.instruction, compression.dtype)
        return _hash(*(sampled_fingerprint(folder) for folder in folders), settings)

    @cached_property
    def key(self) -> str:
        """See :class:`GroupRecipe`."""
        return _hash(LATENTS_VERSION, self.fingerprint)

    @property
    def budget(self) -> int:
        """Tokens of a part; by the embedder's tokenizer, which is near enough to bound its size."""
        return PART_TOKENS

    def document_key(self, keys: StageKeys) -> str:
        """Of the passages."""
        return keys.read

    def route_key(self, keys: StageKeys) -> str:
        """There are no routes."""
        return ""

    def weigh(self, title: str, texts: Sequence[str], tokens: Sequence[int]) -> tuple[int, list[int]]:
        """Passages are encoded each by itself."""
        return 0, list(tokens)


def group_recipes(settings: Settings, recipe: Recipe) -> Mapping[GroupRole, GroupRecipe]:
    """What is encoded by these settings: nothing by default. Raises as the recipes."""
    recipes: dict[GroupRole, GroupRecipe] = {}
    if settings.memory.model:
        recipes["memory"] = MemoryRecipe(settings, recipe)
    if settings.ingest.latents:
        recipes["latents"] = LatentsRecipe(settings)
    return recipes


def _hash(*parts: Any) -> str:
    return blake3(json.dumps(parts, ensure_ascii=True).encode()).hexdigest(16)


__all__ = [
    "LATENTS_VERSION",
    "MEMORY_VERSION",
    "PART_TOKENS",
    "GroupRecipe",
    "LatentsRecipe",
    "MemoryRecipe",
    "group_recipes",
]
