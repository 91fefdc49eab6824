"""Puts the text of a document together from blocks, headings and pages, and notes where each of them lies.

It knows no file format. Parsers call it in reading order; blocks are normalised here, so that offsets are final.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lightrag.documents.normalise import normalise
from lightrag.types import MetadataValue, Section


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser found in the bytes of one file."""

    text: str
    sections: tuple[Section, ...] = ()
    title: str = ""
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)
    language: str = ""
    """As the file declares it; empty where it does not."""


@dataclass(frozen=True, slots=True)
class _Mark:
    label: str
    start: int
    level: int


class TextBuilder:
    r"""Collects blocks of text in reading order.

    Example:
        >>> builder = TextBuilder()
        >>> builder.heading("Results", level=1)
        >>> builder.block("Sales rose.")
        >>> builder.build().text
        'Results\n\nSales rose.'
    """

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._headings: list[_Mark] = []
        self._pages: list[_Mark] = []
        self._pending_page: str | None = None

    def block(self, text: str, *, gap: str = "\n\n") -> None:
        """Append a block, ``gap`` away from the one before it; a blank one is left out."""
        text = normalise(text).strip("\n")
        if not text.strip():
            return
        if self._parts:
            self._append(gap)
        if self._pending_page is not None:
            self._pages.append(_Mark(self._pending_page, self._length, 0))
            self._pending_page = None
        self._append(text)

    def heading(self, text: str, level: int) -> None:
        """Append a heading; its section lasts until the next heading of the same or an outer level."""
        label = " ".join(normalise(text).split())
        if label:
            self.block(label)
            self._headings.append(_Mark(label, self._length - len(label), level))

    def mark_heading(self, label: str, start: int, level: int) -> None:
        """Declare that text already appended is a heading. Marks may come in any order."""
        self._headings.append(_Mark(" ".join(normalise(label).split()), start, level))

    def page(self, label: str) -> None:
        """Start a page with the next block."""
        self._pending_page = label

    @property
    def length(self) -> int:
        """Characters so far."""
        return self._length

    def build(
        self, *, title: str = "", metadata: Mapping[str, MetadataValue] | None = None, language: str = ""
    ) -> Parsed:
        """Return the text with its sections in order of their start."""
        sections = [*self._page_sections(), *self._heading_sections()]
        sections.sort(key=lambda section: (section.start, section.kind == "heading", section.level))
        return Parsed("".join(self._parts), tuple(sections), " ".join(title.split()), metadata or {}, language)

    def _append(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)

    def _page_sections(self) -> list[Section]:
        starts = [page.start for page in self._pages]
        ends = [*starts[1:], self._length][: len(starts)]
        return [Section("page", page.label, page.start, end) for page, end in zip(self._pages, ends, strict=True)]

    def _heading_sections(self) -> list[Section]:
        sections: list[Section] = []
        open_marks: list[_Mark] = []
        for mark in sorted(self._headings, key=lambda mark: (mark.start, mark.level)):
            while open_marks and open_marks[-1].level >= mark.level:
                sections.append(_close(open_marks.pop(), mark.start))
            open_marks.append(mark)
        sections.extend(_close(mark, self._length) for mark in open_marks)
        return sections


def _close(mark: _Mark, end: int) -> Section:
    return Section("heading", mark.label, mark.start, end, mark.level)


__all__ = ["Parsed", "TextBuilder"]
