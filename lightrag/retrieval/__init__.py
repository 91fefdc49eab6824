"""Finding evidence: dense and lexical search, fusion, spread along links, reranking.

Importing this package loads no heavy library; names below are loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightrag.retrieval.base import RetrievalRequest, RetrievalResult, Retriever
    from lightrag.retrieval.filters import parse_filter
    from lightrag.retrieval.graph import Link
    from lightrag.retrieval.index import CorpusIndex, build_index, search_text
    from lightrag.retrieval.retriever import IndexRetriever
    from lightrag.retrieval.spread import FlowRule, SpreadWeights

_HOMES = {
    "CorpusIndex": "index",
    "FlowRule": "spread",
    "IndexRetriever": "retriever",
    "Link": "graph",
    "RetrievalRequest": "base",
    "RetrievalResult": "base",
    "Retriever": "base",
    "SpreadWeights": "spread",
    "build_index": "index",
    "parse_filter": "filters",
    "search_text": "index",
}

__all__ = [
    "CorpusIndex",
    "FlowRule",
    "IndexRetriever",
    "Link",
    "RetrievalRequest",
    "RetrievalResult",
    "Retriever",
    "SpreadWeights",
    "build_index",
    "parse_filter",
    "search_text",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lightrag.retrieval' has no attribute {name!r}")
    return getattr(import_module(f"lightrag.retrieval.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
