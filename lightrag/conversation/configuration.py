"""The published configuration dictionary, checked as a whole: every option, its values, and what contradicts what.

It opens nothing.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Literal, get_args

import pydantic
from pydantic import BaseModel, Field

from lightrag.conversation.contradictions import contradictions
from lightrag.conversation.options import (
    EmbedderOption,
    EntropyCompressorOption,
    ImageEmbedderOption,
    LexicalOption,
    LinguaCompressorOption,
    LoggingOptions,
    ManagerOption,
    Options,
    QdrantOption,
    SegmenterOption,
)
from lightrag.errors import ConfigurationError

IndexStrategy = Literal["embedding", "context", "hybrid"]


class MemoryConfiguration(Options):
    """The whole configuration. Every published option, and a few of ours."""

    pre_compress: bool = False
    pre_compressor: LinguaCompressorOption | EntropyCompressorOption | None = Field(
        default=None, discriminator="model_name"
    )
    topic_segment: bool = False
    precomp_topic_shared: bool = False
    topic_segmenter: SegmenterOption | None = None
    messages_use: Literal["user_only", "assistant_only", "hybrid"] = "user_only"
    metadata_generate: bool = True
    text_summary: bool = True
    memory_manager: ManagerOption = ManagerOption()
    extract_threshold: float = Field(default=0.5, ge=0, le=1)
    index_strategy: IndexStrategy | None = None
    text_embedder: EmbedderOption = EmbedderOption()
    multimodal_embedder: ImageEmbedderOption | None = None
    history_db_path: str | None = None
    """A file or a database URL; by default ``history.db`` in the path of the vector store."""
    retrieve_strategy: IndexStrategy = "hybrid"
    context_retriever: LexicalOption | None = None
    embedding_retriever: QdrantOption = QdrantOption()
    summary_retriever: QdrantOption | None = None
    update: Literal["offline", "online"] = "offline"
    kv_cache: bool = False
    """Keep each user's memory pre-encoded for a local model; see ``LightMemory.answer``."""
    kv_cache_path: str | None = None
    """Folder or object store URL of the encoded memories; by default ``kv_cache`` in the path of the vector store."""
    kv_cache_model: str = ""
    """Local path or hub id of the model that reads them; by default that of a ``transformers`` memory manager."""
    kv_cache_device: str = "cpu"
    """Where ``kv_cache_model`` computes."""
    kv_cache_tokens: int = Field(default=4096, ge=16)
    """Most tokens of memory text that are encoded, the latest entries first."""
    graph_mem: bool = False
    """Link entries along dated relations and shared entities."""
    extraction_mode: Literal["flat", "event"] = "flat"
    """``event`` also asks a language model for relations between people and things."""
    version: Literal["v1.1"] = "v1.1"
    """Of the configuration's form; there is one."""
    logging: LoggingOptions | None = None
    sensory_tokens: int = Field(default=512, ge=1)
    """Tokens of the sensory buffer, all roles counted."""
    short_term_tokens: int = Field(default=512, ge=1)
    """Tokens that are extracted together."""
    default_time_stamp: str | None = None
    """Stands in for missing time stamps; without it such messages are refused."""
    max_message_characters: int = Field(default=262_144, ge=1)
    retrieve_turns: bool = True
    """Whether messages stay searchable beside what a language model extracted from them."""
    spread: bool = True
    """Let scores flow along links: neighbouring turns, shared names, relations."""


def read_configuration(config: Mapping[str, Any]) -> MemoryConfiguration:
    """Check a configuration and report every problem at once.

    Raises:
        ConfigurationError: an option is unknown (the message names the nearest one), has an impossible value, or
            contradicts another one.
    """
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"the configuration is a dict, got {type(config).__name__}")
    try:
        checked = MemoryConfiguration.model_validate(dict(config))
    except pydantic.ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors(include_url=False))
        raise ConfigurationError(f"the memory configuration is not valid: {problems}") from error
    problems = "; ".join(contradictions(checked))
    if problems:
        raise ConfigurationError(f"the memory configuration contradicts itself: {problems}")
    return checked


def _problem(item: Any) -> str:
    place = [str(part) for part in item["loc"] if str(part) not in ("llmlingua-2", "entropy_compress")]
    if item["type"] != "extra_forbidden":
        return f"{'.'.join(place)}: {item['msg']} (got {str(item.get('input'))[:80]!r})"
    known = sorted(_known_at(place[:-1]))
    near = difflib.get_close_matches(place[-1], known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
    return f"{'.'.join(place)}: no such option, {hint}"


def _known_at(place: list[str]) -> set[str]:
    """Names that are options at a place in the configuration."""
    models: list[Any] = [MemoryConfiguration]
    for name in place:
        models = [
            inner
            for model in models
            if name in model.model_fields
            for inner in _models_in(model.model_fields[name].annotation)
        ]
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _models_in(annotation: Any) -> list[Any]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models_in(inner)]


__all__ = [
    "EntropyCompressorOption",
    "LinguaCompressorOption",
    "LoggingOptions",
    "ManagerOption",
    "MemoryConfiguration",
    "read_configuration",
]
