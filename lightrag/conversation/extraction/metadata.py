"""Metadata of a text by rules: entities, keywords, category, event time. English words, any names."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from typing import NamedTuple

from lightrag.conversation.clock import resolve_day
from lightrag.conversation.extraction.condense import content_words

_NAME = re.compile(r"(?<![.!?:] )(?<!^)\b[A-Z][\w&'’-]+(?: (?:of |the |de |van )?[A-Z][\w&'’-]+)*")
_NO_NAME = frozenset(
    (
        "I", "I'm", "I've", "I'd", "I'll", "Im", "Ive", "The", "A", "An", "My", "We", "It", "He", "She", "They", "You",
        "And", "But", "So", "Oh", "Yeah", "Yes", "No",
    )
)  # fmt: skip
_CATEGORIES = (
    (
        "preference",
        re.compile(r"\b(favou?rite|prefer\w*|love\w*|likes?|enjoy\w*|hates?|dislikes?|fan of|allergic)\b", re.I),
    ),
    ("plan", re.compile(r"\b(will|going to|gonna|plan\w*|tomorrow|next (?:week|month|year)|looking forward)\b", re.I)),
    (
        "event",
        re.compile(
            r"\b(yesterday|last|ago|today|this (?:morning|weekend)|went|visited|bought|met|started|finished|got)\b",
            re.I,
        ),
    ),
)
MAX_KEYWORDS = 8


class Metadata(NamedTuple):
    """What can be told of a text without a model."""

    category: str
    keywords: tuple[str, ...]
    entities: tuple[str, ...]
    event_time: str


def describe(text: str, said: datetime, language: str = "en", participants: frozenset[str] = frozenset()) -> Metadata:
    """Fill the metadata of a text that was said at a time."""
    found = resolve_day(text, said)
    words = Counter(content_words(text, language, participants))
    names = dict.fromkeys(name for name in _NAME.findall(text) if name not in _NO_NAME)
    category = next((name for name, pattern in _CATEGORIES if pattern.search(text)), "fact")
    keywords = tuple(word for word, _ in words.most_common(MAX_KEYWORDS))
    return Metadata(category, keywords, tuple(names), found[1] if found else "")


__all__ = ["MAX_KEYWORDS", "Metadata", "describe"]
