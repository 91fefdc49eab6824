"""Index terms in many scripts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.retrieval.analysis import Analyzer


def test_words_are_stemmed_and_stop_words_are_left_out_of_passages() -> None:
    assert Analyzer(["en"]).passage_terms("The mayor's cats were running quickly", "en") == [
        "mayor",
        "cat",
        "run",
        "quick",
    ]


def test_numbers_and_identifiers_survive() -> None:
    terms = Analyzer(["en"]).passage_terms("Invoice AB-1207 of 3.5 million, 1,250 units", "en")
    assert {"ab", "1207", "3.5", "1,250"} <= set(terms)


@pytest.mark.parametrize(
    ("language", "text", "question"),
    [
        ("zh", "黑豹队的防守只丢了三百分", "防守丢了多少分"),
        ("ja", "彼は東京タワーへ行きました", "東京タワー"),
        ("th", "ทีมบรอนคอสเอาชนะทีมสตีลเลอร์ส", "บรอนคอส"),
        ("ko", "대한민국의 수도는 서울이다", "서울"),
        ("ar", "هزم الفريق في المباراة", "المباراة"),
        ("hi", "दिल्ली भारत की राजधानी है", "राजधानी"),
        ("es", "Los corredores corrieron", "corredor"),
        ("el", "Η Αθήνα είναι πρωτεύουσα", "Αθηνα"),
        ("xx", "blarg fnord", "fnord"),
    ],
)
def test_a_question_meets_the_passage_in_its_language(language: str, text: str, question: str) -> None:
    analyzer = Analyzer([language])
    assert set(analyzer.query_terms(question)) & set(analyzer.passage_terms(text, language))


def test_latin_names_inside_chinese_stay_whole() -> None:
    assert Analyzer(["zh"]).passage_terms("他在 IBM 工作了10年", "zh") == ["他在", "ibm", "工作", "作了", "10", "年"]


def test_a_question_is_stemmed_by_every_language_of_the_corpus() -> None:
    terms = Analyzer(["en", "es"]).query_terms("casas houses")
    assert {"cas", "hous"} <= set(terms)


def test_accents_do_not_separate_a_question_from_a_passage() -> None:
    analyzer = Analyzer(["en"])
    assert analyzer.query_terms("Alu") == analyzer.passage_terms("Alû", "en")


@settings(max_examples=80, deadline=None)
@given(st.text(max_size=60))
def test_any_text_gives_terms_that_its_own_question_gives_too(text: str) -> None:
    analyzer = Analyzer(["en"])
    assert set(analyzer.passage_terms(text, "en")) <= set(analyzer.query_terms(text))


def test_threads_share_an_analyzer() -> None:
    analyzer = Analyzer(["en", "de"])
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(analyzer.query_terms, ["running Häuser connections"] * 200))
    assert all(result == results[0] for result in results)
