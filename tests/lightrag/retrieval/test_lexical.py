"""BM25: weights, filters and storage."""

from __future__ import annotations

import json
from pathlib import Path

import bm25s
import numpy as np
import pytest

from lightrag.errors import ArtifactError
from lightrag.retrieval import postings
from lightrag.retrieval.analysis import STOPPED, Analyzer
from lightrag.retrieval.lexical import K1, B, LexicalCollector, LexicalIndex, best

TEXTS = ["the cat sat on the mat", "dogs and cats run", "a dog runs far", "nothing of the kind", ""]


@pytest.fixture
def index() -> LexicalIndex:
    return LexicalIndex.build(TEXTS, ["en"] * len(TEXTS))


def test_scores_equal_those_of_bm25s(index: LexicalIndex) -> None:
    analyzed = [index.analyzer.passage_terms(text, "en") for text in TEXTS]
    reference = bm25s.BM25(k1=K1, b=B, method="lucene")
    reference.index(analyzed, show_progress=False)
    for question in ("cats and dogs", "running cat", "kind mat mat"):
        known = [term for term in index.analyzer.query_terms(question) if term in reference.vocab_dict]
        np.testing.assert_allclose(index.scores(question), reference.get_scores(known), rtol=1e-5)


def test_unknown_words_and_stop_words_score_nothing(index: LexicalIndex) -> None:
    assert not index.scores("the of unicorns").any()


def test_the_best_passages_come_first_and_only_allowed_ones(index: LexicalIndex) -> None:
    scores = index.scores("cat sat")
    assert best(scores, 5).tolist() == [0, 1]
    assert best(scores, 1).tolist() == [0]
    assert best(scores, 5, np.array([False, True, True, True, True])).tolist() == [1]


def test_what_is_saved_is_loaded_equal(index: LexicalIndex) -> None:
    again = LexicalIndex.load(index.save())
    again.check_integrity()
    np.testing.assert_array_equal(again.scores("dogs cats run"), index.scores("dogs cats run"))


@pytest.mark.parametrize("texts", [[], ["the of and"], ["", ""]])
def test_corpora_without_terms_are_searched_without_finding(texts: list[str]) -> None:
    index = LexicalIndex.load(LexicalIndex.build(texts, ["en"] * len(texts)).save())
    index.check_integrity()
    assert index.scores("anything").tolist() == [0.0] * len(texts)


def test_another_analysis_version_is_refused(index: LexicalIndex) -> None:
    files = index.save()
    head = json.loads(files["lexical.json"])
    files["lexical.json"] = json.dumps(head | {"analysis": "0"}).encode()
    with pytest.raises(ArtifactError, match="ingest the corpus again"):
        LexicalIndex.load(files)


def test_damaged_postings_are_noticed(index: LexicalIndex) -> None:
    index.postings.rows[0] = 99
    with pytest.raises(ArtifactError, match="damaged"):
        index.check_integrity()


def test_words_are_numbered_as_passages_are_cut() -> None:
    texts = [
        "The cat's 1,234.56 owners DON'T run; x_y run.",
        "Übung und Straße, l'été",
        "北京是首都 and Beijing",
        "",
        "a b's c",
    ]
    analyzer = Analyzer(["de", "en"])
    for language in ("de", "en", "und"):
        vocabulary: dict[str, int] = {}
        numbers = analyzer.term_numbers(language, vocabulary)
        found = [[number for number in numbers.of(text) if number != STOPPED] for text in texts]
        terms = list(vocabulary)
        assert [[terms[number] for number in of_text] for of_text in found] == [
            analyzer.passage_terms(text, language) for text in texts
        ]


def test_shards_that_wait_in_files_are_merged_into_the_index_built_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{TEXTS[number % len(TEXTS)]} number {number} {number % 7}" for number in range(200)]
    whole = LexicalIndex.build(texts, ["en"] * len(texts))
    monkeypatch.setattr(postings, "SHARD_TERMS", 100)
    collector = LexicalCollector(["en"], tmp_path)
    for text in texts:
        collector.add(text, "en")
    index = collector.index()
    assert len(list(tmp_path.iterdir())) > 3
    index.write(tmp_path)
    again = LexicalIndex.load({name: (tmp_path / name).read_bytes() for name in whole.save()})
    for made in (index, again):
        made.check_integrity()
        assert dict(made.vocabulary) == dict(whole.vocabulary)
        np.testing.assert_array_equal(made.postings.offsets, whole.postings.offsets)
        np.testing.assert_array_equal(made.postings.rows, whole.postings.rows)
        np.testing.assert_array_equal(made.postings.weights, whole.postings.weights)
