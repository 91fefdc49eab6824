"""A tokenised stretch of text, and the choice of the best place to end a chunk in it."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right

from lightrag.documents.layout import Break, Rank, layout_breaks
from lightrag.documents.sentences import iter_sentences
from lightrag.types import Tokenizer

_CLAUSE = re.compile(r"[,;:،؛–—][\"'”’)]*\s+(?=\S)|[，；：、][”’」』）]*")
_WORD = re.compile(r"\s(?=\S)")
_JOINERS = frozenset("\u200d\u2060")
_CLUSTER_CHARS = 32
_SKIN_TONES = range(0x1F3FB, 0x1F400)
_FLAG_LETTERS = range(0x1F1E6, 0x1F200)


class Window:
    """The tokens and breaks of ``text[start:end]``, one window of the part that ends at ``part_end``.

    Tokenising by windows keeps memory bounded, whatever the length of the text.
    """

    def __init__(self, text: str, start: int, end: int, *, part_end: int, tokenizer: Tokenizer) -> None:
        self._text = text
        self.end = end
        self.is_last = end >= part_end
        self._tokens = [start + span.start for span in tokenizer.spans(text[start:end])]
        self._breaks = _find_breaks(text, start, end)
        self._positions = [found.position for found in self._breaks]

    def tokens_after(self, position: int) -> int:
        """Tokens from ``position`` to the end of the window."""
        return len(self._tokens) - bisect_left(self._tokens, position)

    def choose(self, at: int, body: int, max_tokens: int, max_chars: int) -> int:
        """Return the best end for a chunk that starts at ``at``, always behind it.

        Args:
            at: where the chunk starts.
            body: no cut before this position, where it can be helped.
            max_tokens: bound of the chunk in tokens of this window.
            max_chars: bound of the chunk in characters.
        """
        first = bisect_left(self._tokens, at)
        remaining = len(self._tokens) - first
        highest = self._tokens[first + max_tokens] if remaining > max_tokens else self.end
        highest = max(min(highest, at + max_chars), at + 1)
        if self.is_last and highest >= self.end:
            return self.end
        lowest = target = highest
        if remaining > max_tokens:
            lowest = min(self._tokens[first + max_tokens // 2], highest)
            if self.is_last and 2 * remaining < 3 * max_tokens:
                # Two chunks will do for the rest: make them alike rather than one full and one tiny.
                lowest = min(self._tokens[first + max(remaining - max_tokens, remaining // 4)], highest)
                target = self._tokens[first + remaining // 2]
        else:
            lowest = at + (highest - at) // 2
        return self._best_break(at, max(at, body), max(lowest, at + 1), highest, target)

    def _best_break(self, at: int, body: int, lowest: int, highest: int, target: int) -> int:
        found = self._between(max(lowest, body + 1), highest)
        if found:
            return max(found, key=lambda one: (one.rank, -abs(one.position - target), one.position)).position
        found = self._between(max(at, body) + 1, highest)
        if found:
            return found[-1].position
        return _inside_sentence(self._text, lowest, highest)

    def _between(self, lowest: int, highest: int) -> list[Break]:
        return self._breaks[bisect_left(self._positions, lowest) : bisect_right(self._positions, highest)]


def _find_breaks(text: str, start: int, end: int) -> list[Break]:
    """Return where lines and sentences start, in order, each with its best rank."""
    breaks = {sentence.start: Rank.SENTENCE for sentence in iter_sentences(text, start, end)}
    breaks.update(layout_breaks(text, start, end))
    return [Break(position, rank) for position, rank in sorted(breaks.items())]


def _inside_sentence(text: str, lowest: int, highest: int) -> int:
    """Return the last clause, word or character boundary in ``[lowest, highest]``, in this order of preference."""
    for pattern in (_CLAUSE, _WORD):
        # The white space that ends at ``highest`` is found together with the character after it.
        ends = [match.end() for match in pattern.finditer(text, lowest - 1, highest + 1) if match.end() <= highest]
        if ends:
            return ends[-1]
    for position in range(highest, max(lowest, highest - _CLUSTER_CHARS) - 1, -1):
        if not _joined(text, position):
            return position
    return highest


def _joined(text: str, position: int) -> bool:
    """Tell whether a reader sees the characters before and behind ``position`` as one."""
    if not 0 < position < len(text):
        return False
    before, behind = text[position - 1], text[position]
    if unicodedata.category(behind).startswith("M") or before in _JOINERS or behind in _JOINERS:
        return True
    if ord(behind) in _FLAG_LETTERS and ord(before) in _FLAG_LETTERS:
        run = 0
        while run < _CLUSTER_CHARS and position > run and ord(text[position - 1 - run]) in _FLAG_LETTERS:
            run += 1
        return run % 2 == 1
    return ord(behind) in _SKIN_TONES


__all__ = ["Window"]
