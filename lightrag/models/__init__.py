"""Language models, embedders and rerankers behind small protocols; settings choose the backend.

Importing this package loads no heavy library; opening a model does, and only those it needs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightrag.models.base import Embedder, LanguageModel
    from lightrag.models.cross_encoder import CrossEncoderReranker, Reranker
    from lightrag.models.fakes import HashingEmbedder, ScriptedLanguageModel
    from lightrag.models.local.model import TransformersLanguageModel
    from lightrag.models.registry import open_embedder, open_language_model, open_reranker
    from lightrag.models.remote.embedder import OpenAIEmbedder
    from lightrag.models.remote.language_model import OpenAILanguageModel
    from lightrag.models.sentence_embedder import SentenceTransformerEmbedder
    from lightrag.models.tokenization import EstimatingTokenizer, HuggingFaceTokenizer
    from lightrag.models.vllm_model import VllmLanguageModel

_HOMES = {
    "CrossEncoderReranker": "cross_encoder",
    "Embedder": "base",
    "EstimatingTokenizer": "tokenization",
    "HashingEmbedder": "fakes",
    "HuggingFaceTokenizer": "tokenization",
    "LanguageModel": "base",
    "OpenAIEmbedder": "remote.embedder",
    "OpenAILanguageModel": "remote.language_model",
    "Reranker": "cross_encoder",
    "ScriptedLanguageModel": "fakes",
    "SentenceTransformerEmbedder": "sentence_embedder",
    "TransformersLanguageModel": "local.model",
    "VllmLanguageModel": "vllm_model",
    "open_embedder": "registry",
    "open_language_model": "registry",
    "open_reranker": "registry",
}

__all__ = [
    "CrossEncoderReranker",
    "Embedder",
    "EstimatingTokenizer",
    "HashingEmbedder",
    "HuggingFaceTokenizer",
    "LanguageModel",
    "OpenAIEmbedder",
    "OpenAILanguageModel",
    "Reranker",
    "ScriptedLanguageModel",
    "SentenceTransformerEmbedder",
    "TransformersLanguageModel",
    "VllmLanguageModel",
    "open_embedder",
    "open_language_model",
    "open_reranker",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lightrag.models' has no attribute {name!r}")
    return getattr(import_module(f"lightrag.models.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
