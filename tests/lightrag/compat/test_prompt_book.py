"""Prompts under their published keys."""

from __future__ import annotations

import pytest

from lightrag.compat.prompt_book import PromptBook
from lightrag.errors import UsageError
from lightrag.memory.prompts import CHINESE, ENGLISH

KEYS = ("context", "gist", "span", "sur", "qa", "sum", "qa_gen", "sum_gen")


def test_the_documented_keys_are_there_in_both_languages() -> None:
    book = PromptBook()
    for key in KEYS:
        assert book[key] == getattr(ENGLISH, key)
        book.language = "zh"
        assert book[key] == getattr(CHINESE, key)
        book.language = "en"
    assert set(book) == {*KEYS, "acknowledge"}
    assert len(book) == 9
    assert "spam" not in book


def test_a_replaced_prompt_holds_for_every_language_until_it_is_deleted() -> None:
    book = PromptBook({"sum": "Points?"})
    assert book.of("en").sum == book.of("zh").sum == "Points?"
    assert book.of("zh").qa == CHINESE.qa
    del book["sum"]
    assert book.of("zh").sum == CHINESE.sum
    with pytest.raises(KeyError):
        del book["sum"]


def test_an_unknown_language_is_that_of_the_question() -> None:
    book = PromptBook()
    assert book.of("und", "谁在中午打开了灯塔？").qa == CHINESE.qa
    assert book.of("und", "Who opened the lighthouse at noon?").qa == ENGLISH.qa
    assert book.of("zh", "Who opened the lighthouse at noon?").qa == CHINESE.qa


@pytest.mark.parametrize(
    ("key", "prompt", "message"),
    [
        ("spam", "{question}", "no such prompt: 'spam'"),
        ("context", "Read this.", r"'context' needs the placeholder \{context\}"),
        ("span", "What?", r"'span' needs the placeholder \{question\}"),
        ("qa_gen", "{context}", r"'qa_gen' needs the placeholder \{input\}"),
        ("qa_gen", "{input}", r"'qa_gen' needs the placeholder \{context\}"),
    ],
)
def test_prompts_that_would_lose_their_subject_are_refused(key: str, prompt: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PromptBook()[key] = prompt


def test_input_and_question_mean_the_same() -> None:
    book = PromptBook({"span": "What about {input}?", "qa_gen": "{question} {context}"})
    assert book.of("en").fill("span", question="it") == "What about it?"
    assert book.of("en").fill("qa_gen", question="it", context="all") == "it all"
