"""Compression that returns text: LLMLingua-2, entropy, and statistics that need no model.

``TextCompressor(scorer).compress(texts, rate=0.5)`` shortens texts; ``EvidenceTextCompressor`` fits evidence into a
budget. Scorers are loaded on first access, so that importing this package loads no model library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightrag.lexical.compressor import Forcing, TextCompressor
    from lightrag.lexical.evidence import EvidenceTextCompressor
    from lightrag.lexical.llmlingua2 import LLMLingua2
    from lightrag.lexical.statistics import StatisticalScorer
    from lightrag.lexical.surprisal import SurprisalScorer
    from lightrag.lexical.units import CompressedText, Scorer, Unit

_HOMES = {
    "CompressedText": "units",
    "EvidenceTextCompressor": "evidence",
    "Forcing": "compressor",
    "LLMLingua2": "llmlingua2",
    "Scorer": "units",
    "StatisticalScorer": "statistics",
    "SurprisalScorer": "surprisal",
    "TextCompressor": "compressor",
    "Unit": "units",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "CompressedText",
    "EvidenceTextCompressor",
    "Forcing",
    "LLMLingua2",
    "Scorer",
    "StatisticalScorer",
    "SurprisalScorer",
    "TextCompressor",
    "Unit",
]
