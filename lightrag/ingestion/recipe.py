"""What decides the result of each stage, and keys that change exactly when the result may change.

A key is a hash over everything a stage's output depends on: the key of the stage before it, and the settings and model
fingerprints that matter to it. Worker counts, batch sizes and devices do not matter and are left out.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from functools import cached_property
from typing import Any, Final, NamedTuple, Self, TypeVar

from blake3 import blake3

from lightrag.config import Settings
from lightrag.documents import Chunker
from lightrag.ingestion.items import SourceItem
from lightrag.memory.engine_model import open_generator
from lightrag.memory.gists import ExtractiveGister, Gister, PromptedGister
from lightrag.models import open_embedder
from lightrag.models.base import Embedder, LanguageModel
from lightrag.retrieval.analysis import ANALYSIS_VERSION
from lightrag.retrieval.index import FORMAT_VERSION as INDEX_VERSION

T = TypeVar("T")

READER_VERSION: Final = 2
"""Raised whenever equal bytes may be parsed or cut into other documents or chunks."""
EMBEDDING_VERSION: Final = 1
"""Raised whenever equal chunks may be embedded under another text."""


class StageKeys(NamedTuple):
    """Keys of one document's results, stage by stage."""

    read: str
    embed: str
    gist: str

    def __str__(self) -> str:
        return ".".join(self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Undo ``str``; anything else gives keys that match nothing."""
        parts = text.split(".")
        return cls(*parts) if len(parts) == len(cls._fields) else cls("", "", "")


class Recipe:
    """Settings of a corpus with the models they name, opened when first used.

    Args:
        settings: the whole tree; sections that matter are ``embedder``, ``chunking``, ``gists`` and ``generator``.
        embedder: instead of the one of the settings.
        language_model: instead of the one of the settings.
    """

    def __init__(
        self, settings: Settings, *, embedder: Embedder | None = None, language_model: LanguageModel | None = None
    ) -> None:
        self.settings = settings
        self._given_embedder = embedder
        self._given_language_model = language_model
        self._runner = asyncio.Runner()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for a model. Always in the same event loop, because connections belong to the loop they were made in."""
        return self._runner.run(work)

    def close(self) -> None:
        """Close the models that were opened here, and the event loop."""
        opened = [name for name in ("embedder", "language_model") if name in vars(self)]
        for model, given in ((vars(self)[name], getattr(self, f"_given_{name}")) for name in opened):
            if model is not None and model is not given:
                self.run(model.close())
        self._runner.close()

    @cached_property
    def embedder(self) -> Embedder:
        """Turns chunks into vectors; weights are loaded at the first embedding."""
        return self._given_embedder or open_embedder(self.settings.embedder)

    @cached_property
    def language_model(self) -> LanguageModel | None:
        """Writes gists; ``None`` where they are extracted."""
        return self._given_language_model or open_generator(self.settings)

    @cached_property
    def chunk_tokens(self) -> int:
        """Longest chunk: as configured, or what the embedder reads where that is less."""
        return min(self.settings.chunking.max_tokens, self.embedder.max_tokens)

    @cached_property
    def chunker(self) -> Chunker:
        """Cuts documents."""
        return Chunker(self.embedder.tokenizer, self.chunk_tokens)

    @cached_property
    def gister(self) -> Gister:
        """Condenses texts."""
        tokenizer = self.embedder.tokenizer
        if self.language_model is not None:
            return PromptedGister(self.language_model, tokenizer)
        return ExtractiveGister(tokenizer)

    def keys(self, document_id: str, item: SourceItem) -> StageKeys:
        """Key every stage's result for one document."""
        metadata = sorted(item.metadata.items())
        return self.keys_after(_hash(self._read_base, document_id, item.fingerprint, item.source, item.title, metadata))

    def keys_after(self, read_key: str) -> StageKeys:
        """Key the results of the later stages for a document that has been read."""
        embed = _hash(read_key, self._embed_base)
        return StageKeys(read_key, embed, _hash(embed, self._gist_base))

    @cached_property
    def _read_base(self) -> str:
        return _hash(READER_VERSION, self.chunk_tokens, self.embedder.tokenizer.fingerprint)

    @cached_property
    def _embed_base(self) -> str:
        return _hash(EMBEDDING_VERSION, self.embedder.fingerprint)

    @cached_property
    def _gist_base(self) -> str:
        gists = self.settings.gists
        # The budget shapes the levels above, which are built anew with every version.
        return _hash(self.gister.fingerprint, ANALYSIS_VERSION, gists.chunks_per_gist, gists.tokens_per_gist)

    @cached_property
    def version_key(self) -> str:
        """Key of what is made from all documents together: the levels of gists above, and the index."""
        return _hash(INDEX_VERSION, ANALYSIS_VERSION, self.settings.gists.budget_tokens)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """What makes a version, by name."""
        embedder = self.embedder
        return {
            "embedder": embedder.fingerprint,
            "tokenizer": embedder.tokenizer.fingerprint,
            "gists": self.gister.fingerprint,
        }


def _hash(*parts: Any) -> str:
    return blake3(json.dumps(parts, ensure_ascii=True).encode()).hexdigest(16)


__all__ = ["EMBEDDING_VERSION", "READER_VERSION", "Recipe", "StageKeys"]
