"""Turns of conversations as passages."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.retrieval.matching import Query
from lightrag.retrieval.search import SearchOptions, search
from lightrag.retrieval.speakers import SpeakerTable
from lightrag.retrieval.turns import indexed_text, spoken_text, telling
from tests.lightrag.retrieval.corpora import chunk, index_of


def test_an_answer_is_found_by_the_question_before_it() -> None:
    text = indexed_text("Ben", "To Oslo, in May.", "Lovely weather. Where will you travel this spring?")
    assert text == "Where will you travel this spring?\nBen: To Oslo, in May."
    assert indexed_text("Ben", "To Oslo.", "Lovely weather.") == spoken_text("Ben", "To Oslo.")


def test_asking_and_brevity_tell_less() -> None:
    told = telling("I moved to Oslo in May because of the new job at the harbour.", 25)
    assert told == 1.0
    assert telling("What about you, Ben?", 25) == 0.25
    assert telling("Yes.", 2) < 0.6 < told


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=80), st.integers(0, 300))
def test_any_turn_can_tell_something(text: str, tokens: int) -> None:
    assert 0 < telling(text, tokens) <= 1


def test_a_question_about_a_speaker_is_about_that_speakers_turns() -> None:
    turns = [("Ana", "I like tea."), ("Ben", "I like coffee."), ("Ana", "And cake.")]
    table = SpeakerTable.of([chunk(str(n), text, metadata={"speaker": who}) for n, (who, text) in enumerate(turns)])
    asked = table.asked_about("What does ana's friend like?")
    assert asked is not None
    assert asked.tolist() == [True, False, True]
    assert table.asked_about("What do they like?") is None
    assert table.asked_about("What do Ana and Ben like?") is None


def test_who_speaks_decides_between_equal_turns_only_with_spread() -> None:
    said = "My favourite drink is strong tea."
    index = index_of(
        [chunk(str(n), said, document="chat", metadata={"speaker": who}) for n, who in enumerate(("Ana", "Ben"))]
    )
    question = Query("What is the favourite drink of Ben?", np.array(index.dense.vectors(np.array([0]))[0]))
    assert search(index, [question], SearchOptions(spread=None)).rows[0] == 0
    assert search(index, [question], SearchOptions()).rows[0] == 1
