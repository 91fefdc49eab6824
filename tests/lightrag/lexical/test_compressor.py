from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import UsageError
from lightrag.lexical import Forcing, StatisticalScorer, TextCompressor
from lightrag.models.tokenization import EstimatingTokenizer

HARBOUR = (
    "The harbour was opened in 1871 by Marta Quell. Lunch in the canteen is served at noon. "
    "The lighthouse took three years to finish. Nobody minds the rain."
)
ORCHARD = "The orchard belongs to Ivo Trent. He sells cider. The weather was fine in May. Birds sing there every day."


@pytest.fixture
def compressor() -> TextCompressor:
    return TextCompressor(StatisticalScorer())


def test_the_default_keeps_the_sentences_that_answer(compressor: TextCompressor) -> None:
    kept = compressor.compress([HARBOUR, ORCHARD], target_tokens=16, query="Who opened the harbour?")
    assert kept[0].text == "The harbour was opened in 1871 by Marta Quell."
    kept = compressor.compress([HARBOUR, ORCHARD], target_tokens=12, query="Whose is the orchard?")
    assert kept[1].text.startswith("The orchard belongs to Ivo Trent.")


TEXTS = st.lists(st.text(st.sampled_from("ab c.!\n7é港"), max_size=60), max_size=4)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(0, 40), st.sampled_from(["sentence", "word"]), st.booleans())
def test_targets_are_never_exceeded_and_only_source_text_is_returned(
    texts: list[str], target: int, unit: str, digits: bool
) -> None:
    scorer = StatisticalScorer(unit)  # type: ignore[arg-type]  # one of its two values
    compressor = TextCompressor(scorer, force=Forcing(("\n", "b"), digits=digits))
    results = compressor.compress(texts, target_tokens=target, query="a b")
    assert sum(result.tokens for result in results) <= target
    count = EstimatingTokenizer().count
    for text, result in zip(texts, results, strict=True):
        assert result.tokens == count(result.text)
        assert "".join(text[a:b] for a, b in result.kept).replace(" ", "").replace("\n", "") == result.text.replace(
            " ", ""
        ).replace("\n", "")


@settings(max_examples=40, deadline=None)
@given(TEXTS, st.floats(0.01, 1), st.booleans())
def test_every_digit_and_forced_word_survives_any_rate(texts: list[str], rate: float, collapse: bool) -> None:
    compressor = TextCompressor(StatisticalScorer("word"), force=Forcing(("a",), digits=True, collapse=collapse))
    for text, result in zip(texts, compressor.compress(texts, rate=rate), strict=True):
        assert result.text.count("7") >= (1 if "7" in text and collapse else text.count("7"))


def test_forced_line_breaks_stay_and_repeats_collapse() -> None:
    text = "One two.\n\n\nThree four.\nFive."
    loose = TextCompressor(StatisticalScorer("word"), force=Forcing(("\n",))).compress([text], rate=0.2)[0]
    assert loose.text.count("\n") == 4
    tight = TextCompressor(StatisticalScorer("word"), force=Forcing(("\n",), collapse=True)).compress([text], rate=0.2)
    assert "\n\n" not in tight[0].text


def test_a_target_below_one_sentence_keeps_the_beginning_of_the_best(compressor: TextCompressor) -> None:
    result = compressor.compress([HARBOUR], target_tokens=4, query="lighthouse")[0]
    assert 0 < result.tokens <= 4
    assert "The lighthouse took three".startswith(result.text)


def test_wrong_targets_are_refused(compressor: TextCompressor) -> None:
    with pytest.raises(UsageError, match="either"):
        compressor.compress(["a"])
    with pytest.raises(UsageError, match="rate"):
        compressor.compress(["a b c"], rate=0)
    with pytest.raises(UsageError, match="negative"):
        compressor.compress(["a"], target_tokens=-1)


def test_a_query_raises_what_a_blind_scorer_does_not_see() -> None:
    class Flat(StatisticalScorer):
        def score(self, texts, query=""):  # type: ignore[no-untyped-def]
            rows = super().score(texts)
            return [[replace(unit, score=0.5 if number else 1.0) for number, unit in enumerate(row)] for row in rows]

    blind, aware = TextCompressor(Flat()), TextCompressor(Flat(), query_weight=0.9)
    ask: Callable[[TextCompressor], str] = lambda c: c.compress([ORCHARD], target_tokens=20, query="cider")[0].text  # noqa: E731
    assert "cider" in ask(aware)
    assert ask(blind).startswith("The orchard")
