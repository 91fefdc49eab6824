"""Long-term memory of conversations: many users, nothing lost, nothing twice.

``LightMemory.from_config(config)`` opens one; names are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightrag.conversation.lightmemory import LightMemory
    from lightrag.conversation.memory import ConversationMemory
    from lightrag.conversation.types import (
        AddReport,
        MemoryAnswer,
        MemoryEntry,
        Message,
        Scope,
        SearchResult,
        UpdateReport,
    )

_HOMES = {
    "AddReport": "types",
    "ConversationMemory": "memory",
    "LightMemory": "lightmemory",
    "MemoryAnswer": "types",
    "MemoryEntry": "types",
    "Message": "types",
    "Scope": "types",
    "SearchResult": "types",
    "UpdateReport": "types",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "AddReport",
    "ConversationMemory",
    "LightMemory",
    "MemoryAnswer",
    "MemoryEntry",
    "Message",
    "Scope",
    "SearchResult",
    "UpdateReport",
]
