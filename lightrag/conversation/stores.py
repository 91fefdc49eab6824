"""Where a configuration keeps things: history, vectors of entries, summaries and images, encoded memories."""

from __future__ import annotations

from pathlib import Path

from lightrag.conversation.configuration import MemoryConfiguration
from lightrag.conversation.devices import check_device
from lightrag.conversation.history import History
from lightrag.conversation.images.index import ImageIndex
from lightrag.conversation.images.pictures import PictureRules
from lightrag.conversation.kv_cache.cache import KVCache
from lightrag.conversation.options import QdrantConfigs
from lightrag.conversation.vectors import Origin, VectorStore
from lightrag.storage.objects import open_object_store

HOME = Path.home() / ".lightrag" / "conversations"
"""Where memories live when nothing else is said."""


def history_location(config: MemoryConfiguration) -> str:
    """File or URL of the history."""
    return config.history_db_path or str(_home(config) / "history.db")


def open_vectors(config: MemoryConfiguration, origin: Origin) -> VectorStore:
    """Open the store of entries, and that of summaries where the configuration gives them a place of their own."""
    main = _place(config)
    store = _open(main, origin)
    apart = _summary_place(config)
    if apart is None or _address(apart) == _address(main):
        return store
    from lightrag.conversation.vectors.divided import DividedVectorStore

    try:
        return DividedVectorStore(store, _open(apart, origin))
    except BaseException:
        store.close()
        raise


def open_images(config: MemoryConfiguration, history: History) -> ImageIndex | None:
    """Open the index of images, in a collection beside that of the entries."""
    if config.multimodal_embedder is None:
        return None
    from lightrag.conversation.images.clip import PictureEmbedder

    configs = config.multimodal_embedder.configs
    device = check_device(configs.device, "multimodal_embedder")
    embedder = PictureEmbedder(configs.model, device=device, max_pixels=configs.max_image_pixels)
    origin = Origin(history.ledger.store_id, embedder.fingerprint, embedder.dimension)
    place = _place(config)
    place = place.model_copy(update={"collection_name": f"{place.collection_name}-images"})
    return ImageIndex(history, embedder, _open(place, origin))


def picture_rules(config: MemoryConfiguration) -> PictureRules | None:
    """What images may be; ``None`` where they are not read."""
    if config.multimodal_embedder is None:
        return None
    configs = config.multimodal_embedder.configs
    return PictureRules(configs.max_image_bytes, configs.max_image_pixels, configs.local_paths)


def open_kv_cache(config: MemoryConfiguration) -> KVCache | None:
    """Open the place of encoded memories; the model is loaded at the first use."""
    if not config.kv_cache:
        return None
    manager = config.memory_manager
    local = not config.kv_cache_model
    device = manager.configs.device if local else config.kv_cache_device
    place = config.kv_cache_path or str(_home(config) / "kv_cache")
    url = place if "://" in place else Path(place).expanduser().absolute().as_uri()
    return KVCache(
        open_object_store(url),
        manager.configs.model if local else config.kv_cache_model,
        device=check_device(device, "memory_manager" if local else "kv_cache_device"),
        max_tokens=config.kv_cache_tokens,
    )


def _home(config: MemoryConfiguration) -> Path:
    path = config.embedding_retriever.configs.path
    return Path(path).expanduser().absolute() if path else HOME


def _place(config: MemoryConfiguration) -> QdrantConfigs:
    configs = config.embedding_retriever.configs
    server = configs.url is not None or configs.host is not None
    return configs if server else configs.model_copy(update={"path": str(_home(config))})


def _summary_place(config: MemoryConfiguration) -> QdrantConfigs | None:
    """What the summary retriever says; what it does not say is as for the entries."""
    if config.summary_retriever is None:
        return None
    main, given = _place(config), config.summary_retriever.configs
    name = given.collection_name if "collection_name" in given.model_fields_set else main.collection_name
    if given.url is not None or given.host is not None:
        return given.model_copy(update={"collection_name": name})
    if given.path is None:
        return main.model_copy(update={"collection_name": name})
    path = str(Path(given.path).expanduser().absolute())
    return given.model_copy(update={"collection_name": name, "path": path})


def _address(place: QdrantConfigs) -> tuple[object, ...]:
    return place.path, place.url, place.host, place.port, place.collection_name


def _open(place: QdrantConfigs, origin: Origin) -> VectorStore:
    if place.path is not None:
        from lightrag.conversation.vectors.edge import EdgeVectorStore

        return EdgeVectorStore.open(Path(place.path) / place.collection_name, origin)
    from lightrag.conversation.vectors.server import ServerVectorStore

    key = place.api_key.get_secret_value() if place.api_key else None
    if place.url is not None:
        return ServerVectorStore.connect(place.collection_name, origin, url=place.url, api_key=key)
    return ServerVectorStore.connect(place.collection_name, origin, host=place.host, port=place.port, api_key=key)


__all__ = ["HOME", "history_location", "open_images", "open_kv_cache", "open_vectors", "picture_rules"]
