"""How much each sentence says about a question, and how central it is, from word statistics alone.

The statistics are those of the texts given: no index and no model. Shared by text and latent compression.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from lightrag.documents import detect_language, split_sentences
from lightrag.retrieval.analysis import Analyzer
from lightrag.types import Span

_K1, _B = 1.2, 0.75  # BM25's usual constants.
_LEAD_SENTENCES = 4.0  # How fast the worth of standing early in a text falls off.


@dataclass(frozen=True, slots=True)
class RatedSentence:
    """One sentence of a text."""

    span: Span
    relevance: float
    """To the question, 0 to 1; the best sentence of all texts has 1. All 0 where nothing matches."""
    centrality: float
    """Share of the informative words that it carries per word, and how early it stands, 0 to 1."""


def rate_sentences(texts: Sequence[str], query: str = "") -> list[list[RatedSentence]]:
    """Rate the sentences of all texts against a question and each other.

    Relevance is BM25 with sentences as documents. Centrality is the mean inverse frequency-weighted count of a
    sentence's terms, times a bonus that falls with its position.
    """
    spans = [split_sentences(text) for text in texts]
    languages = [detect_language(text[:2000]).code for text in texts]
    analyzer = Analyzer(languages or ("en",))
    terms = [
        [analyzer.passage_terms(text[span.start : span.end], language) for span in row]
        for text, row, language in zip(texts, spans, languages, strict=True)
    ]
    flat = [bag for row in terms for bag in row]
    if not flat:
        return [[] for _ in texts]
    idf = _idf(flat)
    relevance = _scaled(_bm25(flat, analyzer.query_terms(query), idf))
    positions = [index for row in terms for index in range(len(row))]
    centrality = _scaled(_centrality(flat, positions, idf))
    rated = iter(zip(relevance, centrality, strict=True))
    return [[RatedSentence(span, *next(rated)) for span in row] for row in spans]


def _idf(bags: Sequence[Sequence[str]]) -> dict[str, float]:
    containing = Counter(term for bag in bags for term in set(bag))
    return {term: log(1 + (len(bags) - count + 0.5) / (count + 0.5)) for term, count in containing.items()}


def _bm25(bags: Sequence[Sequence[str]], query: Sequence[str], idf: dict[str, float]) -> list[float]:
    wanted = set(query) & idf.keys()
    mean = sum(map(len, bags)) / len(bags) or 1.0
    scores = []
    for bag in bags:
        counts = Counter(term for term in bag if term in wanted)
        norm = _K1 * (1 - _B + _B * len(bag) / mean)
        scores.append(sum(idf[term] * count * (_K1 + 1) / (count + norm) for term, count in counts.items()))
    return scores


def _centrality(bags: Sequence[Sequence[str]], positions: Sequence[int], idf: dict[str, float]) -> list[float]:
    frequency = Counter(term for bag in bags for term in bag)
    worth = {term: log(1 + count) * idf[term] for term, count in frequency.items()}
    scores = []
    for bag, position in zip(bags, positions, strict=True):
        # The constant keeps a sentence of one rare word from beating everything.
        content = sum(worth[term] for term in set(bag)) / (len(bag) + 4)
        scores.append(content * (1 + exp(-position / _LEAD_SENTENCES)))
    return scores


def _scaled(values: list[float]) -> list[float]:
    top = max(values, default=0.0)
    return [value / top for value in values] if top > 0 else [0.0] * len(values)


__all__ = ["RatedSentence", "rate_sentences"]
