"""Turning what was found into text for a prompt, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from lightrag.conversation.types import FoundEntry, MemoryEntry, comparable
from lightrag.types import Tokenizer


def prompt_block(
    found: Sequence[FoundEntry], max_tokens: int, tokenizer: Tokenizer
) -> tuple[str, tuple[MemoryEntry, ...]]:
    """Lay out the best entries that fit, by day and in order.

    Entries are taken best first; one that does not fit is passed over for smaller ones behind it.

    Returns:
        The text, of at most ``max_tokens`` tokens, and the entries in it.
    """
    taken: list[MemoryEntry] = []
    days: set[str] = set()
    used = 0
    for hit in found:
        day = _day(hit.entry)
        cost = tokenizer.count(_line(hit.entry)) + (0 if day in days else tokenizer.count(day))
        if used + cost <= max_tokens:
            taken.append(hit.entry)
            days.add(day)
            used += cost
    ordered = sorted(taken, key=lambda entry: (comparable(entry.time), int(entry.entry_id[1:])))
    text = "\n".join(_lines(ordered))
    while tokenizer.count(text) > max_tokens and ordered:
        # Tokenizers may count a joined text a little higher than its lines.
        ordered.pop()
        text = "\n".join(_lines(ordered))
    return text, tuple(ordered)


def _lines(entries: Iterable[MemoryEntry]) -> Iterable[str]:
    for day, members in groupby(entries, key=_day):
        yield day
        yield from (_line(entry) for entry in members)


def _day(entry: MemoryEntry) -> str:
    return f"[{entry.time:%Y-%m-%d %a}]"


def _line(entry: MemoryEntry) -> str:
    told = f" ({entry.event_time})" if entry.event_time and entry.event_time not in entry.text else ""
    return f"- {' '.join(entry.text.split())}{told}"


__all__ = ["prompt_block"]
