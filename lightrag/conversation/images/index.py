"""Which images a question in words is about: their vectors, kept up to date with the history, and evidence from them.

A similarity between a text and an image says little by itself. Each image is therefore compared with the question and
with neutral captions; how far the question stands out among these is evidence in nats, on the scale of
:mod:`lightrag.retrieval.fusion`, and does not depend on how many images there are.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightrag.conversation.history import History
from lightrag.conversation.images.clip import BATCH, PictureEmbedder
from lightrag.conversation.images.pictures import MAX_IMAGES
from lightrag.conversation.index.view import MemoryView
from lightrag.conversation.types import Scope
from lightrag.conversation.vectors import VectorDelta, VectorPoint, VectorStore
from lightrag.models.base import FloatMatrix
from lightrag.retrieval.fusion import DENSE_TRUST

CAPTIONS: Final = (
    "a photo of a person", "a photo of several people", "a photo of an animal", "a photo of food on a table",
    "a photo of a building", "a photo of a street in a city", "a photo of a landscape", "a photo of the sea",
    "a photo of a room", "a photo of a vehicle", "a photo of a plant", "a photo of a small object",
    "a screenshot of a document", "a diagram with text", "a drawing", "a blurred picture",
)  # fmt: skip
"""Neutral texts; a question must fit an image better than these do."""
KEPT: Final = 64
"""Users whose image vectors stay in memory."""


class _Known(NamedTuple):
    revision: int
    messages: NDArray[np.int64]
    """Message number of each image, shape (images,)."""
    vectors: FloatMatrix
    """Shape (images, dimension)."""
    mean: NDArray[np.float32]
    """Similarity of each image to neutral captions, shape (images,)."""
    deviation: NDArray[np.float32]


class ImageIndex:
    """Vectors of the images of all users. Blocking; safe to share between threads."""

    def __init__(self, history: History, embedder: PictureEmbedder, store: VectorStore) -> None:
        self._history = history
        self._embedder = embedder
        self._store = store
        self._known: OrderedDict[Scope, _Known] = OrderedDict()
        self._lock = threading.Lock()
        self._captions: FloatMatrix | None = None
        self.name = embedder.name
        """Of the model."""

    async def bring_up(self, scope: Scope, revision: int) -> None:
        """Embed what was attached since the last time.

        Raises:
            BackendError: the history or the vector store failed.
            ArtifactError: the checkpoint is no CLIP-type model.
        """
        await asyncio.to_thread(self._bring_up, scope, revision)

    def evidence(self, scope: Scope, view: MemoryView, query: str) -> dict[int, float]:
        """What the images of a user say for each row of the view that stands for their message, in nats above 0."""
        self._bring_up(scope, view.revision)
        known = self._read(scope, view.revision)
        if not len(known.messages):
            return {}
        similar = known.vectors @ self._embedder.texts([query])[0]
        deviations = (similar - known.mean) / known.deviation
        nats = DENSE_TRUST * np.maximum(deviations, 0) ** 2 / 2
        rows = _rows_of(view)
        found: dict[int, float] = {}
        for message, amount in zip(known.messages.tolist(), nats.tolist(), strict=True):
            for row in rows.get(f"m{message}", ()):
                found[row] = max(found.get(row, 0.0), amount)
        return {row: amount for row, amount in found.items() if amount > 0}

    def forget(self, scope: Scope) -> None:
        """Drop the vectors of a user."""
        with self._lock:
            self._known.pop(scope, None)
            self._store.drop(scope)

    def close(self) -> None:
        """Write what is pending and let go of files and connections."""
        self._store.close()

    def _bring_up(self, scope: Scope, revision: int) -> None:
        with self._lock:
            mark = self._store.watermark(scope)
            if mark >= revision:
                return
            attached = self._history.pictures.since(scope, mark)
            items = {_item(seq, position): (seq, position) for seq, position in attached}
            fresh = sorted(set(items) - self._store.present(scope, sorted(items)))
            for start in range(0, len(fresh), BATCH):
                part = fresh[start : start + BATCH]
                files = self._history.pictures.contents(scope, [items[item] for item in part])
                vectors = self._embedder.pictures(files)
                points = [VectorPoint(item, vector, {}) for item, vector in zip(part, vectors, strict=True)]
                self._store.apply(scope, VectorDelta(points), mark)
            self._store.apply(scope, VectorDelta(), revision)

    def _read(self, scope: Scope, revision: int) -> _Known:
        with self._lock:
            known = self._known.get(scope)
            if known is None or known.revision < revision:
                stored = self._store.vectors(scope)
                if self._captions is None:
                    self._captions = self._embedder.texts(CAPTIONS)
                plain = stored.vectors @ self._captions.T  # (images, captions)
                mean, deviation = plain.mean(axis=1), np.maximum(plain.std(axis=1), 1e-3)
                known = _Known(revision, stored.items // MAX_IMAGES, stored.vectors, mean, deviation)
                self._known[scope] = known
            self._known.move_to_end(scope)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
            return known


def _item(seq: int, position: int) -> int:
    return seq * MAX_IMAGES + position


def _rows_of(view: MemoryView) -> Mapping[str, list[int]]:
    """Rows that stand for each message with images: quotes of it, or the message itself."""
    rows: dict[str, list[int]] = {}
    for place, row in enumerate(view.rows):
        if row.quote and row.entry.images:
            for source in row.entry.sources:
                rows.setdefault(source, []).append(place)
    return rows


__all__ = ["CAPTIONS", "ImageIndex"]
