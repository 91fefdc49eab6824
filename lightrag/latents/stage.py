"""The compression stage: every request is compressed by the method it names, with the stored latents of its corpus.

Implements :class:`lightrag.compression.CompressionStage` over the compressors of :mod:`lightrag.latents.choice`.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from lightrag.compression import CompressedContext, CompressionRequest, Compressor
from lightrag.config import CompressionMethod, CompressionSettings
from lightrag.errors import UsageError
from lightrag.latents.choice import open_compressor
from lightrag.models.base import Embedder, LanguageModel

if TYPE_CHECKING:
    from lightrag.latents.corpus_latents import CorpusLatents


class CompressionByMethod:
    """Compresses by whatever method a request names; the configured one is opened now, others at their first use.

    Args:
        settings: the configured method, and the models of all.
        generator: reads the result; see :func:`lightrag.latents.choice.open_compressor`.
        embedder: for the importance source ``embedding``.
        latents: stored latents of corpora; ``None``: every passage is encoded when it is asked for.

    Raises:
        ConfigurationError: a setting of the configured method is missing or contradicts another.
    """

    def __init__(
        self,
        settings: CompressionSettings,
        *,
        generator: LanguageModel | None = None,
        embedder: Embedder | None = None,
        latents: CorpusLatents | None = None,
    ) -> None:
        self._settings = settings
        self._generator = generator
        self._embedder = embedder
        self._latents = latents
        self._opened: dict[CompressionMethod, Compressor] = {settings.method: self._open(settings.method)}
        self._opening = asyncio.Lock()

    async def compress(self, request: CompressionRequest) -> CompressedContext:
        """Represent the evidence in at most the budget.

        Raises:
            UsageError: the budget is not positive, there is no evidence, or the method is unknown or has no model.
            BackendError: a model that is named is not there.
        """
        method = request.method or self._settings.method
        compressor = await self._compressor(method)
        notes: tuple[str, ...] = ()
        if method == "latents":
            compressor, notes = await self._with_stored(compressor, request)
        context = await compressor.compress(request.evidence, request.budget, request.query)
        return replace(context, notes=(*context.notes, *notes))

    async def _with_stored(
        self, compressor: Compressor, request: CompressionRequest
    ) -> tuple[Compressor, tuple[str, ...]]:
        """Give a compressor the stored latents of the request's passages, and say which of them cannot be used."""
        from lightrag.latents.compressor import LatentCompressor

        if request.corpus is None or self._latents is None or self._settings.joint:
            return compressor, ()  # nothing is stored, or passages are encoded as one text
        if not isinstance(compressor, LatentCompressor):
            return compressor, ()  # the generator reads no latents
        fingerprint = await asyncio.to_thread(lambda: compressor.fingerprint)  # hashes the weights, once
        stored = await self._latents.of(request.corpus, request.evidence, fingerprint=fingerprint)
        foreign = stored.foreign if stored is not None else 0
        note = f"latents of {foreign} passages are stored, but another encoder made them"
        return compressor.with_stored(stored), (note,) if foreign else ()

    async def _compressor(self, method: CompressionMethod) -> Compressor:
        if method not in get_args(CompressionMethod):
            raise UsageError(
                f"there is no compression method {method!r}; the methods are {sorted(get_args(CompressionMethod))!r}",
                subject=method,
            )
        if method not in self._opened:
            if method != "statistics" and not self._settings.model_of(method):
                raise UsageError(
                    f"compression method {method!r} is not available here: compression.models names no model for it",
                    subject=method,
                )
            async with self._opening:
                if method not in self._opened:
                    self._opened[method] = await asyncio.to_thread(self._open, method)
        return self._opened[method]

    def _open(self, method: CompressionMethod) -> Compressor:
        settings = self._settings.model_copy(update={"method": method, "model": self._settings.model_of(method)})
        return open_compressor(settings, generator=self._generator, embedder=self._embedder)


__all__ = ["CompressionByMethod"]
