"""Chooses units by rate or by token target, and puts the kept ones together again. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from itertools import groupby

import numpy as np

from lightrag.errors import UsageError
from lightrag.lexical.units import Unit
from lightrag.types import Span

_DIGIT = re.compile(r"\d")
FORCED = 1.0
"""Score of a forced unit under the rate rule, where scores are probabilities."""


def force_units(text: str, units: Sequence[Unit], force: Sequence[str], *, digits: bool) -> tuple[list[Unit], set[int]]:
    """Find the units that must be kept; a forced string between units (a line break) becomes a unit of its own.

    Returns:
        Units in text order, and the indices of those that are forced.
    """
    places = _occurrences(text, force)
    covered = [False] * len(places)
    forced_spans: set[tuple[int, int]] = set()
    for unit in units:
        for index, (start, end) in enumerate(places):
            if start < unit.end and unit.start < end:
                covered[index] = True
                forced_spans.add((unit.start, unit.end))
        if digits and _DIGIT.search(text, unit.start, unit.end):
            forced_spans.add((unit.start, unit.end))
    extra = [
        Unit(place.start, place.end, FORCED, 1, _window_at(units, place.start))
        for place, inside in zip(places, covered, strict=True)
        if not inside
    ]
    forced_spans.update((unit.start, unit.end) for unit in extra)
    merged = sorted([*units, *extra], key=lambda unit: (unit.start, unit.end))
    return merged, {index for index, unit in enumerate(merged) if (unit.start, unit.end) in forced_spans}


def select_by_rate(units: Sequence[Unit], rate: float, forced: Set[int] = frozenset()) -> list[int]:
    """Keep about ``rate`` of the tokens of every window: units whose score lies above its percentile.

    The rule of LLMLingua-2 (arXiv 2403.12968, section 4.2, as released): each unit's score counts once per token, the
    percentile is ``int(100 (1 - rate) + 1)``, and a forced unit counts as 1.

    Raises:
        UsageError: the rate is not above 0 and at most 1.
    """
    if not 0 < rate <= 1:
        raise UsageError(f"rate must be above 0 and at most 1, not {rate}")
    if rate == 1:
        return list(range(len(units)))
    kept: list[int] = []
    percentile = min(100, int(100 * (1 - rate) + 1))
    for _, group in groupby(range(len(units)), key=lambda index: units[index].window):
        members = list(group)
        scores = np.array([FORCED if index in forced else units[index].score for index in members], dtype=np.float32)
        weights = np.array([max(1, units[index].tokens) for index in members])
        threshold = np.percentile(np.repeat(scores, weights), percentile)
        above = (scores > threshold) | ((threshold == FORCED) & (scores == threshold))
        kept.extend(index for index, keep in zip(members, above, strict=True) if keep or index in forced)
    return kept


def select_by_tokens(units: Sequence[Unit], target: int, forced: Set[int] = frozenset()) -> list[int]:
    """Keep the best units that fit ``target`` tokens together; forced ones come first, in order of their scores."""
    ranked = sorted(range(len(units)), key=lambda index: (index not in forced, -units[index].score, index))
    kept, left = [], target
    for index in ranked:
        if units[index].tokens <= left:
            kept.append(index)
            left -= units[index].tokens
    return sorted(kept)


def drop_repeats(text: str, units: Sequence[Unit], kept: Sequence[int], forced: Set[int]) -> list[int]:
    """Leave out a forced unit that would follow an equal one directly."""
    result: list[int] = []
    for index in kept:
        unit = units[index]
        before = units[result[-1]] if result else None
        if before and index in forced and text[before.start : before.end] == text[unit.start : unit.end]:
            continue
        result.append(index)
    return result


def assemble(text: str, units: Sequence[Unit], kept: Sequence[int]) -> str:
    """Join kept units: with a space where white space stood before a unit in the source, else directly."""
    pieces: list[str] = []
    for index in kept:
        unit = units[index]
        piece = text[unit.start : unit.end]
        spaced = unit.start > 0 and text[unit.start - 1].isspace()
        if pieces and spaced and not piece.isspace() and not pieces[-1].isspace():
            pieces.append(" ")
        pieces.append(piece)
    return "".join(pieces)


def fit(
    text: str, units: Sequence[Unit], kept: Sequence[int], limit: int, count: Callable[[str], int], forced: Set[int]
) -> list[int]:
    """Drop the least valuable kept units until the assembled text has at most ``limit`` tokens.

    Units are counted apart when they are chosen, which can differ by a few tokens from their sum in running text.
    """
    chosen = list(kept)
    while chosen and (excess := count(assemble(text, units, chosen)) - limit) > 0:
        # Forced units go last: the limit is a promise, forcing a wish.
        order = sorted(chosen, key=lambda index: (index in forced, units[index].score))
        dropped: set[int] = set()
        for index in order:
            dropped.add(index)
            excess -= max(1, units[index].tokens)
            if excess <= 0:
                break
        chosen = [index for index in chosen if index not in dropped]
    return chosen


def spans(units: Sequence[Unit], kept: Sequence[int]) -> tuple[Span, ...]:
    """Character ranges of the kept units."""
    return tuple(Span(units[index].start, units[index].end) for index in kept)


def recount(text: str, units: Sequence[Unit], counts: Sequence[int]) -> list[Unit]:
    """The same units with their costs in other tokens."""
    return [replace(unit, tokens=count) for unit, count in zip(units, counts, strict=True)]


def _occurrences(text: str, force: Sequence[str]) -> list[Span]:
    wanted = [string for string in force if string]
    if not wanted:
        return []
    pattern = "|".join(re.escape(string) for string in sorted(wanted, key=len, reverse=True))
    found = []
    for match in re.finditer(pattern, text):
        word = match.group()
        inside_word = word[0].isalnum() and match.start() and text[match.start() - 1].isalnum()
        goes_on = word[-1].isalnum() and match.end() < len(text) and text[match.end()].isalnum()
        if not inside_word and not goes_on:
            found.append(Span(*match.span()))
    return found


def _window_at(units: Sequence[Unit], position: int) -> int:
    return next((unit.window for unit in reversed(units) if unit.start <= position), units[0].window if units else 0)


__all__ = [
    "FORCED",
    "assemble",
    "drop_repeats",
    "fit",
    "force_units",
    "recount",
    "select_by_rate",
    "select_by_tokens",
    "spans",
]
