"""Which compressor serves which settings, and what is done where the generator cannot read latents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from lightrag.compression import CompressedContext, Compressor
from lightrag.config import CompressionMethod, CompressionSettings
from lightrag.errors import ConfigurationError
from lightrag.lexical.compressor import Forcing, TextCompressor
from lightrag.lexical.evidence import EvidenceTextCompressor
from lightrag.lexical.statistics import StatisticalScorer
from lightrag.models.base import Embedder, LanguageModel
from lightrag.models.files import resolve_model
from lightrag.models.tokenization import EstimatingTokenizer
from lightrag.types import Evidence, Tokenizer

if TYPE_CHECKING:
    from lightrag.latents.importance import Importance
    from lightrag.latents.passages import PassageEncoder
    from lightrag.latents.stored import StoredLatents

TEXT_INSTEAD = "generator {name!r} reads no latents, so passages were compressed as text"


def open_compressor(
    settings: CompressionSettings,
    *,
    generator: LanguageModel | None = None,
    embedder: Embedder | None = None,
    stored: StoredLatents | None = None,
) -> Compressor:
    """Make the compressor that the settings describe.

    Args:
        settings: what is wanted.
        generator: reads the result; its tokenizer measures budgets, its capabilities decide whether latents are used.
        embedder: for the importance source ``embedding``.
        stored: latents of the corpus, for the method ``latents``.

    Raises:
        ConfigurationError: a setting is missing or contradicts another.
        BackendError: a model that is named is not there.
        ArtifactError: a checkpoint is damaged.
    """
    tokenizer: Tokenizer = generator.tokenizer if generator is not None else EstimatingTokenizer()
    if settings.method != "latents":
        return EvidenceTextCompressor(_TEXT[settings.method](settings, tokenizer))
    if generator is None or "latents" not in generator.capabilities:
        note = TEXT_INSTEAD.format(name=generator.name if generator is not None else "none")
        return NotedCompressor(EvidenceTextCompressor(_statistics(settings, tokenizer)), note)
    return _latents(settings, embedder, stored)


class NotedCompressor:
    """Adds a note to what another compressor gives: what was asked for and could not be done."""

    def __init__(self, inner: Compressor, note: str) -> None:
        self._inner = inner
        self._note = note

    async def compress(self, evidence: Sequence[Evidence], budget: int, query: str) -> CompressedContext:
        """See :class:`lightrag.compression.Compressor`."""
        context = await self._inner.compress(evidence, budget, query)
        return replace(context, notes=(*context.notes, self._note))


def _statistics(settings: CompressionSettings, tokenizer: Tokenizer) -> TextCompressor:
    return TextCompressor(StatisticalScorer(tokenizer=tokenizer), tokenizer)


def _llmlingua2(settings: CompressionSettings, tokenizer: Tokenizer) -> TextCompressor:
    from lightrag.lexical.llmlingua2 import LLMLingua2

    scorer = LLMLingua2(_model(settings, "llmlingua2"), device=settings.device, dtype=_precision(settings))
    force = Forcing(digits=settings.keep_digits)
    return TextCompressor(scorer, tokenizer, force=force, query_weight=settings.query_weight)


def _entropy(settings: CompressionSettings, tokenizer: Tokenizer) -> TextCompressor:
    from lightrag.lexical.surprisal import SurprisalScorer

    scorer = SurprisalScorer(_model(settings, "entropy"), device=settings.device, dtype=_precision(settings))
    force = Forcing(digits=settings.keep_digits)
    return TextCompressor(scorer, tokenizer, force=force, query_weight=settings.query_weight)


_TEXT: dict[str, Callable[[CompressionSettings, Tokenizer], TextCompressor]] = {
    "statistics": _statistics,
    "llmlingua2": _llmlingua2,
    "entropy": _entropy,
}


def open_passage_encoder(settings: CompressionSettings) -> PassageEncoder:
    """Load the compressive encoder that the settings of the method ``latents`` describe.

    Raises:
        ConfigurationError: no model is named, or its tokenizer is missing.
        BackendError: a model that is named is not there.
        ArtifactError: a checkpoint is damaged.
    """
    from lightrag.latents.passages import PassageEncoder

    folder = resolve_model(_model(settings, "latents"))
    belongs_to = resolve_model(settings.language_model) if settings.language_model else None
    if belongs_to is None and not (folder / "tokenizer.json").is_file():
        raise ConfigurationError(
            f"{str(folder)!r} holds no tokenizer: set compression.language_model to the model it was made for"
        )
    return PassageEncoder.load(
        folder,
        tokenizer=belongs_to,
        base=belongs_to,
        instruction=settings.instruction,
        dtype=settings.dtype,
        device=settings.device,
    )


def _latents(settings: CompressionSettings, embedder: Embedder | None, stored: StoredLatents | None) -> Compressor:
    from lightrag.latents.compressor import LatentCompressor, LatentOptions
    from lightrag.latents.layout import parse_layout

    encoder = open_passage_encoder(settings)
    options = LatentOptions(layout=parse_layout(settings.layout) if settings.layout else (), joint=settings.joint)
    return LatentCompressor(
        encoder, importance=_importance(settings, encoder, embedder), stored=stored, options=options
    )


def _importance(settings: CompressionSettings, encoder: PassageEncoder, embedder: Embedder | None) -> Importance | None:
    from lightrag.latents import importance

    match settings.importance:
        case "none":
            return None
        case "lexical":
            return importance.LexicalImportance()
        case "embedding":
            if embedder is None:
                raise ConfigurationError("compression.importance 'embedding' needs an embedder, and there is none")
            return importance.EmbeddingImportance(embedder)
        case "surprisal":
            from lightrag.lexical.surprisal import SurprisalScorer

            scorer = SurprisalScorer(
                settings.importance_model or _model(settings, "latents"),
                device=settings.device,
                dtype=_precision(settings),
            )
            return importance.SurprisalImportance(scorer)
        case "estimator":
            from lightrag.latents.estimator import TokenEstimator, published_end

            estimator = TokenEstimator.load(
                resolve_model(settings.importance_model or _model(settings, "latents")),
                dtype=settings.dtype,
                device=settings.device,
                bos=encoder.framing.bos,
                end_ids=published_end(encoder.tokenizer, encoder.framing.bos),
            )
            return importance.EstimatorImportance(estimator, encoder.tokenizer)


def _model(settings: CompressionSettings, method: CompressionMethod) -> str:
    model = settings.model_of(method)
    if not model:
        # ``compression.model`` belongs to the configured method alone.
        name = "compression.model" if method == settings.method else f"compression.models.{method}"
        raise ConfigurationError(f"compression method {method!r} needs {name}", subject=name)
    return model


def _precision(settings: CompressionSettings) -> Literal["float32", "bfloat16", "float16"]:
    return "float32" if settings.dtype == "auto" else settings.dtype


__all__ = ["TEXT_INSTEAD", "NotedCompressor", "open_compressor", "open_passage_encoder"]
