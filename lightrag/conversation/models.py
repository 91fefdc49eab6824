"""Which embedder and which language model serve a configuration, and how the latter decodes."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr

from lightrag.config import EmbedderSettings, GeneratorSettings
from lightrag.conversation.configuration import MemoryConfiguration
from lightrag.conversation.devices import check_device
from lightrag.conversation.options import ManagerOption
from lightrag.errors import ConfigurationError
from lightrag.models import open_embedder, open_language_model
from lightrag.models.base import Embedder, LanguageModel, Sampling


def sampling_of(manager: ManagerOption) -> Sampling:
    """How the language model decodes: greedily, unless sampling is asked for."""
    configs = manager.configs
    asked = configs.do_sample
    if asked is None:
        asked = bool({"temperature", "top_p"} & configs.model_fields_set)
    sampled = asked and configs.top_k != 1
    return Sampling(
        max_tokens=configs.max_tokens,
        temperature=configs.temperature if sampled else 0.0,
        top_p=configs.top_p if sampled else 1.0,
        stop=configs.stop,
        seed=configs.seed,
        json=True,
    )


def embedder_of(config: MemoryConfiguration) -> Embedder:
    """Open the text embedder; weights are loaded at the first use."""
    option = config.text_embedder
    configs = option.configs
    remote = option.model_name == "openai" or bool(configs.huggingface_base_url)
    kwargs = dict(configs.model_kwargs)
    device = str(kwargs.pop("device", "cpu"))
    if kwargs:
        raise ConfigurationError(
            f"text_embedder.configs.model_kwargs has {', '.join(sorted(kwargs))}; only 'device' is known",
            subject="model_kwargs",
        )
    if not remote:
        check_device(device, "text_embedder")
    return open_embedder(
        EmbedderSettings(
            backend="openai" if remote else "sentence_transformers",
            model=configs.model,
            device=device,
            base_url=configs.openai_base_url or configs.huggingface_base_url,
            api_key=configs.api_key,
            dimension=configs.embedding_dims if remote else None,
            max_tokens=configs.max_tokens,
        )
    )


def check_dimension(config: MemoryConfiguration, embedder: Embedder) -> None:
    """Refuse dimensions in the configuration that the embedder does not have."""
    named = {
        "text_embedder.configs.embedding_dims": config.text_embedder.configs.embedding_dims,
        "embedding_retriever.configs.embedding_model_dims": config.embedding_retriever.configs.embedding_model_dims,
    }
    if config.summary_retriever is not None:
        dims = config.summary_retriever.configs.embedding_model_dims
        named["summary_retriever.configs.embedding_model_dims"] = dims
    for option, value in named.items():
        if value is not None and value != embedder.dimension:
            raise ConfigurationError(
                f"{option} is {value}, but embedder {embedder.name!r} makes vectors of {embedder.dimension}: "
                "correct it, or leave it out",
                subject=option,
            )


def language_model_of(manager: ManagerOption) -> LanguageModel | None:
    """Open the language model, or ``None`` where extraction is extractive."""
    configs = manager.configs
    common: dict[str, Any] = {
        "model": configs.model,
        "api_key": configs.api_key,
        "context_tokens": configs.context_tokens,
        "max_tokens": configs.max_tokens,
        "temperature": configs.temperature,
        "timeout_seconds": configs.timeout_seconds,
        "max_retries": configs.max_retries,
    }
    match manager.model_name:
        case "extractive":
            return None
        case "openai":
            settings = GeneratorSettings(backend="openai", base_url=configs.openai_base_url, **common)
        case "deepseek":
            base = configs.deepseek_base_url
            settings = GeneratorSettings(backend="openai", provider="deepseek", base_url=base, **common)
        case "ollama":
            base = configs.host.rstrip("/").removesuffix("/v1") + "/v1"
            settings = GeneratorSettings(backend="openai", provider="ollama", base_url=base, **common)
        case "vllm":
            base = configs.vllm_base_url or "http://localhost:8000/v1"
            settings = GeneratorSettings(backend="openai", base_url=base, **_with_any_key(common))
        case "vllm_offline":
            engine = {"gpu_memory_utilization": configs.gpu_memory_utilization, "seed": configs.seed}
            settings = GeneratorSettings(backend="vllm", engine=engine, **common)
        case "transformers":
            check_device(configs.device, "memory_manager")
            settings = GeneratorSettings(backend="transformers", device=configs.device, **common)
    return open_language_model(settings)


def _with_any_key(common: dict[str, Any]) -> dict[str, Any]:
    """One's own vLLM server usually asks for no key, and the client insists on sending one."""
    return common | {"api_key": common["api_key"] or SecretStr("none")}


__all__ = ["check_dimension", "embedder_of", "language_model_of", "sampling_of"]
