"""Decoding token by token: whole characters, cut at stop strings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.models.local.text import TextStream
from tests.checkpoints import save_tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("text")
    return save_tokenizer(folder).backend_tokenizer


def pieces(tokenizer: Any, ids: list[int], *stop: str) -> list[str]:
    stream = TextStream(tokenizer, stop)
    parts = []
    for token in ids:
        parts.append(stream.push(token))
        if stream.stopped:
            break
    return [*parts, stream.finish()]


def cut(text: str, *stop: str) -> str:
    return text[: min((text.find(each) for each in stop if each in text), default=len(text))]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=3), max_size=3))
def test_pieces_join_to_the_text_before_the_first_stop_string(tokenizer: Any, text: str, stop: list[str]) -> None:
    text = text.encode("utf-8", "replace").decode()
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    whole = tokenizer.decode(ids)
    assert "".join(pieces(tokenizer, ids, *stop)) == cut(whole, *stop)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 590), max_size=20))
def test_any_tokens_give_what_decoding_them_at_once_gives(tokenizer: Any, ids: list[int]) -> None:
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids, skip_special_tokens=True)


def test_a_character_is_shown_once_its_last_byte_has_come(tokenizer: Any) -> None:
    ids = tokenizer.encode("😀", add_special_tokens=False).ids
    assert len(ids) > 1
    assert pieces(tokenizer, ids) == [*[""] * (len(ids) - 1), "😀", ""]


def test_text_that_may_begin_a_stop_string_is_held_back(tokenizer: Any) -> None:
    ids = [tokenizer.encode(letter).ids[0] for letter in "abab!"]
    assert pieces(tokenizer, ids, "abc") == ["", "", "ab", "", "ab!", ""]
    assert pieces(tokenizer, ids, "ab!") == ["", "", "ab", "", "", ""]
