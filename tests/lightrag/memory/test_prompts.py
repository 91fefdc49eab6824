"""Prompts: placeholders, languages, replacement."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightrag.errors import UsageError
from lightrag.memory.prompts import CHINESE, ENGLISH, fill_template, prompts_for


@given(st.text(), st.text())
def test_inserted_text_is_never_read_as_a_template(context: str, question: str) -> None:
    assert fill_template("<{context}|{input}>", context=context, question=question) == f"<{context}|{question}>"


def test_both_languages_hold_the_same_placeholders() -> None:
    for field in fields(ENGLISH):
        english, chinese = getattr(ENGLISH, field.name), getattr(CHINESE, field.name)
        for placeholder in ("{context}", "{question}", "{input}"):
            assert (placeholder in english) == (placeholder in chinese), field.name


def test_prompts_are_picked_by_language_and_replaced_by_name() -> None:
    assert prompts_for("zh-cn") is CHINESE
    assert prompts_for("ja") is ENGLISH
    assert ENGLISH.with_replaced({"qa": "Say {question}"}).fill("qa", question="hi") == "Say hi"
    with pytest.raises(UsageError, match="qq"):
        ENGLISH.with_replaced({"qq": "x"})
