"""Figures in sentences: values, units, and which is the highest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightrag.generation.figures import extreme_figure, find_figures


@pytest.mark.parametrize(
    ("sentence", "value", "unit", "text"),
    [
        ("Revenue was €1,204.5 million in all.", 1_204_500_000.0, "€", "€1,204.5 million"),
        ("The plant made 12,400 tonnes.", 12_400.0, "tonne", "12,400 tonnes"),
        ("It fell by 4.5% again.", 4.5, "%", "4.5%"),
        ("It was sold in 1999.", 1999.0, "year", "1999"),
        ("In 2016 revenue rose.", 2016.0, "year", "2016"),
        ("There were 1800 employees.", 1800.0, "employee", "1800 employees"),
        ("Output was 9 800 tonnes.", 9800.0, "tonne", "9 800 tonnes"),
    ],
)
def test_a_figure_has_a_value_a_unit_and_its_own_words(sentence: str, value: float, unit: str, text: str) -> None:
    (figure,) = find_figures([sentence])
    assert (figure.value, figure.unit, figure.text) == (value, unit, text)


def test_only_figures_of_one_unit_are_compared() -> None:
    sentences = ["In 2019 it made 90 tonnes.", "In 2020 it made 120 tonnes for €900.", "In 2021 it made 110 tonnes."]
    found = extreme_figure(sentences, "highest", "When did output peak?")
    assert found is not None
    assert (found[0].text, found[0].place, found[1]) == ("120 tonnes", 1, 3)


def test_a_figure_that_another_sentence_corrects_does_not_count() -> None:
    sentences = [
        "We carried 318,400 passengers in 1961.",
        "The figure given last year was wrong: for 318,400 passengers it should read 301,250.",
        "In 1965 we carried 312,900 passengers.",
    ]
    found = extreme_figure(sentences, "highest", "In which year were the most passengers carried?")
    assert found is None or found[0].text == "312,900 passengers"
    found = extreme_figure([*sentences, "In 1966 we carried 309,050 passengers."], "highest", "most passengers?")
    assert found is not None
    assert (found[0].text, found[1]) == ("312,900 passengers", 2)


def test_a_repeated_figure_is_not_taken_for_a_correction() -> None:
    sentences = ["It made 90 tonnes.", "It made 120 tonnes.", "The 120 tonnes of that year were a record."]
    found = extreme_figure(sentences, "highest", "")
    assert found is not None
    assert found[0].text == "120 tonnes"


def test_nothing_is_compared_where_only_one_place_has_a_figure() -> None:
    assert extreme_figure(["It made 90 tonnes.", "It made less."], "highest", "peak?") is None


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=20))
def test_the_extremes_are_those_of_the_numbers(numbers: list[int]) -> None:
    sentences = [f"They counted {number:,} birds." for number in numbers]
    highest, lowest = extreme_figure(sentences, "highest", ""), extreme_figure(sentences, "lowest", "")
    assert highest is not None
    assert lowest is not None
    assert (highest[0].value, lowest[0].value) == (max(numbers), min(numbers))


@given(st.text(max_size=200))
def test_any_text_is_read_without_failing(text: str) -> None:
    for figure in find_figures([text]):
        assert figure.text in text
