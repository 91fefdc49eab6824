"""The values of text compression: scored units of a text, and what is left of it.

Knows no method; methods are scorers, in the modules beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lightrag.types import Span, Tokenizer


@dataclass(frozen=True, slots=True)
class Unit:
    """A word or a sentence of a text, with what it is worth and what it costs."""

    start: int
    """First character; ``text[start:end]`` has no white space at its ends."""
    end: int
    score: float
    """Higher is worth more; comparable within one call of a scorer."""
    tokens: int
    """What keeping it costs, in the scorer's own tokens."""
    window: int = 0
    """Which pass of the scorer's model it was read in; thresholds are per window."""


@dataclass(frozen=True, slots=True)
class CompressedText:
    """What is left of one text."""

    text: str
    kept: tuple[Span, ...]
    """Character ranges of the source that are kept, in order; neighbouring units are separate ranges."""
    tokens: int
    """Of ``text``, in the tokens that the limit was given in."""
    source_tokens: int

    @property
    def rate(self) -> float:
        """Share of the tokens that is left; 1 for an empty source."""
        return self.tokens / self.source_tokens if self.source_tokens else 1.0


class Scorer(Protocol):
    """Says what each unit of a text is worth."""

    @property
    def name(self) -> str:
        """As shown in results, for example ``llmlingua2``."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """In whose tokens units are measured."""
        ...

    def score(self, texts: Sequence[str], query: str = "") -> list[list[Unit]]:
        """Score the units of every text, in text order, together covering every character that is not white space.

        Runs on the calling thread and may take long; event loops call it through a thread.

        Args:
            texts: may be empty strings, which have no units.
            query: what the text is read for; scorers that are not query-aware ignore it.
        """
        ...


__all__ = ["CompressedText", "Scorer", "Unit"]
