"""From texts to unit vectors, each text once: batched, remembered for a while, long texts in windows.

Knows nothing of messages or stores.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightrag.models.base import Embedder, FloatMatrix

REMEMBERED = 4096
"""Texts whose vectors are kept: a turn is embedded for segmentation, then for the index."""


@dataclass(frozen=True, slots=True)
class EmbeddingCost:
    """What embedding has cost so far."""

    calls: int = 0
    """Batches given to the embedder."""
    texts: int = 0
    tokens: int = 0


class Vectorizer:
    """Embeds texts through one embedder. Safe to share between tasks."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.cost = EmbeddingCost()
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    async def documents(self, texts: Sequence[str]) -> FloatMatrix:
        """Embed texts; shape (len(texts), dimension).

        Raises:
            BackendError: the embedder failed.
        """
        wanted = list(dict.fromkeys(texts))
        with self._lock:
            found = {text: self._known[text] for text in wanted if text in self._known}
        missing = [text for text in wanted if text not in found]
        if missing:
            found.update(zip(missing, await self._embed(missing), strict=True))
            self._remember(found)
        if not texts:
            return np.zeros((0, self.embedder.dimension), dtype=np.float32)
        return np.stack([found[text] for text in texts])

    async def query(self, text: str) -> NDArray[np.float32]:
        """Embed a question; shape (dimension,)."""
        vectors = await self.embedder.embed([text], "query")
        self._charge([text])
        return vectors[0]

    async def _embed(self, texts: Sequence[str]) -> list[NDArray[np.float32]]:
        windows = [self._windows(text) for text in texts]
        vectors = await self.embedder.embed([part for parts in windows for part in parts])
        self._charge(texts)
        ends = np.cumsum([len(parts) for parts in windows])
        return [unit(vectors[end - len(parts) : end].mean(axis=0)) for parts, end in zip(windows, ends, strict=True)]

    def _windows(self, text: str) -> list[str]:
        limit = self.embedder.max_tokens
        # A token is at least a character, so most texts need no counting.
        if len(text) <= limit:
            return [text]
        spans = self.embedder.tokenizer.spans(text)
        if len(spans) <= limit:
            return [text]
        # A window cut out of a text may take a token more than it had there.
        size = max(1, limit - 2)
        return [text[spans[at].start : spans[min(at + size, len(spans)) - 1].end] for at in range(0, len(spans), size)]

    def _remember(self, found: dict[str, NDArray[np.float32]]) -> None:
        with self._lock:
            self._known.update(found)
            for text in found:
                self._known.move_to_end(text)
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    def _charge(self, texts: Sequence[str]) -> None:
        tokens = sum(self.embedder.tokenizer.count(text) for text in texts)
        with self._lock:
            cost = self.cost
            self.cost = EmbeddingCost(cost.calls + 1, cost.texts + len(texts), cost.tokens + tokens)


def unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vector at length 1; a zero vector stays zero instead of becoming NaN."""
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


__all__ = ["REMEMBERED", "EmbeddingCost", "Vectorizer", "unit"]
