"""The one interface of everything that makes evidence smaller: raw selection, compressed text, latents.

Knows nothing of any method; those live in ``lexical`` and ``latents``. A :class:`Compressor` is one of them; a
:class:`CompressionStage` is what a pipeline asks, and chooses among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Literal, Protocol

from lightrag.config import CompressionMethod
from lightrag.types import ContentPart, CorpusVersion, Evidence, Usage


@dataclass(frozen=True, slots=True)
class CompressionRequest:
    """Evidence that is to fit into a budget."""

    evidence: tuple[Evidence, ...]
    budget: int
    """Tokens of the generator."""
    query: str = ""
    _: KW_ONLY
    method: CompressionMethod | None = None
    """``None``: as configured."""
    corpus: CorpusVersion | None = None
    """Where the evidence comes from; its stored latents are used. ``None``: from nowhere that is stored."""


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one span of the evidence was given, and why."""

    chunk_id: str
    start: int
    """First source token of the span, within its chunk."""
    end: int
    kept: int
    """Tokens or latents that stand for the span."""
    reason: str
    latents: Literal["", "stored", "encoded"] = ""
    """Whether the latents that stand for the span were read from storage or made now; empty where none do."""

    @property
    def ratio(self) -> float:
        """Source tokens per kept token; infinity where nothing was kept."""
        return (self.end - self.start) / self.kept if self.kept else float("inf")


@dataclass(frozen=True, slots=True)
class CompressedContext:
    """Evidence as the generator will read it."""

    parts: tuple[ContentPart, ...]
    """Text and latents in reading order."""
    kind: Literal["raw", "text", "latents", "mixed"]
    tokens: int
    """Length in the generator's tokens, latents counted as one each."""
    source_tokens: int
    allocation: tuple[Allocation, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    """The pieces that are represented, in the order of ``parts``."""
    method: str = ""
    usage: Usage = Usage()
    notes: tuple[str, ...] = ()


SEPARATOR = "\n\n"
"""Stands between two passages of a compressed context."""


def label(number: int) -> str:
    """What stands before a passage, so that an answer can cite it; numbers count ``CompressedContext.evidence``."""
    return f"[{number}]\n"


class Compressor(Protocol):
    """Fits evidence into a budget."""

    async def compress(self, evidence: Sequence[Evidence], budget: int, query: str) -> CompressedContext:
        """Represent ``evidence`` in at most ``budget`` tokens of the generator.

        Raises:
            UsageError: the budget is not positive, or there is no evidence.
        """
        ...


class CompressionStage(Protocol):
    """Fits evidence into a budget by the method that a request names."""

    async def compress(self, request: CompressionRequest) -> CompressedContext:
        """Represent the evidence in at most the budget.

        Raises:
            UsageError: the budget is not positive, there is no evidence, or the method is not available here.
        """
        ...


__all__ = [
    "SEPARATOR",
    "Allocation",
    "CompressedContext",
    "CompressionRequest",
    "CompressionStage",
    "Compressor",
    "label",
]
