"""The retrieval stage as callers use it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Literal

import pytest

from lightrag.config import RetrievalSettings
from lightrag.errors import ArtifactError, UsageError
from lightrag.models import HashingEmbedder
from lightrag.models.base import FloatMatrix
from lightrag.retrieval import IndexRetriever, RetrievalRequest, RetrievalResult
from lightrag.retrieval.index import CorpusIndex
from lightrag.types import Clue
from tests.lightrag.retrieval.corpora import VERSION, chunk, index_of, lakes, leasing

QUESTION = "Who built the lighthouse of the harbour town?"


class CountingEmbedder(HashingEmbedder):
    """Counts how often it is called, and speaks English only."""

    languages = frozenset({"en"})

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        self.calls.append(list(texts))
        return await super().embed(texts, kind)


@pytest.fixture(scope="module")
def index() -> CorpusIndex:
    return index_of(lakes(), CountingEmbedder())


async def ask(index: CorpusIndex, question: str = QUESTION, **options: Any) -> RetrievalResult:
    retriever = IndexRetriever(CountingEmbedder(), leasing(index))
    return await retriever.retrieve(RetrievalRequest(VERSION, question, **options))


async def test_evidence_comes_best_first_with_its_reasons(index: CorpusIndex) -> None:
    result = await ask(index)
    best = result.evidence[0]
    assert best.chunk.title == "Port Brannoch"
    assert {found.index for found in best.found_by} >= {"dense", "lexical"}
    assert all(found.query == QUESTION for found in best.found_by)
    scores = [piece.score for piece in result.evidence]
    assert scores == sorted(scores, reverse=True)
    assert set(result.seconds) == {"embed", "search", "select"}


async def test_a_passage_that_owes_its_place_to_a_link_says_so(index: CorpusIndex) -> None:
    result = await ask(index, "What is the only outflow of Lake Orra in the north near Tolvik?")
    follower = result.evidence[1]
    assert follower.chunk.title == "Selm"
    assert [(step.from_id, step.kind, step.label) for step in follower.via] == [("c0", "mention", "Selm")]
    assert "spread" in {found.index for found in follower.found_by}
    assert result.evidence[0].via == ()


async def test_question_and_clues_are_embedded_in_one_batch(index: CorpusIndex) -> None:
    embedder = CountingEmbedder()
    clues = (Clue("engineers of the north", "surrogate"), Clue("c4", chunk_ids=("c4",)), Clue("  "))
    retriever = IndexRetriever(embedder, leasing(index))
    result = await retriever.retrieve(RetrievalRequest(VERSION, QUESTION, clues=clues))
    assert embedder.calls == [[QUESTION, "engineers of the north"]]
    bread = next(piece for piece in result.evidence if piece.chunk.chunk_id == "c4")
    assert "clue" in {found.index for found in bread.found_by}
    assert any(found.query == "engineers of the north" for piece in result.evidence for found in piece.found_by)


async def test_the_question_keeps_most_of_the_say_over_many_clues(index: CorpusIndex) -> None:
    clues = tuple(Clue(f"bread flour sourdough {number}", "surrogate") for number in range(30))
    result = await ask(index, clues=clues)
    assert result.evidence[0].chunk.title == "Port Brannoch"
    assert "only the best 16 of 30 clues were searched for" in result.notes


async def test_limits_of_the_request_come_before_those_of_the_settings(index: CorpusIndex) -> None:
    retriever = IndexRetriever(CountingEmbedder(), leasing(index), RetrievalSettings(top_k=2, order="corpus"))
    assert len((await retriever.retrieve(RetrievalRequest(VERSION, QUESTION))).evidence) == 2
    result = await retriever.retrieve(RetrievalRequest(VERSION, QUESTION, top_k=4, order="score"))
    assert len(result.evidence) == 4
    by_corpus = await retriever.retrieve(RetrievalRequest(VERSION, QUESTION, top_k=4))
    places = [index.rows[piece.chunk.chunk_id] for piece in by_corpus.evidence]
    assert places == sorted(places)


async def test_a_filter_is_applied_inside_the_search(index: CorpusIndex) -> None:
    result = await ask(index, filter={"year": {"gte": 2004}}, depth=1)
    assert {piece.chunk.title for piece in result.evidence} <= {"Bread", "Bicycles"}
    assert result.evidence


@pytest.mark.parametrize(
    ("question", "options", "said"),
    [
        ("", {}, "question is empty"),
        (" \n ", {}, "question is empty"),
        ("x", {"top_k": 0}, "top_k=0"),
        ("x", {"depth": -1}, "depth=-1"),
        ("x", {"token_budget": 0}, "token_budget=0"),
        ("x", {"filter": {"year": {"greater": 1}}}, "unknown filter operator"),
        ("x", {"filter": {"nothing": 1}}, "no passage has a field"),
    ],
)
async def test_misuse_is_refused_with_the_reason(
    index: CorpusIndex, question: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        await ask(index, question, **options)


async def test_an_empty_corpus_gives_no_evidence_and_says_so() -> None:
    result = await ask(index_of([], CountingEmbedder()))
    assert result.evidence == ()
    assert any("has no passages" in note for note in result.notes)


async def test_a_filter_that_nothing_passes_is_said(index: CorpusIndex) -> None:
    result = await ask(index, filter={"year": {"gt": 3000}})
    assert result.evidence == ()
    assert "no passage passes the filter" in result.notes


async def test_a_question_of_100000_characters_is_searched_by_its_ends_and_says_so(index: CorpusIndex) -> None:
    long = ("padding " * 12_500)[: 100_000 - len(QUESTION)] + QUESTION
    result = await ask(index, long)
    assert result.evidence[0].chunk.title == "Port Brannoch"
    assert any("100,000 characters" in note and "92,000 in the middle were not" in note for note in result.notes)


async def test_a_language_that_the_embedder_does_not_speak_is_said() -> None:
    chunks = [chunk("a", "大学图书馆每天早上八点开放", language="zh"), chunk("b", "The library opens at eight.")]
    result = await ask(index_of(chunks, CountingEmbedder()), "大学图书馆什么时候开放？")
    assert result.evidence[0].chunk.chunk_id == "a"
    assert any("seems to be in 'zh'" in note for note in result.notes)
    assert any("does not speak zh" in note for note in result.notes)


async def test_an_index_of_another_embedder_is_refused_except_for_words(index: CorpusIndex) -> None:
    retriever = IndexRetriever(HashingEmbedder(64), leasing(index))
    with pytest.raises(ArtifactError, match="ingest again"):
        await retriever.retrieve(RetrievalRequest(VERSION, QUESTION))
    result = await retriever.retrieve(RetrievalRequest(VERSION, QUESTION, mode="lexical"))
    assert result.evidence


class LongestFirst:
    """A reranker that likes long passages."""

    name = "longest"

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(text)) for text in texts]

    async def close(self) -> None:
        """Free nothing."""


async def test_a_reranker_orders_the_candidates(index: CorpusIndex) -> None:
    retriever = IndexRetriever(CountingEmbedder(), leasing(index), reranker=LongestFirst())
    result = await retriever.retrieve(RetrievalRequest(VERSION, QUESTION))
    sizes = [len(piece.chunk.text) + len(piece.chunk.title) for piece in result.evidence]
    assert sizes == sorted(sizes, reverse=True)
    assert "rerank" in result.seconds


async def test_passages_behind_those_that_were_reranked_keep_their_order() -> None:
    index = index_of([chunk(f"c{n:03}", f"boat {n} " + "sail " * (n % 7)) for n in range(120)])
    retriever = IndexRetriever(HashingEmbedder(), leasing(index), reranker=LongestFirst())
    request = RetrievalRequest(VERSION, "boat sail", top_k=20, token_budget=10_000)
    scores = [piece.score for piece in (await retriever.retrieve(request)).evidence]
    assert scores == sorted(scores, reverse=True)


async def test_searching_leaves_the_event_loop_free() -> None:
    index = index_of([chunk(str(n), f"passage {n} about boats and sails {n % 13}") for n in range(3000)])
    retriever = IndexRetriever(HashingEmbedder(), leasing(index))
    waits: list[float] = []

    async def beat() -> None:
        while True:
            started = time.perf_counter()
            await asyncio.sleep(0.001)
            waits.append(time.perf_counter() - started)

    heart = asyncio.create_task(beat())
    request = RetrievalRequest(VERSION, "boats " * 1500, token_budget=50_000, top_k=1000)
    await asyncio.gather(*(retriever.retrieve(request) for _ in range(4)))
    heart.cancel()
    assert len(waits) > 3
