"""The retrieval stage: from a request to evidence, over whatever index provider and embedder it is given.

It does not know where indexes are stored or which models run. Searching happens off the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import KW_ONLY, dataclass, field
from typing import TypeVar

from lightrag.config import RetrievalSettings
from lightrag.errors import ArtifactError, UsageError
from lightrag.models.base import Embedder, FloatMatrix
from lightrag.models.registry import open_reranker
from lightrag.retrieval.base import RetrievalRequest, RetrievalResult
from lightrag.retrieval.filters import FilterNode, parse_filter
from lightrag.retrieval.index import CorpusIndex
from lightrag.retrieval.matching import Query
from lightrag.retrieval.questions import WeightedText, bounded_question, clue_queries, clue_seeds, unspoken_language
from lightrag.retrieval.rerank import Ordered, Reranker, as_ranked, reranked
from lightrag.retrieval.search import Ranking, SearchOptions, search
from lightrag.retrieval.selection import select
from lightrag.retrieval.spread import SpreadWeights
from lightrag.types import CorpusVersion, Evidence

T = TypeVar("T")

Indexes = Callable[[CorpusVersion], AbstractAsyncContextManager[CorpusIndex]]
"""Leases the index of a corpus version: it stays loaded while the context is open."""


class IndexRetriever:
    """Finds evidence in corpus indexes. Safe for any number of concurrent questions.

    Args:
        embedder: the one that made the vectors of the indexes.
        indexes: leases the index of a corpus version.
        settings: defaults for what a request leaves open.
        reranker: reads the best candidates again; by default the one that the settings name, or none.
        weights: how scores flow along links.

    Example::

        retriever = IndexRetriever(embedder, corpora.index)
        result = await retriever.retrieve(RetrievalRequest(corpus.at(3), "Who signed the lease?"))
    """

    def __init__(
        self,
        embedder: Embedder,
        indexes: Indexes,
        settings: RetrievalSettings | None = None,
        *,
        reranker: Reranker | None = None,
        weights: SpreadWeights | None = None,
    ) -> None:
        self._embedder = embedder
        self._indexes = indexes
        self._settings = settings or RetrievalSettings()
        self._weights = weights or SpreadWeights()
        self._reranker = reranker or open_reranker(self._settings.reranker)

    async def retrieve(self, request: RetrievalRequest) -> RetrievalResult:
        """Search one corpus version; see :class:`~lightrag.retrieval.base.Retriever`.

        Raises:
            NotFoundError: the version does not exist.
            UsageError: the question is empty, a limit is not positive, or the filter is not valid.
            ArtifactError: the index was made by another embedder.
            BackendError: the embedder or the reranker failed.
        """
        run = _Run(request, self._limits(request))
        question, cut = bounded_question(request.question)
        queries, dropped = clue_queries(request.clues)
        run.notes += [note for note in (cut, dropped) if note]
        texts = [WeightedText(question, 1.0), *queries]
        # A filter that makes no sense is refused before anything is loaded.
        condition = None if request.filter is None else parse_filter(request.filter)
        async with self._indexes(request.corpus) as index:
            self._check(index, request)
            vectors = await run.timed("embed", self._embed(texts, request))
            job = asyncio.to_thread(self._search, run, index, texts, vectors, condition)
            ranking = await run.timed("search", job)
            ordered = as_ranked(ranking)
            if self._reranker is not None:
                work = reranked(self._reranker, question, ranking, run.limits.top_k)
                ordered = await run.timed("rerank", work)
            return await run.timed("select", asyncio.to_thread(self._select, run, ranking, ordered))

    async def retrieve_many(self, requests: Sequence[RetrievalRequest]) -> tuple[RetrievalResult, ...]:
        """Search for several things at once. Raises as :meth:`retrieve` where one of the searches does."""
        return tuple(await asyncio.gather(*(self.retrieve(request) for request in requests)))

    def _limits(self, request: RetrievalRequest) -> _Limits:
        given = {"top_k": request.top_k, "depth": request.depth, "token_budget": request.token_budget}
        for name, value in given.items():
            if value is not None and value < 1:
                raise UsageError(f"{name}={value} must be at least 1", subject=name)
        values = {name: getattr(self._settings, name) if value is None else value for name, value in given.items()}
        return _Limits(**values)

    def _check(self, index: CorpusIndex, request: RetrievalRequest) -> None:
        if request.mode != "lexical" and index.fingerprint.embedder != self._embedder.fingerprint:
            raise ArtifactError(
                f"{request.corpus} was indexed by embedder {index.fingerprint.embedder!r}, but questions are embedded "
                f"by {self._embedder.fingerprint!r}: configure that one, ingest again, or search in mode 'lexical'",
                subject=str(request.corpus),
            )

    async def _embed(self, texts: Sequence[WeightedText], request: RetrievalRequest) -> FloatMatrix | None:
        if request.mode == "lexical":
            return None
        return await self._embedder.embed([text.text for text in texts], "query")

    def _search(
        self,
        run: _Run,
        index: CorpusIndex,
        texts: Sequence[WeightedText],
        vectors: FloatMatrix | None,
        condition: FilterNode | None,
    ) -> Ranking:
        mask = None if condition is None else index.columns.evaluate(condition)
        if not len(index):
            run.notes.append(f"{run.request.corpus} has no passages")
        elif mask is not None and not mask.any():
            run.notes.append("no passage passes the filter")
        unspoken = "" if vectors is None else unspoken_language(texts[0].text, self._embedder)
        if unspoken:
            run.notes.append(
                f"the question seems to be in {unspoken!r}, which the embedder {self._embedder.name!r} does not speak: "
                "passages were found mainly by their words"
            )
        queries = [
            Query(text.text, None if vectors is None else vectors[place], text.weight, not unspoken)
            for place, text in enumerate(texts)
        ]
        flows = self._settings.spread if run.request.spread is None else run.request.spread
        options = SearchOptions(
            mode=run.request.mode,
            depth=run.limits.depth,
            mask=mask,
            spread=self._weights if flows else None,
            seeds=clue_seeds(run.request.clues, index.rows),
        )
        return search(index, queries, options)

    def _select(self, run: _Run, ranking: Ranking, ordered: Ordered) -> RetrievalResult:
        rows, scores = ordered
        chunks = ranking.index.chunks
        order = run.request.order or self._settings.order
        selection = select(
            [chunks[row] for row in rows],
            rows,
            top_k=run.limits.top_k,
            token_budget=run.limits.token_budget,
            order=order,
        )
        run.notes += selection.notes
        evidence = tuple(
            Evidence(chunks[rows[place]], scores[place], ranking.found_by(rows[place]), ranking.via(rows[place]))
            for place in selection.places
        )
        self._note_languages(run, ranking.index, [rows[place] for place in selection.places])
        return RetrievalResult(evidence, tuple(run.notes), run.seconds)

    def _note_languages(self, run: _Run, index: CorpusIndex, rows: list[int]) -> None:
        if run.request.mode == "lexical":
            return
        unspoken = sorted({index.chunks[row].language for row in rows if index.trust[row] < 1})
        if unspoken:
            run.notes.append(
                f"the embedder {self._embedder.name!r} does not speak {', '.join(unspoken)}: passages in it were found "
                "by their words"
            )


@dataclass(frozen=True, slots=True)
class _Limits:
    top_k: int
    depth: int
    token_budget: int


@dataclass(slots=True)
class _Run:
    """One request on its way."""

    request: RetrievalRequest
    limits: _Limits
    _: KW_ONLY
    notes: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    async def timed(self, stage: str, work: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            return await work
        finally:
            self.seconds[stage] = time.perf_counter() - started


__all__ = ["IndexRetriever", "Indexes"]
