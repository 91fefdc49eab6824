"""Global memory of whole corpora: gists, KV memories, recall.

Importing this package loads no heavy library; each name is imported at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightrag.memory.artifact.loading import load_memory
    from lightrag.memory.artifact.places import FolderPlace, StorePlace
    from lightrag.memory.artifact.saving import save_memory
    from lightrag.memory.base import Recaller, RecallRequest, Recollection
    from lightrag.memory.beacon.model import BeaconModel
    from lightrag.memory.beacon.published import import_published_memory
    from lightrag.memory.beacon.serving import export_serving_checkpoint
    from lightrag.memory.composing import DocumentMemory, compose, extract, replace_documents
    from lightrag.memory.engine_memory import StoredMemory
    from lightrag.memory.full_context import FullContextModel
    from lightrag.memory.identity import identify_model
    from lightrag.memory.kv_memory import KVMemory, ModelIdentity
    from lightrag.memory.kv_recall import KVRecaller, LanguageModelReader, LocalReader
    from lightrag.memory.memory_model import MemoryModel, load_memory_model
    from lightrag.memory.text_memory import TextMemory

_HOMES = {
    "BeaconModel": "beacon.model",
    "DocumentMemory": "composing",
    "FolderPlace": "artifact.places",
    "FullContextModel": "full_context",
    "KVMemory": "kv_memory",
    "KVRecaller": "kv_recall",
    "LanguageModelReader": "kv_recall",
    "LocalReader": "kv_recall",
    "MemoryModel": "memory_model",
    "ModelIdentity": "kv_memory",
    "RecallRequest": "base",
    "Recaller": "base",
    "Recollection": "base",
    "StorePlace": "artifact.places",
    "StoredMemory": "engine_memory",
    "TextMemory": "text_memory",
    "compose": "composing",
    "export_serving_checkpoint": "beacon.serving",
    "extract": "composing",
    "identify_model": "identity",
    "import_published_memory": "beacon.published",
    "load_memory": "artifact.loading",
    "load_memory_model": "memory_model",
    "replace_documents": "composing",
    "save_memory": "artifact.saving",
}

__all__ = [
    "BeaconModel",
    "DocumentMemory",
    "FolderPlace",
    "FullContextModel",
    "KVMemory",
    "KVRecaller",
    "LanguageModelReader",
    "LocalReader",
    "MemoryModel",
    "ModelIdentity",
    "RecallRequest",
    "Recaller",
    "Recollection",
    "StorePlace",
    "StoredMemory",
    "TextMemory",
    "compose",
    "export_serving_checkpoint",
    "extract",
    "identify_model",
    "import_published_memory",
    "load_memory",
    "load_memory_model",
    "replace_documents",
    "save_memory",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lightrag.memory' has no attribute {name!r}")
    return getattr(import_module(f"lightrag.memory.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
