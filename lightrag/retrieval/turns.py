"""Turns of conversations and meetings as passages: under which text they are found, and how much they can tell.

The same index and the same flow serve documents and turns; only what is written here differs. It does not know about
sessions, users or memory entries.
"""

from __future__ import annotations

import re
from functools import lru_cache

from lightrag.documents.sentences import split_sentences

ASKING = 0.75
"""What a turn loses that only asks: it holds the words of a question and not the answer."""
SHORT = 20
"""Tokens below which a turn tells less and less."""
SHORTNESS = 0.3
"""Exponent of that loss."""

_MARK = re.compile(r"[?？؟]")
_QUESTION = re.compile(rf"{_MARK.pattern}\s*$")
_REMEMBERED_CHARACTERS = 2000
"""Longer turns are read again each time, so that what is remembered stays small."""


def spoken_text(speaker: str, text: str) -> str:
    """A turn as it is embedded: who speaks is part of what is said."""
    return f"{speaker}: {text}" if speaker else text


def indexed_text(speaker: str, text: str, asked_before: str = "") -> str:
    """A turn as BM25 reads it: after the questions it answers, whose words an answer seldom repeats.

    Args:
        speaker: who speaks.
        text: what is said.
        asked_before: the turn before it in the same session, if somebody else spoke it.
    """
    questions = " ".join(_questions(asked_before))
    return f"{questions}\n{spoken_text(speaker, text)}" if questions else spoken_text(speaker, text)


def telling(text: str, tokens: int) -> float:
    """How much a turn can tell, in (0, 1], for :func:`~lightrag.retrieval.index.build_index`.

    Questions and very short turns match well, by the question's own words, and answer nothing.
    """
    words = len(text.split())
    asking = sum(len(question.split()) for question in _questions(text)) / words if words else 0.0
    length = min(max(tokens, 1) / SHORT, 1.0)
    return float((1 - ASKING * min(asking, 1.0)) * length**SHORTNESS)


def is_question(sentence: str) -> bool:
    """Whether a sentence asks."""
    return sentence.rstrip(" \"'”’)").endswith(("?", "？", "؟"))


def _questions(text: str) -> tuple[str, ...]:
    # A memory is laid out again whenever something is added, from mostly the same turns.
    if not _MARK.search(text):
        return ()
    return _remembered_questions(text) if len(text) <= _REMEMBERED_CHARACTERS else _find_questions(text)


def _find_questions(text: str) -> tuple[str, ...]:
    sentences = (text[span.start : span.end].strip() for span in split_sentences(text))
    return tuple(sentence for sentence in sentences if _QUESTION.search(sentence))


_remembered_questions = lru_cache(maxsize=8192)(_find_questions)


__all__ = ["indexed_text", "is_question", "spoken_text", "telling"]
