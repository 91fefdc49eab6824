"""Rerankers: models that read query and passage together and score how well they fit."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightrag.errors import BackendError, UsageError
from lightrag.models.files import model_fingerprint, quiet_loading, resolve_model


@runtime_checkable
class Reranker(Protocol):
    """Scores passages for a query."""

    @property
    def name(self) -> str:
        """As shown in reports."""
        ...

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Score every text; higher is better, and scores are comparable for one query only.

        Raises:
            BackendError: the model failed.
        """
        ...

    async def close(self) -> None:
        """Free memory."""
        ...


class CrossEncoderReranker:
    """A sentence-transformers cross-encoder: any local folder or hub id.

    A pair that is longer than the model reads is read as far as it goes: the end of the longer part counts nothing.
    That only concerns the score; the passage itself is never cut. Scores are the model's own, by its own activation.

    Args:
        model: local folder or hub id.
        device: as torch names it.
        batch_size: pairs in one forward pass; they are sorted by length.
    """

    def __init__(self, model: str, *, device: str = "cpu", batch_size: int = 16) -> None:
        self.name = model
        self._device = device
        self._batch_size = batch_size
        self._loading = threading.Lock()
        self._model: Any = None
        self._closed = False

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return resolve_model(self.name)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of configuration and weights."""
        return model_fingerprint(self.folder)

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        """Score every text in a thread, beside the event loop.

        Raises:
            BackendError: the model cannot be loaded or failed.
        """
        return await asyncio.to_thread(self.score_now, query, texts) if texts else []

    def score_now(self, query: str, texts: Sequence[str]) -> list[float]:
        """Score every text in this thread; otherwise exactly :meth:`score`."""
        pairs = [(query, text) for text in texts]
        model = self._loaded()
        try:
            scores = model.predict(pairs, batch_size=self._batch_size, show_progress_bar=False)
        except RuntimeError as error:
            raise BackendError(f"reranker {self.name!r} failed: {error}", subject=self.name) from error
        return [float(score) for score in scores]

    async def close(self) -> None:
        """Drop the weights."""
        with self._loading:
            self._closed = True
            self._model = None

    def _loaded(self) -> Any:
        from sentence_transformers import CrossEncoder

        from lightrag.models.packing import pack_linear_layers

        with self._loading:
            if self._closed:
                raise UsageError(f"reranker {self.name!r} is closed; open a new one", subject=self.name)
            if self._model is None:
                try:
                    with quiet_loading():
                        model = CrossEncoder(str(self.folder), device=self._device, local_files_only=True)
                except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
                    raise BackendError(
                        f"reranker {self.name!r} cannot be loaded: {error}", subject=self.name
                    ) from error
                if model.num_labels != 1:
                    raise BackendError(
                        f"reranker {self.name!r} has {model.num_labels} outputs, not one score; use a reranking model",
                        subject=self.name,
                    )
                pack_linear_layers(model)
                self._model = model
            return self._model


__all__ = ["CrossEncoderReranker", "Reranker"]
