"""Where the importance of a passage's parts comes from: spans of tokens with values, for selective compression.

Every source gives values that are comparable within one call. Sources know passages as text and tokens, and nothing of
budgets or states.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lightrag.documents import split_sentences
from lightrag.latents.allocation import FocusSpan
from lightrag.latents.passages import TokenizedPassage
from lightrag.lexical.relevance import rate_sentences
from lightrag.models.base import Embedder
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.types import Span

if TYPE_CHECKING:
    from lightrag.latents.estimator import TokenEstimator
    from lightrag.latents.resident import ResidentLatents
    from lightrag.lexical.surprisal import SurprisalScorer
    from lightrag.models import Reranker

Unit = Literal["sentence", "token"]


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage as importance sources see it."""

    chunk_id: str
    text: str
    tokenized: TokenizedPassage


class Importance(Protocol):
    """Says which parts of passages matter for a question."""

    @property
    def name(self) -> str:
        """As shown in allocations."""
        ...

    async def focus(self, query: str, passages: Sequence[Passage]) -> list[FocusSpan]:
        """Value parts of the passages; parts that are not mentioned have no value of their own."""
        ...


class LexicalImportance:
    """Sentences by the words they share with the question, weighted by rarity. No model."""

    name = "lexical overlap"

    async def focus(self, query: str, passages: Sequence[Passage]) -> list[FocusSpan]:
        """See :class:`Importance`."""
        rated = await asyncio.to_thread(rate_sentences, [passage.text for passage in passages], query)
        return [
            span
            for number, (passage, sentences) in enumerate(zip(passages, rated, strict=True))
            for sentence in sentences
            if sentence.relevance > 0
            for span in _span_of(number, passage, sentence.span, sentence.relevance)
        ]


class EmbeddingImportance:
    """Sentences by the cosine of their vector and the question's: FlexRAG's sentence-level choice."""

    name = "sentence embeddings"

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder

    async def focus(self, query: str, passages: Sequence[Passage]) -> list[FocusSpan]:
        """See :class:`Importance`."""
        places = _sentences(passages, self.embedder)
        if not places:
            return []
        vectors = await self.embedder.embed([passages[n].text[a:b] for n, (a, b) in places])
        question = (await self.embedder.embed([query], "query"))[0]
        return _valued(passages, places, vectors @ question)


class RerankerImportance:
    """Sentences by a cross-encoder that reads each together with the question."""

    name = "reranker"

    def __init__(self, reranker: Reranker) -> None:
        self._reranker = reranker

    async def focus(self, query: str, passages: Sequence[Passage]) -> list[FocusSpan]:
        """See :class:`Importance`."""
        places = _sentences(passages)
        values = await self._reranker.score(query, [passages[n].text[a:b] for n, (a, b) in places])
        return _valued(passages, places, np.array(values, dtype=np.float32))


class SurprisalImportance:
    """Tokens, or sentences by their mean, that a causal language model did not expect. Not query-aware."""

    name = "surprisal"

    def __init__(self, scorer: SurprisalScorer, unit: Unit = "token") -> None:
        self._scorer = scorer
        self._unit = unit

    async def focus(self, query: str, passages: Sequence[Passage]) -> list[FocusSpan]:
        """See :class:`Importance`."""
        values = await asyncio.to_thread(lambda: [self._values(passage) for passage in passages])
        return token_focus(passages, values, self._unit)

    def _values(self, passage: Passage) -> NDArray[np.float32]:
        spans, bits = self._scorer.token_surprisal(passage.text)
        ends = [span.end for span in spans]
        # The scorer may have another tokenizer: a token gets the value of the scorer's token that it starts in.
        places = [bisect_left(ends, span.start + 1) for span in passage.tokenized.spans]
        return np.array([bits[at] if at < len(bits) else 0.0 for at in places], dtype=np.float32)


