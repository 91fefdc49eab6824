"""Paths with wildcards, the same for folders and object stores."""

from __future__ import annotations

import re
from typing import NamedTuple

_WILDCARD = re.compile(r"[*?\[]")


class Pattern(NamedTuple):
    """A folder or prefix without wildcards, and what a path below it has to look like."""

    base: str
    matches: re.Pattern[str]


def has_wildcard(location: str) -> bool:
    """Whether ``location`` is a glob."""
    return _WILDCARD.search(location) is not None


def split_pattern(location: str) -> Pattern:
    """Split a glob at its first segment with a wildcard.

    ``*`` and ``?`` stay within a segment, ``**`` spans segments, ``[…]`` is a set of characters. Relative paths always
    use ``/``.

    Example:
        >>> pattern = split_pattern("docs/2024/**/*.md")
        >>> pattern.base
        'docs/2024'
        >>> bool(pattern.matches.fullmatch("a/b.md")), bool(pattern.matches.fullmatch("b.txt"))
        (True, False)
    """
    segments = location.split("/")
    first = next(index for index, segment in enumerate(segments) if has_wildcard(segment))
    base = "/".join(segments[:first]) or ("/" if location.startswith("/") else "")
    return Pattern(base, re.compile(_translate(segments[first:])))


def _translate(segments: list[str]) -> str:
    parts = []
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            parts.append(".*" if last else "(?:[^/]+/)*")
        else:
            parts.append(_segment(segment) + ("" if last else "/"))
    return "".join(parts)


def _segment(segment: str) -> str:
    return re.sub(r"\[!?[^]]+\]|\*+|.", lambda found: _expression(found[0]), segment)


def _expression(piece: str) -> str:
    if piece.startswith("*"):
        return "[^/]*"
    if piece.startswith("[") and len(piece) > 1:
        negated = piece[1] == "!"
        return f"[{'^' if negated else ''}{piece[2 if negated else 1 : -1].replace(chr(92), chr(92) * 2)}]"
    return "[^/]" if piece == "?" else re.escape(piece)


__all__ = ["Pattern", "has_wildcard", "split_pattern"]
