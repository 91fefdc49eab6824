"""Find the figures in sentences and say which is the highest or lowest of one kind.

A figure is a number with its unit; only figures of the same unit are compared, and years only with years.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_SCALE = {"thousand": 1e3, "k": 1e3, "million": 1e6, "m": 1e6, "billion": 1e9, "bn": 1e9}
_FIGURE = re.compile(
    r"(?P<sign>[€$£¥])?\s?(?<![\w.,-])(?P<number>\d{1,3}(?:[,\u00a0\u202f ]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
    r"(?:\s?(?P<percent>%)|\s?(?P<scale>thousand|million|billion|bn|k|m)\b)?"
    r"(?:[ \u00a0-](?P<unit>[A-Za-zÀ-ÿ]{1,20}))?",
)
_NOT_A_UNIT = re.compile(
    r"and|or|to|in|on|of|at|for|by|from|with|was|were|is|are|the|an?|as|than|that|which|who|per|had|has|have|but|when|"
    r"after|before|until|while|january|february|march|april|may|june|july|august|september|october|november|december"
)
_BEFORE_A_YEAR = re.compile(
    r"(?:^|\W)(?:in|since|by|of|until|till|from|during|year|early|late|mid)[ -]$", re.IGNORECASE
)
_CORRECTS = re.compile(
    r"\b(?:should (?:have )?(?:read|been|be)|wrong(?:ly)?|mistaken?(?:ly)?|in error|erroneous(?:ly)?|misprint\w*|"
    r"correct(?:ed|ion|s)|too (?:high|low)|counted twice|instead of)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number as it stands in a text."""

    value: float
    unit: str
    """Lower-case singular unit, ``%``, a currency sign, ``year``, or empty."""
    text: str
    place: int
    """Index of the sentence it was found in."""


def find_figures(sentences: Sequence[str]) -> list[Figure]:
    """List all figures of the sentences, in order."""
    found = []
    for place, sentence in enumerate(sentences):
        for match in _FIGURE.finditer(sentence):
            raw = re.sub(r"[,\u00a0\u202f ]", "", match["number"])
            value = float(raw) * _SCALE.get((match["scale"] or "").lower(), 1.0)
            unit = _unit(match)
            named = match["unit"] and unit not in ("", "year", "%") and not _NOT_A_UNIT.fullmatch(match["unit"].lower())
            end = match.end() if named else max(match.end("number"), match.end("percent"), match.end("scale"))
            found.append(Figure(value, unit, sentence[match.start() : end].strip(), place))
    return found


def _unit(match: re.Match[str]) -> str:
    if match["percent"]:
        return "%"
    if match["sign"]:
        return match["sign"]
    unit = (match["unit"] or "").lower()
    if _NOT_A_UNIT.fullmatch(unit):
        unit = ""
    looks_like_year = bool(re.fullmatch(r"1[5-9]\d\d|20\d\d", match["number"])) and not match["scale"]
    if looks_like_year and (not unit or _BEFORE_A_YEAR.search(match.string[: match.start("number")])):
        return "year"
    return unit[:-1] if unit.endswith("s") and len(unit) > 3 else unit


def extreme_figure(
    sentences: Sequence[str], direction: Literal["highest", "lowest"], question: str
) -> tuple[Figure, int] | None:
    """Return the extreme figure of the kind that the question is about, and how many places it was compared over.

    The kind is the unit that the question names, or else the unit that most sentences share. A figure that another
    sentence corrects does not count. ``None`` where fewer than two sentences hold figures of one unit: then nothing can
    be compared.
    """
    everything = find_figures(sentences)
    corrected = _corrected(sentences, everything)
    figures = [figure for figure in everything if figure.unit and (figure.value, figure.unit) not in corrected]
    places = Counter(unit for unit, _ in {(figure.unit, figure.place) for figure in figures if figure.unit != "year"})
    if not places:
        return None
    words = question.lower()
    unit = max(places, key=lambda name: (name.isalpha() and name in words, places[name]))
    if places[unit] < 2:
        return None
    comparable = [figure for figure in figures if figure.unit == unit]
    choose = max if direction == "highest" else min
    return choose(comparable, key=lambda figure: figure.value), places[unit]


def _corrected(sentences: Sequence[str], figures: Sequence[Figure]) -> set[tuple[float, str]]:
    """Values with units that one sentence states, and another one repeats to say that they are wrong."""
    correcting = {place for place, sentence in enumerate(sentences) if _CORRECTS.search(sentence)}
    stated = {(figure.value, figure.unit) for figure in figures if figure.place not in correcting}
    return {
        (figure.value, figure.unit)
        for figure in figures
        if figure.place in correcting and figure.unit not in ("", "year") and (figure.value, figure.unit) in stated
    }


__all__ = ["Figure", "extreme_figure", "find_figures"]
