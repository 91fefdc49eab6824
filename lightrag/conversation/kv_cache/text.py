"""What of a memory is encoded: the latest entries that fit, laid out by day, under a name that changes with any of it.

Knows no model; a tokenizer says how long a text is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from blake3 import blake3

from lightrag.conversation.context import prompt_block
from lightrag.conversation.index.view import MemoryView
from lightrag.conversation.types import FoundEntry, MemoryEntry, position
from lightrag.documents.language import detect_language
from lightrag.types import Tokenizer


class MemoryText(NamedTuple):
    """A memory as one text."""

    text: str
    """Empty where nothing is remembered."""
    language: str
    entries: tuple[str, ...]
    """Ids of what the text holds."""
    left_out: int
    """Entries that did not fit."""
    revision: int
    """Of the history that it was read at."""

    @property
    def digest(self) -> str:
        """Equal for equal texts, whatever else changed in the history."""
        return blake3(f"{self.language}\0{self.text}".encode()).hexdigest(length=16)


def memory_text(view: MemoryView, max_tokens: int, tokenizer: Tokenizer) -> MemoryText:
    """Lay out what holds now, within a budget; of an entry and the message it came from only the entry."""
    holding = [row.entry for row in view.rows if row.entry.state in ("current", "provisional")]
    told = _told(holding)
    chosen = [entry for entry in holding if entry.kind != "turn" or entry.entry_id not in told]
    chosen.sort(key=position, reverse=True)
    text, shown = prompt_block([FoundEntry(entry, 1.0) for entry in chosen], max_tokens, tokenizer)
    code = detect_language(text[-4000:]).code if text else "und"
    ids = tuple(entry.entry_id for entry in shown)
    return MemoryText(text, "en" if code == "und" else code, ids, len(chosen) - len(ids), view.revision)


def _told(entries: Sequence[MemoryEntry]) -> set[str]:
    """Messages that an entry stands for."""
    return {source for entry in entries if entry.kind in ("fact", "relation") for source in entry.sources}


__all__ = ["MemoryText", "memory_text"]
