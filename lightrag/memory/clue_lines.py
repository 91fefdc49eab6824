"""Read the clues out of what a model recalled: one a line, without numbering, noise or repetition, in any language."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# "1." "2)" "(3)" "①" "- " "* " "• " "Q1:" and their full-width forms, possibly several in a row.
_NUMBERING = re.compile(
    r"^(?:\s*(?:[-*•·–—‣▪◦>]+\s+|\(?\d{1,3}[.)\]:、．）：](?!\d)\s*|\(\d{1,3}\)\s*|（\d{1,3}）\s*|[①-⑳]\s*|"
    r"(?:Q|Question|Clue|Span|问题|线索)\s?\d{1,3}\s*[:.：]\s*|#+\s+))+",
    re.IGNORECASE,
)
_QUOTES = "\"'“”‘’«»「」『』`*_ "
_SHORTEST = 3
"""Content units below which a line cannot lead anywhere."""
_SAME = 0.8
"""Share of shared character trigrams above which two lines are the same clue."""


def clue_lines(text: str, limit: int | None = None) -> list[str]:
    """Split a model's reply into distinct clues, in its order.

    A line counts if it holds at least three content units: words in scripts that separate words, single characters in
    Chinese, Japanese, Thai and their like, which do not.

    Args:
        text: the raw reply.
        limit: most clues to return.
    """
    return distinct((_stripped(line) for line in text.splitlines()), limit)


def distinct(lines: Iterable[str], limit: int | None = None) -> list[str]:
    """Keep lines that say enough and do not nearly repeat an earlier one."""
    kept: list[str] = []
    shapes: list[frozenset[str]] = []
    for line in lines:
        if limit is not None and len(kept) >= limit:
            break
        shape = _trigrams(line)
        if content_units(line) < _SHORTEST or any(_overlap(shape, other) > _SAME for other in shapes):
            continue
        kept.append(line)
        shapes.append(shape)
    return kept


def content_units(line: str) -> int:
    """Number of words, counting each character of a script without spaces as one."""
    units = 0
    inside = False
    for character in line:
        if _unspaced(character):
            units += 1
            inside = False
        elif character.isalnum():
            units += not inside
            inside = True
        elif unicodedata.category(character)[0] not in "M" and character not in "'’-":
            inside = False
    return units


def _stripped(line: str) -> str:
    return _NUMBERING.sub("", line.strip()).strip(_QUOTES).strip()


def _unspaced(character: str) -> bool:
    code = ord(character)
    return (
        0x3040 <= code <= 0x30FF
        or 0x3400 <= code <= 0x9FFF
        or 0xF900 <= code <= 0xFAFF
        or 0x20000 <= code <= 0x3FFFF
        or (0x0E00 <= code <= 0x0EFF and character.isalpha())
        or 0x1000 <= code <= 0x109F
        or 0x1780 <= code <= 0x17FF
    )


def _trigrams(line: str) -> frozenset[str]:
    plain = re.sub(r"\W+", " ", line.casefold()).strip()
    return frozenset(plain[index : index + 3] for index in range(max(len(plain) - 2, 1)))


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(len(one | other), 1)


__all__ = ["clue_lines", "content_units", "distinct"]
