"""The embedded default: selects sentences, or words, by statistics. Needs no model, no download and no index."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from lightrag.lexical.relevance import RatedSentence, rate_sentences
from lightrag.lexical.units import Unit
from lightrag.models.tokenization import EstimatingTokenizer
from lightrag.types import Span, Tokenizer

_WORD = re.compile(r"\S+")
_LETTERS = re.compile(r"[^\W_]")


class StatisticalScorer:
    """Scores sentences by relevance to the question and centrality, words by that and by their length.

    Query-aware: with a question, relevance counts most and centrality breaks ties.

    Args:
        unit: what is kept or dropped as a whole.
        relevance_weight: share of relevance in the score where there is a question.
        tokenizer: measures units; an estimate by default.
    """

    name = "statistics"

    def __init__(
        self,
        unit: Literal["sentence", "word"] = "sentence",
        *,
        relevance_weight: float = 0.8,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self._unit = unit
        self._relevance_weight = relevance_weight
        self.tokenizer: Tokenizer = tokenizer or EstimatingTokenizer()

    def score(self, texts: Sequence[str], query: str = "") -> list[list[Unit]]:
        """Score the units of every text; see :class:`lightrag.lexical.units.Scorer`."""
        weight = self._relevance_weight if query.strip() else 0.0
        rows = []
        for text, sentences in zip(texts, rate_sentences(texts, query), strict=True):
            units: list[Unit] = []
            for sentence in sentences:
                units.extend(self._units(text, sentence, weight))
            rows.append(units)
        return rows

    def _units(self, text: str, sentence: RatedSentence, weight: float) -> list[Unit]:
        value = weight * sentence.relevance + (1 - weight) * sentence.centrality
        start, end = sentence.span
        if self._unit == "sentence":
            return [Unit(start, end, value, max(1, self.tokenizer.count(text[start:end])))]
        spans = [Span(*match.span()) for match in _WORD.finditer(text, start, end)]
        return [
            Unit(*span, (value + _word_worth(text[span.start : span.end])) / 2, max(1, self._count(text, span)))
            for span in spans
        ]

    def _count(self, text: str, span: Span) -> int:
        return self.tokenizer.count(text[span.start : span.end])


def _word_worth(word: str) -> float:
    """Long words, names and numbers carry more than short ones, 0 to 1."""
    letters = len(_LETTERS.findall(word))
    bonus = 4 if any(char.isdigit() or char.isupper() for char in word) else 0
    return min(1.0, (letters + bonus) / 12)


__all__ = ["StatisticalScorer"]
