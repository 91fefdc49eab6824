"""Which class serves which ``backend`` of the settings. It opens models and knows nothing of their use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import SecretStr

from lightrag.config import EmbedderSettings, GeneratorSettings
from lightrag.models.base import Embedder, LanguageModel

if TYPE_CHECKING:
    from lightrag.models.cross_encoder import Reranker


def open_embedder(settings: EmbedderSettings) -> Embedder:
    """Make the embedder that the settings describe; weights are loaded at the first use.

    Raises:
        ConfigurationError: the backend needs a setting or a package that is missing.
    """
    return _EMBEDDERS[settings.backend](settings)


def open_language_model(settings: GeneratorSettings) -> LanguageModel | None:
    """Make the language model that the settings describe; weights are loaded, and servers called, at the first use.

    Returns:
        ``None`` for the backend ``extractive``: there is no language model then, and answers are quotes.

    Raises:
        ConfigurationError: the backend needs a setting or a package that is missing.
    """
    return _LANGUAGE_MODELS[settings.backend](settings)


def _sentence_transformers(settings: EmbedderSettings) -> Embedder:
    from lightrag.models.sentence_embedder import SentenceTransformerEmbedder

    return SentenceTransformerEmbedder(
        settings.model,
        batch_tokens=settings.batch_tokens,
        device=settings.device,
        dtype=settings.dtype,
        query_prefix=settings.query_prefix,
        document_prefix=settings.document_prefix,
        max_tokens=settings.max_tokens,
    )


def open_reranker(model: str, *, device: str = "cpu") -> Reranker | None:
    """Make the reranker that ``retrieval.reranker`` names, or ``None`` where it is empty; loaded at the first use."""
    from lightrag.models.cross_encoder import CrossEncoderReranker

    return CrossEncoderReranker(model, device=device) if model else None


def _secret(key: SecretStr | None) -> str:
    return key.get_secret_value() if key else ""


def _openai_embedder(settings: EmbedderSettings) -> Embedder:
    from lightrag.models.remote.embedder import OpenAIEmbedder
    from lightrag.models.remote.providers import endpoint

    return OpenAIEmbedder(
        settings.model,
        endpoint(
            "openai",
            base_url=settings.base_url,
            api_key=_secret(settings.api_key),
            timeout_seconds=settings.timeout_seconds,
        ),
        dimension=settings.dimension,
        max_tokens=settings.max_tokens,
        batch_tokens=settings.batch_tokens,
        query_prefix=settings.query_prefix,
        document_prefix=settings.document_prefix,
        max_retries=settings.max_retries,
    )


def _openai_language_model(settings: GeneratorSettings) -> LanguageModel:
    from lightrag.models.remote.language_model import OpenAILanguageModel
    from lightrag.models.remote.providers import endpoint

    return OpenAILanguageModel(
        settings.model,
        endpoint(
            settings.provider,
            base_url=settings.base_url,
            api_key=_secret(settings.api_key),
            api_version=settings.api_version,
            timeout_seconds=settings.timeout_seconds,
        ),
        context_tokens=settings.context_tokens,
        max_retries=settings.max_retries,
    )


def _transformers(settings: GeneratorSettings) -> LanguageModel:
    from lightrag.models.local.model import TransformersLanguageModel

    return TransformersLanguageModel(
        settings.model, device=settings.device, dtype=settings.dtype, context_tokens=settings.context_tokens
    )


def _vllm(settings: GeneratorSettings) -> LanguageModel:
    from lightrag.models.vllm_model import VllmLanguageModel

    return VllmLanguageModel(
        settings.model, dtype=settings.dtype, context_tokens=settings.context_tokens, engine=settings.engine
    )


_EMBEDDERS: dict[str, Callable[[EmbedderSettings], Embedder]] = {
    "openai": _openai_embedder,
    "sentence_transformers": _sentence_transformers,
}

_LANGUAGE_MODELS: dict[str, Callable[[GeneratorSettings], LanguageModel | None]] = {
    "extractive": lambda settings: None,
    "openai": _openai_language_model,
    "transformers": _transformers,
    "vllm": _vllm,
}

__all__ = ["open_embedder", "open_language_model", "open_reranker"]
