"""Give language models a memory: global memories of corpora, conversation memory, compression.

Importing this package loads no heavy library; names below are loaded on first use.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightrag.client import AsyncClient, Client
    from lightrag.compat.agent import Agent
    from lightrag.compat.memorag import MemoRAG, MemoRAGLite
    from lightrag.compat.memory import Memory
    from lightrag.compat.model import Model
    from lightrag.config import Settings, load_settings
    from lightrag.conversation.lightmemory import LightMemory
    from lightrag.engine import Engine
    from lightrag.errors import LightRAGError
    from lightrag.latents.systems import FlexRAG, TacZip

if os.path.exists(os.path.join(os.path.dirname(__file__), "operate.py")):
    # The unrelated distribution lightrag-hku installs into the same folder; half of each would be imported.
    raise ImportError(
        "the package 'lightrag-hku' is installed over this one: both are imported as 'lightrag'. "
        "Run `pip uninstall lightrag-hku lightrag-ray`, then `pip install lightrag-ray`, or use separate environments"
    )

__version__ = "0.1.0"

_HOMES = {
    "Agent": "lightrag.compat.agent",
    "AsyncClient": "lightrag.client",
    "Client": "lightrag.client",
    "Engine": "lightrag.engine",
    "FlexRAG": "lightrag.latents.systems",
    "LightMemory": "lightrag.conversation.lightmemory",
    "MemoRAG": "lightrag.compat.memorag",
    "MemoRAGLite": "lightrag.compat.memorag",
    "Memory": "lightrag.compat.memory",
    "Model": "lightrag.compat.model",
    "Settings": "lightrag.config",
    "TacZip": "lightrag.latents.systems",
    "load_settings": "lightrag.config",
    "LightRAGError": "lightrag.errors",
}

__all__ = [
    "Agent",
    "AsyncClient",
    "Client",
    "Engine",
    "FlexRAG",
    "LightMemory",
    "LightRAGError",
    "MemoRAG",
    "MemoRAGLite",
    "Memory",
    "Model",
    "Settings",
    "TacZip",
    "__version__",
    "load_settings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lightrag' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
