"""Embedding as a service offers it: vectors with the tokens that they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from lightrag.models.base import Embedder, FloatMatrix


class EmbeddedTexts(NamedTuple):
    """Texts as vectors."""

    vectors: FloatMatrix
    """Unit rows, shape (texts, dimension)."""
    tokens: int
    """That were read, special tokens not counted."""


class TextEmbedder(Protocol):
    """Embeds texts; crosses process walls."""

    async def embed_texts(self, texts: Sequence[str]) -> EmbeddedTexts:
        """Embed texts as documents are embedded.

        Raises:
            LimitError: a text is longer than the embedder reads.
            BackendError: the embedder failed.
        """
        ...


class LocalTextEmbedder:
    """Embeds in this process.

    Args:
        embedder: does the work.
    """

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def embed_texts(self, texts: Sequence[str]) -> EmbeddedTexts:
        """Embed; see :class:`TextEmbedder`."""
        vectors = await self._embedder.embed(texts)
        return EmbeddedTexts(vectors, sum(self._embedder.tokenizer.count(text) for text in texts))


__all__ = ["EmbeddedTexts", "LocalTextEmbedder", "TextEmbedder"]
