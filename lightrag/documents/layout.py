"""Finds where lines of plain text end because something ended there, and not because the line was full.

It knows blank lines, list items, table rows and hard-wrapped paragraphs; it knows no sentences and no file format.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import IntEnum
from itertools import pairwise
from typing import NamedTuple


class Rank(IntEnum):
    """How good a place to cut is; higher is better."""

    SENTENCE = 1
    LINE = 2
    PARAGRAPH = 3


class Break(NamedTuple):
    """A place where text may be cut: what follows starts at ``position``."""

    position: int
    rank: Rank


_BLANK_LINES = re.compile(r"\n[^\S\n]*\n\s*")
_ITEM = re.compile(
    r"\s*(?:[-*+•◦▪‣·–—]\s|[(（]?\d{1,3}[.)）、]\s?(?!\d)|[(]?[A-Za-z][)]\s|[①-⓿]|[(（]?[一二三四五六七八九十]{1,3}[)）、])"
)
_FIRST_WORD = re.compile(r"\s*(\S{1,20})")

_WRAP_COLUMNS = 160
"""A paragraph with a longer line than this is not hard-wrapped: each of its lines is one."""
_FULL_LINE = 0.7
"""A line counts as full when the next word would have taken it beyond this share of the longest line's length:
proportional fonts and ragged margins make the lengths of full lines vary."""


def layout_breaks(text: str, start: int, end: int) -> Iterator[Break]:
    """Yield the breaks in ``text[start:end]`` that the layout shows, in order; linear in time."""
    at = start
    for blank in _BLANK_LINES.finditer(text, start, end):
        yield from _line_breaks(text, at, blank.start())
        if blank.end() < end:
            yield Break(blank.end(), Rank.PARAGRAPH)
        at = blank.end()
    yield from _line_breaks(text, at, end)


def is_table_row(line: str) -> bool:
    """Tell whether a line holds several cells."""
    return "\t" in line.strip() or " | " in line


def _line_breaks(text: str, start: int, end: int) -> Iterator[Break]:
    """Yield the starts of those lines of one paragraph that do not merely continue the line before."""
    if text.find("\n", start, end) < 0:
        return
    lines = text[start:end].split("\n")
    width = max(map(len, lines))
    position = start
    for line, following in pairwise(lines):
        position += len(line) + 1
        if following.strip() and not _continues(line, following, width):
            yield Break(position, Rank.LINE)


def _continues(line: str, following: str, width: int) -> bool:
    if _ITEM.match(following) or is_table_row(line) or is_table_row(following):
        return False
    first = _FIRST_WORD.match(following)
    if width > _WRAP_COLUMNS or first is None:
        return False
    if first[1][0].islower():
        return True
    return len(line) + 1 + len(first[1]) > _FULL_LINE * width


__all__ = ["Break", "Rank", "is_table_row", "layout_breaks"]
