"""Language models on vLLM as the whole settings describe them: what their engines read, and which share one engine.

The weights of a model are loaded once: where generator and memory model are the same checkpoint, both on vLLM, one
engine writes answers and reads memories. Knows nothing of how memories are chosen or stored.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightrag.config import Settings
from lightrag.models import open_language_model
from lightrag.models.base import LanguageModel
from lightrag.models.files import resolve_model

if TYPE_CHECKING:
    from lightrag.models.vllm_model import VllmLanguageModel


def open_generator(settings: Settings) -> LanguageModel | None:
    """Make the language model that ``settings.generator`` describes, which may also be the one that reads memories.

    Returns:
        ``None`` where answers are quotes.

    Raises:
        ConfigurationError: the backend needs a setting or a package that is missing.
    """
    generator = settings.generator
    if generator.backend != "vllm":
        return open_language_model(generator)
    from lightrag.models.vllm_model import VllmLanguageModel

    connector = _connector(settings) if shares_engine(settings) else {}
    return VllmLanguageModel(
        generator.model,
        dtype=generator.dtype,
        context_tokens=generator.context_tokens,
        engine={**connector, **generator.engine},
        find=partial(served_folder, settings),
    )


def open_memory_engine(settings: Settings) -> VllmLanguageModel:
    """Make the language model that reads memories on an engine of its own.

    Raises:
        ConfigurationError: vLLM is not installed.
    """
    from lightrag.models.vllm_model import VllmLanguageModel

    memory = settings.memory
    return VllmLanguageModel(
        memory.model,
        dtype=memory.dtype,
        # Nothing but text is asked of memories.
        engine={"enable_prompt_embeds": False, **_connector(settings), **memory.engine_arguments},
        find=partial(served_folder, settings),
    )


def shares_engine(settings: Settings) -> bool:
    """Whether the generator's engine reads the memories too: the same model, and no arguments for another one."""
    memory, generator = settings.memory, settings.generator
    return (
        generator.backend == memory.engine == "vllm"
        and bool(memory.model)
        and memory.model == generator.model
        and memory.dtype in ("auto", generator.dtype)
        and not memory.engine_arguments
        and "kv_transfer_config" not in generator.engine
    )


def served_folder(settings: Settings, model: str) -> Path:
    """Find the folder that an engine reads a model from; a beacon checkpoint is made servable first, once.

    Raises:
        BackendError: the model is neither here nor to be had, or there is no room for what engines read.
        ConfigurationError: a beacon checkpoint has weights that cannot be made servable.
    """
    from lightrag.memory.beacon.serving import serving_checkpoint

    return serving_checkpoint(resolve_model(model), served_cache(settings))


def served_cache(settings: Settings) -> Path:
    """Where checkpoints are kept that were made servable."""
    return settings.home.expanduser().absolute() / "served"


def _connector(settings: Settings) -> dict[str, Any]:
    """The engine argument that lets an engine read the memories of this service's corpora, and nothing else."""
    return {
        "kv_transfer_config": {
            "kv_connector": "MemoryConnector",
            "kv_connector_module_path": "lightrag.memory.vllm_connector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": {
                "root": settings.storage_url,
                "store_options": dict(settings.storage.options),
                "cache_bytes": settings.service.residency_bytes,
            },
        }
    }


__all__ = ["open_generator", "open_memory_engine", "served_cache", "served_folder", "shares_engine"]
