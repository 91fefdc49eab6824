"""From the product's settings to a running engine of conversation memory, for the service, the jobs and the MCP server.

``LightMemory.from_config`` takes the published dictionary instead; here it is one of the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lightrag.config import Settings
from lightrag.conversation.assembly import open_engine
from lightrag.conversation.configuration import MemoryConfiguration, read_configuration
from lightrag.conversation.engine import Engine
from lightrag.errors import ConfigurationError
from lightrag.memory.engine_model import open_generator
from lightrag.models import open_embedder
from lightrag.models.base import LanguageModel

_RETRIEVER = "embedding_retriever"


def memory_configuration(settings: Settings) -> MemoryConfiguration:
    """What ``settings.conversation`` describes, with places filled in where the options name none.

    Raises:
        ConfigurationError: options are unknown or impossible, the file cannot be read, or a place is named twice.
    """
    ours = settings.conversation
    options = {**_read(ours.options_file), **ours.options}
    if _RETRIEVER in options and ours.vectors_url:
        raise ConfigurationError(
            "conversation.vectors_url and the option embedding_retriever both name a vector store: leave one out",
            subject="conversation.vectors_url",
        )
    if "history_db_path" in options and ours.history_url.get_secret_value():
        raise ConfigurationError(
            "conversation.history_url and the option history_db_path both name a history: leave one out",
            subject="conversation.history_url",
        )
    home = settings.home.expanduser().absolute() / "conversations"
    options.setdefault(_RETRIEVER, {"model_name": "qdrant", "configs": _store(settings, home)})
    if not options.get("history_db_path"):
        path = _path_of(options) or str(home)
        options["history_db_path"] = ours.history_url.get_secret_value() or str(Path(path) / "history.db")
    config = read_configuration(options)
    if ours.replicas > 1 and embedded_vectors(config):
        raise ConfigurationError(
            f"conversation.replicas is {ours.replicas}, but the engine in process serves one: set "
            "conversation.vectors_url to a Qdrant server, or conversation.replicas to 1",
            subject="conversation.replicas",
        )
    return config


def open_conversations(
    settings: Settings, *, scratch: Path | None = None, language_model: LanguageModel | None = None
) -> Engine:
    """Open the engine that the settings describe.

    Args:
        settings: all of them; embedder and language model are the service's own unless the options name others.
        scratch: folder for vectors that only this engine needs, instead of the configured store.
        language_model: in the place of the service's own, for example where another process holds that.

    Raises:
        ConfigurationError: as :func:`memory_configuration`, or another process holds the vectors.
        BackendError: the database or the vector server does not answer.
    """
    config = memory_configuration(settings)
    if scratch is not None:
        own = config.embedding_retriever.configs.model_copy(update={"path": str(scratch), "url": None, "host": None})
        config = config.model_copy(update={_RETRIEVER: config.embedding_retriever.model_copy(update={"configs": own})})
    given = config.model_fields_set
    return open_engine(
        config,
        embedder=None if "text_embedder" in given else open_embedder(settings.embedder),
        language_model=None if "memory_manager" in given else language_model or open_generator(settings),
        adopt=True,
    )


def embedded_vectors(config: MemoryConfiguration) -> bool:
    """Whether vectors are in a folder, which one process holds at a time, and not on a server."""
    configs = config.embedding_retriever.configs
    return configs.url is None and configs.host is None


def _store(settings: Settings, home: Path) -> dict[str, Any]:
    ours = settings.conversation
    if not ours.vectors_url:
        return {"path": str(home), "collection_name": ours.collection}
    key = ours.vectors_api_key.get_secret_value() if ours.vectors_api_key else None
    return {"url": ours.vectors_url, "api_key": key, "collection_name": ours.collection}


def _path_of(options: Mapping[str, Any]) -> str | None:
    retriever = options[_RETRIEVER]
    configs = retriever.get("configs") if isinstance(retriever, Mapping) else None
    path = configs.get("path") if isinstance(configs, Mapping) else None
    return str(Path(path).expanduser().absolute()) if isinstance(path, str) and path else None


def _read(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        # YAML reads JSON too.
        content = yaml.safe_load(file.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"options file {str(file)!r} cannot be read: {error}", subject=str(file)) from error
    except yaml.YAMLError as error:
        # The parser's own message would quote the file, which may hold keys.
        raise ConfigurationError(f"options file {str(file)!r} is neither JSON nor YAML", subject=str(file)) from error
    if not isinstance(content, dict):
        raise ConfigurationError(f"options file {str(file)!r} must hold a mapping of options", subject=str(file))
    return content


__all__ = ["embedded_vectors", "memory_configuration", "open_conversations"]