class EstimatorImportance:
    """Tokens, or sentences by their best one, by TacZip's estimator.

    Args:
        estimator: makes vectors.
        tokenizer: the one that the passages are tokenised with.
        vectors: passage vectors computed offline; passages that are not there are encoded now.
        unit: what is chosen as a whole.
    """

    name = "token estimator"

    def __init__(
        self,
        estimator: TokenEstimator,
        tokenizer: HuggingFaceTokenizer,
        vectors: ResidentLatents | None = None,
        unit: Unit = "token",
    ) -> None:
        self._estimator = estimator
        self._tokenizer = tokenizer
        self._vectors = vectors
        self._unit = unit
        self._busy = asyncio.Lock()

    async def focus(self, query: str, passages: Sequence[Passage]) -> list[FocusSpan]:
        """See :class:`Importance`."""
        async with self._busy:
            values = await asyncio.to_thread(self._values, query, passages)
        return token_focus(passages, values, self._unit)

    def _values(self, query: str, passages: Sequence[Passage]) -> list[NDArray[np.float32]]:
        ids = self._tokenizer.ids_of([query])[0]
        question = self._estimator.query_vector(self._estimator.query_ids(ids))
        stored: list[int] = []
        fresh: list[int] = []
        for number, passage in enumerate(passages):
            known = self._vectors is not None and self._vectors.tokens(passage.chunk_id) is not None
            (stored if known else fresh).append(number)
        values: dict[int, NDArray[np.float32]] = {}
        if self._vectors is not None and stored:
            wanted = [(passages[n].chunk_id, np.arange(len(passages[n].tokenized.ids))) for n in stored]
            for number, table in zip(stored, self._vectors.states(wanted), strict=True):
                values[number] = self._estimator.scores(question, table)
        for number, table in zip(
            fresh, self._estimator.token_vectors([passages[n].tokenized.ids for n in fresh]), strict=True
        ):
            values[number] = self._estimator.scores(question, table)
        return [values[number] for number in range(len(passages))]


def token_focus(passages: Sequence[Passage], values: Sequence[NDArray[np.float32]], unit: Unit) -> list[FocusSpan]:
    """Spans of single tokens, or of sentences with the mean of their best quarter of tokens."""
    if unit == "token":
        return [
            FocusSpan(number, at, at + 1, float(value))
            for number, row in enumerate(values)
            for at, value in enumerate(row)
        ]
    spans = []
    for number, span in _sentences(passages):
        for place in _span_of(number, passages[number], span, 0.0):
            own = np.sort(values[number][place.start : place.end])[::-1]
            best = own[: max(1, len(own) // 4)]
            spans.append(FocusSpan(number, place.start, place.end, float(best.mean())))
    return spans


def _sentences(passages: Sequence[Passage], embedder: Embedder | None = None) -> list[tuple[int, Span]]:
    places = [(number, span) for number, passage in enumerate(passages) for span in split_sentences(passage.text)]
    if embedder is None:
        return places
    return [piece for place in places for piece in _readable(passages, place, embedder)]


def _readable(passages: Sequence[Passage], place: tuple[int, Span], embedder: Embedder) -> list[tuple[int, Span]]:
    """A sentence that is longer than the embedder reads, in pieces that are not."""
    number, (start, end) = place
    tokens = embedder.tokenizer.spans(passages[number].text[start:end])
    if len(tokens) <= embedder.max_tokens:
        return [place]
    size = embedder.max_tokens
    cuts = [start + tokens[at].start for at in range(0, len(tokens), size)] + [end]
    return [(number, Span(a, b)) for a, b in pairwise(cuts)]


def _valued(
    passages: Sequence[Passage], places: Sequence[tuple[int, Span]], values: NDArray[np.float32]
) -> list[FocusSpan]:
    return [
        span
        for (number, place), value in zip(places, values, strict=True)
        for span in _span_of(number, passages[number], place, float(value))
    ]


def _span_of(number: int, passage: Passage, span: Span, value: float) -> list[FocusSpan]:
    """The tokens that start inside a character range; none for a range without tokens."""
    starts = [token.start for token in passage.tokenized.spans]
    first, last = bisect_left(starts, span.start), bisect_left(starts, span.end)
    # A token may carry the space before its word and so start one character early.
    if 0 < first < len(starts) and passage.tokenized.spans[first - 1].end > span.start:
        first -= 1
    if last > first and last < len(starts) and passage.tokenized.spans[last - 1].end > span.end + 1:
        last -= 1
    return [FocusSpan(number, first, last, value)] if first < last else []


__all__ = [
    "EmbeddingImportance",
    "EstimatorImportance",
    "Importance",
    "LexicalImportance",
    "Passage",
    "RerankerImportance",
    "SurprisalImportance",
    "token_focus",
]
