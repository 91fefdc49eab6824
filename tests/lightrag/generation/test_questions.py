"""What form of answer a question wants."""

from __future__ import annotations

import pytest

from lightrag.generation.questions import question_form


@pytest.mark.parametrize(
    ("question", "form", "wants"),
    [
        ("Who signed the lease?", "lookup", "person"),
        ("When was the mill founded?", "lookup", "time"),
        ("Which plants were closed?", "list", "anything"),
        ("How many people work there?", "count", "number"),
        ("In which year was revenue highest?", "highest", "time"),
        ("What was the smallest fine?", "lowest", "anything"),
        ("Summarize the decade", "overview", "anything"),
        ("", "overview", "anything"),
        ("Wie viele Menschen arbeiten dort?", "count", "number"),
        ("工厂有多少员工？", "count", "anything"),
        ("Tell me about foremost matters", "lookup", "anything"),
    ],
)
def test_the_words_of_a_question_give_its_form(question: str, form: str, wants: str) -> None:
    found = question_form(question)
    assert (found.form, found.wants) == (form, wants)


def test_kinds_are_recognised_in_sentences() -> None:
    assert question_form("When was it?").suits("It opened in 1874.")
    assert not question_form("When was it?").suits("It opened late.")
    assert question_form("How much was it?").suits("It cost 12 crowns.")
    assert question_form("Who was it?").suits("It was signed by Ada Lind.")
