"""Passages as latents (soft tokens) at any ratio: FlexRAG and TacZip.

:func:`open_compressor` makes the compressor that settings describe. Everything is loaded on first access, so that
importing this package loads no model library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightrag.latents.choice import open_compressor
    from lightrag.latents.compressor import LatentCompressor, LatentOptions
    from lightrag.latents.encoder import LatentEncoder
    from lightrag.latents.estimator import TokenEstimator
    from lightrag.latents.layout import parse_layout
    from lightrag.latents.passages import PassageEncoder
    from lightrag.latents.resident import ResidentLatents
    from lightrag.latents.store import LatentStore, PartWriter, write_header
    from lightrag.latents.systems import FlexRAG, LatentAnswer, SystemOptions, TacZip

_HOMES = {
    "FlexRAG": "systems",
    "LatentAnswer": "systems",
    "LatentCompressor": "compressor",
    "LatentEncoder": "encoder",
    "LatentOptions": "compressor",
    "LatentStore": "store",
    "PartWriter": "store",
    "PassageEncoder": "passages",
    "ResidentLatents": "resident",
    "SystemOptions": "systems",
    "TacZip": "systems",
    "TokenEstimator": "estimator",
    "open_compressor": "choice",
    "parse_layout": "layout",
    "write_header": "store",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


__all__ = [
    "FlexRAG",
    "LatentAnswer",
    "LatentCompressor",
    "LatentEncoder",
    "LatentOptions",
    "LatentStore",
    "PartWriter",
    "PassageEncoder",
    "ResidentLatents",
    "SystemOptions",
    "TacZip",
    "TokenEstimator",
    "open_compressor",
    "parse_layout",
    "write_header",
]
