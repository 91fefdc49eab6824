"""Names that passages are about, and where a text mentions them.

Works on atoms: lower-case words in spaced scripts, single characters in unspaced ones, so that a Chinese title is found
inside a sentence like an English one. It does not know about links or questions.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from lightrag.retrieval.analysis import UNSPACED, fold

MAX_ATOMS = 32
"""Longer titles are sentences, which nobody mentions word for word."""
MAX_BEARERS = 3
"""A name of more passages or documents than this points nowhere."""
_MIN_SINGLE = 3
"""Letters that a one-word name in a spaced script must have."""

_ASCII_WORD = re.compile(r"\w+", re.ASCII)
_NO_CAPITALS = frozenset(string.ascii_lowercase + string.digits)
_PARENTHESIS = re.compile(r"\s*\([^)]*\)\s*$")


class Atom(NamedTuple):
    """A word, or a character of an unspaced script."""

    text: str
    """Lower-case and without Latin accents."""
    capital: bool
    """Whether it starts with a capital letter; true where the script has none."""


class Mention(NamedTuple):
    """A name found in a text."""

    name: str
    rows: tuple[int, ...]
    """Passages that the name stands for."""


def atoms(text: str) -> list[Atom]:
    """Cut a text into atoms."""
    return [
        Atom(fold(word.casefold()), not word[0].islower() and not word[0].isdecimal())
        for word in _pattern().findall(text)
    ]


def canonical_name(title: str) -> str:
    """The form in which a title is looked up: its atoms without a trailing parenthesis, joined by blanks."""
    return " ".join(part.text for part in atoms(bare_name(title)))


def bare_name(title: str) -> str:
    """A title without a trailing parenthesis that tells namesakes apart."""
    return _PARENTHESIS.sub("", title).strip() or title.strip()


@dataclass(frozen=True, slots=True)
class NameTable:
    """Which passages each name stands for."""

    rows: Mapping[str, tuple[int, ...]]
    """By name, atoms joined by blanks."""
    longest: Mapping[str, int]
    """By first atom: atoms of the longest name that starts with it."""

    @classmethod
    def build(cls, named: Iterable[tuple[str, int]], common: frozenset[str] = frozenset()) -> NameTable:
        """Collect (name, passage) pairs; names that stand for too many passages, or say too little, are left out.

        Args:
            named: a name and the row of a passage that is about it.
            common: single words that are no names, although a title consists of one.
        """
        bearers: dict[str, list[int]] = {}
        for name, row in named:
            parts = atoms(bare_name(name))
            if _telling(parts, common):
                rows = bearers.setdefault(" ".join(part.text for part in parts), [])
                if row not in rows[-1:]:
                    rows.append(row)
        return cls.of({name: tuple(rows) for name, rows in bearers.items() if len(rows) <= MAX_BEARERS})

    @classmethod
    def of(cls, rows: Mapping[str, Sequence[int]]) -> NameTable:
        """Wrap names that were chosen before, as they were stored."""
        longest: dict[str, int] = {}
        for name in rows:
            parts = name.split(" ")
            longest[parts[0]] = max(longest.get(parts[0], 0), len(parts))
        return cls({name: tuple(bearers) for name, bearers in rows.items()}, longest)

    def find(self, text: str) -> list[Mention]:
        """Names that a text mentions, each once, the longest at every place.

        A one-word name must be written with a capital, unless the text has no capitals at all.
        """
        if not self.rows:
            return []
        words, capitals = _words(text)
        if self.longest.keys().isdisjoint(words):
            return []
        cased = any(capitals)
        found: dict[str, Mention] = {}
        place = 0
        while place < len(words):
            name = self._match(words, place, capitals[place] or not cased)
            if name:
                found.setdefault(name, Mention(name, self.rows[name]))
            place += 1 + name.count(" ")
        return list(found.values())

    def _match(self, words: Sequence[str], place: int, capital: bool) -> str:
        """The longest name that starts at a place; empty where there is none."""
        for length in range(min(self.longest.get(words[place], 0), len(words) - place), 0, -1):
            name = " ".join(words[place : place + length])
            if name in self.rows and (length > 1 or capital):
                return name
        return ""


def _words(text: str) -> tuple[list[str], list[bool]]:
    """Texts of the atoms of a text, and whether each starts with a capital letter."""
    if not text.isascii():
        parts = atoms(text)
        return [part.text for part in parts], [part.capital for part in parts]
    words = _ASCII_WORD.findall(text)
    return [word.lower() for word in words], [word[0] not in _NO_CAPITALS for word in words]


def _telling(parts: Sequence[Atom], common: frozenset[str]) -> bool:
    if not 0 < len(parts) <= MAX_ATOMS:
        return False
    if len(parts) == 1:
        word = parts[0]
        return word.capital and len(word.text) >= _MIN_SINGLE and word.text not in common
    return any(not part.text.isdecimal() for part in parts) and not all(part.text in common for part in parts)


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile(rf"[{UNSPACED}]|(?:(?![{UNSPACED}])\w)+")


__all__ = ["MAX_ATOMS", "Atom", "Mention", "NameTable", "atoms", "bare_name", "canonical_name"]
