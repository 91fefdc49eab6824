"""Ranking over one index, without models."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from lightrag.models import HashingEmbedder
from lightrag.retrieval.index import CorpusIndex
from lightrag.retrieval.matching import Query
from lightrag.retrieval.search import Ranking, SearchOptions, search
from tests.lightrag.retrieval.corpora import chunk, index_of, lakes

EMBEDDER = HashingEmbedder()
QUESTION = "Which town lies where the outflow of Lake Orra reaches the sea?"


@pytest.fixture(scope="module")
def index() -> CorpusIndex:
    return index_of(lakes(), EMBEDDER)


def ask(index: CorpusIndex, *texts: str, options: SearchOptions | None = None) -> Ranking:
    vectors = asyncio.run(EMBEDDER.embed(texts, "query"))
    queries = [
        Query(text, vector, 1.0 if n == 0 else 0.5) for n, (text, vector) in enumerate(zip(texts, vectors, strict=True))
    ]
    return search(index, queries, options or SearchOptions())


def titles(ranking: Ranking) -> list[str]:
    return [ranking.index.chunks[row].title for row in ranking.rows.tolist()]


def test_what_the_best_match_names_comes_close_behind_it(index: CorpusIndex) -> None:
    question = "What is the only outflow of Lake Orra in the north near Tolvik?"
    direct = ask(index, question, options=SearchOptions(spread=None))
    linked = ask(index, question)
    assert titles(linked)[:2] == ["Lake Orra", "Selm"]
    assert linked.scores[1] - linked.own[1] > 0.1
    assert linked.rows[0] == direct.rows[0]
    (step,) = linked.via(1)
    assert (step.from_id, step.kind, step.label) == ("c0", "mention", "Selm")
    assert direct.via(1) == ()


def test_every_piece_says_which_query_found_it_where(index: CorpusIndex) -> None:
    ranking = ask(index, QUESTION, "sourdough bread")
    bread = index.rows["c4"]
    found = {(one.query, one.index): one.rank for one in ranking.found_by(bread)}
    assert found["sourdough bread", "lexical"] == 1
    assert found["sourdough bread", "dense"] == 1
    assert (QUESTION, "lexical") not in found


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_a_filter_holds_for_everything_that_is_found(index: CorpusIndex, mode: str) -> None:
    mask = np.array([False, True, False, True, True, True])
    ranking = ask(index, QUESTION, options=SearchOptions(mode=mode, mask=mask, seeds={0: 1.0, 5: 0.4}))  # type: ignore[arg-type]
    assert set(ranking.rows.tolist()) <= {1, 3, 4, 5}


def test_a_clue_brings_the_passage_it_was_read_from(index: CorpusIndex) -> None:
    ranking = ask(index, QUESTION, options=SearchOptions(seeds={5: 0.5}))
    assert ranking.scores[ranking.rows.tolist().index(5)] == pytest.approx(0.5, abs=0.1)
    assert [found.index for found in ranking.found_by(5)][-1] == "clue"


def test_a_clue_that_a_link_gives_too_is_not_counted_twice(index: CorpusIndex) -> None:
    plain = ask(index, QUESTION)
    gain = plain.strongest_gain(1)
    assert gain is not None
    again = ask(index, QUESTION, options=SearchOptions(seeds={1: gain.amount * float(index.telling[1])}))
    np.testing.assert_allclose(again.scores, plain.scores, atol=1e-6)


def test_more_depth_never_loses_the_best(index: CorpusIndex) -> None:
    tops = {ask(index, QUESTION, options=SearchOptions(depth=depth)).rows[0] for depth in (1, 2, 6, 100)}
    assert len(tops) == 1


def test_searching_is_the_same_every_time(index: CorpusIndex) -> None:
    first, second = ask(index, QUESTION), ask(index, QUESTION)
    assert first.rows.tolist() == second.rows.tolist()


def test_words_decide_where_the_embedder_does_not_speak_the_language() -> None:
    class EnglishOnly(HashingEmbedder):
        languages = frozenset({"en"})

    embedder = EnglishOnly()
    chunks = [
        chunk("a", "黑豹队的防守只丢了三百分", language="zh"),
        chunk("b", "大学图书馆每天开放", language="zh"),
        chunk("c", "今天天气很好适合散步", language="zh"),
    ]
    index = index_of(chunks, embedder)
    # A vector that points to the wrong passage changes nothing.
    misled = Query("图书馆什么时候开放", index.dense.vectors(np.array([2]))[0], spoken=False)
    assert search(index, [misled], SearchOptions()).rows[0] == 1
