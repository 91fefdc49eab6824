"""Options that exclude or need each other, and options that nobody would read: each is found and named.

A switch that is off (``pre_compress``, ``topic_segment``) makes what belongs to it idle, and that is no contradiction.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from lightrag.conversation.options import LinguaCompressorOption, QdrantConfigs

if TYPE_CHECKING:
    from lightrag.conversation.configuration import MemoryConfiguration

_SAMPLING: Final = {"seed", "do_sample", "temperature", "max_tokens", "top_p", "top_k", "stop"}
_REMOTE: Final = _SAMPLING | {"model", "api_key", "context_tokens", "timeout_seconds", "max_retries"}
_LOCAL: Final = _SAMPLING | {"model", "context_tokens"}
_MANAGER_READS: Final = {
    "openai": _REMOTE | {"openai_base_url"},
    "deepseek": _REMOTE | {"deepseek_base_url"},
    "ollama": _REMOTE | {"host"},
    "vllm": _REMOTE | {"vllm_base_url"},
    "vllm_offline": _LOCAL | {"gpu_memory_utilization"},
    "transformers": _LOCAL | {"device"},
    # Sampling is for a language model that is handed over in code.
    "extractive": _SAMPLING,
}


def contradictions(config: MemoryConfiguration) -> list[str]:
    """What is wrong with a configuration whose options are all valid by themselves; empty where nothing is."""
    return [*_strategies(config), *_compression(config), *_models(config), *_kv_cache(config), *_stores(config)]


def _strategies(config: MemoryConfiguration) -> Iterator[str]:
    given = config.model_fields_set
    if "index_strategy" in given and config.index_strategy is None and "retrieve_strategy" in given:
        yield (
            f"index_strategy is None, but retrieve_strategy {config.retrieve_strategy!r} needs an index: "
            f"set index_strategy to {config.retrieve_strategy!r} or 'hybrid', or leave it out"
        )
    if "retrieve_strategy" in given and config.index_strategy not in (None, "hybrid", config.retrieve_strategy):
        yield (
            f"retrieve_strategy {config.retrieve_strategy!r} needs an index that index_strategy "
            f"{config.index_strategy!r} does not build: make them equal, or index_strategy 'hybrid'"
        )
    if config.index_strategy == "embedding" and config.context_retriever is not None:
        yield "context_retriever is given, but index_strategy 'embedding' builds no BM25 index: use 'hybrid'"
    if config.index_strategy == "context" and config.multimodal_embedder is not None:
        yield "multimodal_embedder needs vectors, which index_strategy 'context' does not build: use 'hybrid'"


def _compression(config: MemoryConfiguration) -> Iterator[str]:
    if config.pre_compress and config.pre_compressor is None:
        yield "pre_compress is true, but there is no pre_compressor: name one, or set pre_compress to False"
    lingua = isinstance(config.pre_compressor, LinguaCompressorOption) and config.pre_compress
    if config.precomp_topic_shared and not (config.topic_segment and lingua):
        yield "precomp_topic_shared needs pre_compress with 'llmlingua-2' and topic_segment"
    segmenter = config.topic_segmenter
    if segmenter is None:
        return
    given = segmenter.configs.model_fields_set
    attentive = given & {"model_name", "device_map", "torch_dtype", "layers"}
    if (
        segmenter.model_name == "embedding"
        and config.precomp_topic_shared
        and "model_name" in segmenter.model_fields_set
    ):
        yield "precomp_topic_shared shares attention, and topic_segmenter 'embedding' reads none: use 'llmlingua-2'"
    elif segmenter.model_name == "embedding" and attentive and not config.precomp_topic_shared:
        yield f"topic_segmenter 'embedding' does not read {_named(attentive)}: use 'llmlingua-2', or leave them out"
    if config.precomp_topic_shared and attentive - {"layers"}:
        yield f"precomp_topic_shared takes the compressor's model: leave out {_named(attentive - {'layers'})}"
    if {"buffer_len"} & given and "sensory_tokens" in config.model_fields_set:
        yield "sensory_tokens and topic_segmenter.configs.buffer_len are one thing: give one of them"


def _models(config: MemoryConfiguration) -> Iterator[str]:
    manager = config.memory_manager
    if manager.model_name != "extractive" and not manager.configs.model:
        yield f"memory_manager {manager.model_name!r} needs configs.model"
    idle = manager.configs.model_fields_set - _MANAGER_READS[manager.model_name]
    if idle:
        yield f"memory_manager {manager.model_name!r} does not read configs {_named(idle)}: leave them out"
    embedder = config.text_embedder
    given = embedder.configs.model_fields_set
    remote = embedder.model_name == "openai" or bool(embedder.configs.huggingface_base_url)
    idle = given & ({"model_kwargs"} if remote else {"openai_base_url", "api_key"})
    if idle:
        kind = "a remote" if remote else "a local"
        yield f"text_embedder.configs {_named(idle)} is not read by {kind} embedder: leave it out"
    if embedder.configs.huggingface_base_url and embedder.configs.openai_base_url:
        yield "text_embedder has huggingface_base_url and openai_base_url: choose one"
    if config.logging is not None and config.logging.file_enabled and not config.logging.log_dir:
        yield "logging.file_enabled needs logging.log_dir"


def _kv_cache(config: MemoryConfiguration) -> Iterator[str]:
    idle = config.model_fields_set & {"kv_cache_path", "kv_cache_model", "kv_cache_tokens"}
    if not config.kv_cache and idle:
        yield f"{_named(idle)} needs kv_cache: set kv_cache to True, or leave it out"
    if not config.kv_cache_model and "kv_cache_device" in config.model_fields_set:
        yield "kv_cache_device is only read with kv_cache_model: leave it out, or name the model"
    if config.kv_cache and not config.kv_cache_model and config.memory_manager.model_name != "transformers":
        yield (
            "kv_cache needs a local model, and memory_manager "
            f"{config.memory_manager.model_name!r} is none: set kv_cache_model to the folder of a causal language "
            "model, or use memory_manager 'transformers'"
        )


def _stores(config: MemoryConfiguration) -> Iterator[str]:
    for name in ("embedding_retriever", "summary_retriever"):
        option = getattr(config, name)
        if option is not None:
            yield from (f"{name}{problem}" for problem in _store(option.configs))
    expected = config.text_embedder.configs.embedding_dims
    for name in ("embedding_retriever", "summary_retriever"):
        option = getattr(config, name)
        made = None if option is None else option.configs.embedding_model_dims
        if expected is not None and made is not None and expected != made:
            yield f"embedding_dims {expected} and {name}'s embedding_model_dims {made} differ: make them equal"


def _store(store: QdrantConfigs) -> Iterator[str]:
    given = store.model_fields_set
    server = store.url is not None or store.host is not None
    if store.path is not None and server:
        yield " has a path and a server: choose one"
    if store.url is not None and store.host is not None:
        yield " has a url and a host: choose one"
    if "port" in given and store.host is None:
        yield ".configs.port is only read with host: leave it out, or name the host"
    if store.api_key is not None and not server:
        yield ".configs.api_key is only read with a server: leave it out, or give url or host"
    if not store.on_disk:
        yield ".configs.on_disk false would delete the store: remove the folder yourself"


def _named(options: set[str]) -> str:
    return ", ".join(sorted(options))


__all__ = ["contradictions"]
