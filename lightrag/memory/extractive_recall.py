"""Recall without a language model: follow the links from what answers the question to what the question does not name.

Every clue says through which link it was found, and carries the passage it was read from, so that retrieval can start
there. It shares search and flow with ``lightrag.retrieval`` and knows nothing of gists or KV memories.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from itertools import islice
from typing import Literal

from lightrag.config import RecallSettings
from lightrag.documents.sentences import split_sentences
from lightrag.errors import ArtifactError
from lightrag.memory.base import RecallRequest, Recollection
from lightrag.models.base import Embedder
from lightrag.retrieval.index import CorpusIndex, search_head
from lightrag.retrieval.matching import Query
from lightrag.retrieval.questions import CLUE_SHARE, bounded_question, unspoken_language
from lightrag.retrieval.retriever import Indexes
from lightrag.retrieval.search import Ranking, SearchOptions, search
from lightrag.retrieval.spread import Gain, SpreadWeights
from lightrag.types import Clue, LinkStep

LEAST_GAIN = 0.05
"""What a passage must gain over links, where the best match has 1, to be worth recalling."""
LOOKED_AT = 64
"""Best passages among which linked ones are looked for."""
_LOOK_UP = frozenset({"mention", "relation"})
"""Kinds of links whose label is a name that can be looked up."""


class LinkRecaller:
    """Recalls sentences from linked passages, and names to look up.

    Args:
        embedder: the one that made the vectors of the indexes.
        indexes: leases the index of a corpus version.
        settings: ``max_clues`` and ``max_surrogates`` apply.
        weights: how scores flow along links.
    """

    def __init__(
        self,
        embedder: Embedder,
        indexes: Indexes,
        settings: RecallSettings | None = None,
        *,
        weights: SpreadWeights | None = None,
    ) -> None:
        self._embedder = embedder
        self._indexes = indexes
        self._settings = settings or RecallSettings()
        self._weights = weights or SpreadWeights()

    async def recall(self, request: RecallRequest) -> Recollection:
        """Recall what is linked to the best matches; see :class:`~lightrag.memory.base.Recaller`.

        Raises:
            NotFoundError: the version does not exist.
            UsageError: the question is empty.
            ArtifactError: the index was made by another embedder.
        """
        question, cut = bounded_question(request.question)
        async with self._indexes(request.corpus) as index:
            if index.fingerprint.embedder != self._embedder.fingerprint:
                raise ArtifactError(
                    f"{request.corpus} was indexed by another embedder than {self._embedder.name!r}: ingest it again",
                    subject=str(request.corpus),
                )
            vector = (await self._embedder.embed([question], "query"))[0]
            query = Query(question, vector, spoken=not unspoken_language(question, self._embedder))
            clues = await asyncio.to_thread(self._follow, index, query, request.draft)
        return Recollection(tuple(clues), "extractive", notes=(cut,) if cut else ())

    def _follow(self, index: CorpusIndex, query: Query, draft: bool) -> list[Clue]:
        ranking = search(index, [query], SearchOptions(spread=self._weights))
        trail = _Trail(ranking)
        spans = islice(trail.spans(), self._settings.max_clues)
        names = islice(trail.names(), self._settings.max_surrogates)
        drafts = [Clue(trail.telling_sentence(int(ranking.rows[0])), "draft")] if draft and len(ranking.rows) else []
        return [*spans, *names, *drafts]


class _Trail:
    """What one question reached along links."""

    def __init__(self, ranking: Ranking) -> None:
        self._ranking = ranking
        self._lexical = ranking.index.lexical
        self._frequency = self._lexical.document_frequency()
        self._asked = set(self._lexical.query_terms(ranking.matches[0].query.text))
        gains = {row: gain for row in ranking.rows[:LOOKED_AT].tolist() if (gain := ranking.strongest_gain(row))}
        told = {row: gain.amount * float(ranking.index.telling[row]) for row, gain in gains.items()}
        rows = sorted((row for row in gains if told[row] >= LEAST_GAIN), key=lambda row: (-told[row], row))
        self._gains = [(row, gains[row]) for row in rows]

    def spans(self) -> Iterator[Clue]:
        """Telling sentences of linked passages, those that gained most first."""
        for row, gain in self._gains:
            yield self._clue(row, gain, self.telling_sentence(row), "span")

    def names(self) -> Iterator[Clue]:
        """Names that lead on from the best matches."""
        for row, gain in self._gains:
            name = self._ranking.index.chunks[row].title if gain.kind == "mention" else gain.label
            if gain.kind in _LOOK_UP and name:
                yield self._clue(row, gain, name, "surrogate")

    def telling_sentence(self, row: int) -> str:
        """The sentence of a passage that shares most information with the question; the first if none does.

        A sentence that only repeats where the passage stands is taken where there is no other.
        """
        chunk = self._ranking.index.chunks[row]
        head = search_head(chunk).casefold()
        spans = split_sentences(chunk.text)
        sentences = [" ".join(chunk.text[span.start : span.end].split()) for span in spans] or [chunk.text]
        telling = [sentence for sentence in sentences if sentence.casefold() not in head]
        return max(telling or sentences, key=self._shared_information)

    def _shared_information(self, sentence: str) -> float:
        shared = self._asked & set(self._lexical.query_terms(sentence))
        return sum(math.log(1 + self._lexical.passages / int(self._frequency[term])) for term in shared)

    def _clue(self, row: int, gain: Gain, text: str, kind: Literal["span", "surrogate"]) -> Clue:
        chunks = self._ranking.index.chunks
        step = LinkStep(chunks[gain.source].chunk_id, gain.kind, gain.weight, gain.label)
        # On the scale of retrieval, so that a recalled passage gets what the same link gives it there.
        score = min(gain.amount * float(self._ranking.index.telling[row]) / CLUE_SHARE, 1.0)
        return Clue(text, kind, score=score, chunk_ids=(chunks[row].chunk_id,), via=(step,))


__all__ = ["LEAST_GAIN", "LinkRecaller"]
