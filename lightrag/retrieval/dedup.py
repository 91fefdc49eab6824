"""Telling near-duplicate passages: boilerplate, repeated notices, a document that was ingested in two formats."""

from __future__ import annotations

from collections import Counter

from lightrag.retrieval.names import atoms

SHINGLE = 3
"""Consecutive atoms (words, or characters of unspaced scripts) in one shingle."""
SIMILAR = 0.8
"""Jaccard similarity of shingle sets from which two passages count as the same."""


class DuplicateFilter:
    """Remembers passages and tells whether a further one is nearly the same as one of them.

    Cost grows with the length of the passage, not with the number of those remembered, unless they share their text.
    """

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._bearers: dict[tuple[str, ...], list[int]] = {}

    def is_new(self, text: str) -> bool:
        """Whether no remembered passage is nearly the same; if so, remember this one."""
        shingles = shingle(text)
        overlaps: Counter[int] = Counter()
        for piece in shingles:
            overlaps.update(self._bearers.get(piece, ()))
        if any(count >= SIMILAR * (len(shingles) + self._sizes[known] - count) for known, count in overlaps.items()):
            return False
        for piece in shingles:
            self._bearers.setdefault(piece, []).append(len(self._sizes))
        self._sizes.append(len(shingles))
        return True


def shingle(text: str) -> set[tuple[str, ...]]:
    """Sets of consecutive atoms; a shorter text is one shingle."""
    words = [atom.text for atom in atoms(text)]
    if len(words) <= SHINGLE:
        return {tuple(words) or (text,)}
    return {tuple(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}


__all__ = ["SIMILAR", "DuplicateFilter", "shingle"]
