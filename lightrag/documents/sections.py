"""Where a document's pages and headings cut it into parts, and which of them a passage belongs to."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from lightrag.documents.sentences import iter_sentences
from lightrag.types import Document, Section, Span

HEADING_JOINT = " › "
_SENTENCE_REACH = 1_500
"""How far into a page, in characters, the sentence may go on that the page before began."""


class Part(NamedTuple):
    """A range of text that chunks do not leave."""

    start: int
    end: int
    body: int
    """Where the text below its headings starts; cutting earlier would leave a heading alone."""


class Place(NamedTuple):
    """Where a passage lies, for readers."""

    page: str
    heading: str


class SectionIndex:
    """Finds the page and the path of headings of any range in logarithmic time."""

    def __init__(self, sections: Sequence[Section]) -> None:
        self._pages = sorted((s for s in sections if s.kind == "page"), key=lambda page: page.start)
        self._page_starts = [page.start for page in self._pages]
        self._paths = _heading_paths([s for s in sections if s.kind == "heading"])
        self._path_starts = [start for start, _ in self._paths]

    def place(self, span: Span, body: int) -> Place:
        """Return the pages that ``span`` touches, as ``3`` or ``3–4``, and the headings above position ``body``."""
        return Place(self._page(span), self._heading(body))

    def _page(self, span: Span) -> str:
        first = max(0, bisect_right(self._page_starts, span.start) - 1)
        last = bisect_right(self._page_starts, span.end - 1)
        touched = [page.label for page in self._pages[first:last] if page.end > span.start]
        if len(touched) < 2:
            return touched[0] if touched else ""
        return f"{touched[0]}–{touched[-1]}"

    def _heading(self, position: int) -> str:
        found = bisect_right(self._path_starts, position)
        return self._paths[found - 1][1] if found else ""


def _heading_paths(headings: Sequence[Section]) -> list[tuple[int, str]]:
    """Return the positions where the path of headings changes, each with the path from there on."""
    paths: list[tuple[int, str]] = []
    open_headings: list[Section] = []

    def close_until(position: int) -> None:
        while open_headings and open_headings[-1].end <= position:
            closed = open_headings.pop()
            paths.append((closed.end, HEADING_JOINT.join(heading.label for heading in open_headings)))

    for heading in sorted(headings, key=lambda heading: (heading.start, heading.level)):
        close_until(heading.start)
        open_headings.append(heading)
        paths.append((heading.start, HEADING_JOINT.join(each.label for each in open_headings)))
    if open_headings:
        close_until(max(heading.end for heading in open_headings))
    return paths


def split_parts(document: Document) -> list[Part]:
    """Cut a document at its headings and pages.

    A heading with nothing below it but further headings stays with them. A page whose first words finish the sentence
    of the page before starts after that sentence.
    """
    text = document.text
    if not text:
        return []
    headings = {s.start: s for s in document.sections if s.kind == "heading"}
    cuts = {0, *headings}
    cuts.update(_page_cut(text, s.start) for s in document.sections if s.kind == "page")
    starts = sorted(cut for cut in cuts if cut < len(text))
    parts: list[Part] = []
    start: int | None = None
    for cut, end in zip(starts, [*starts[1:], len(text)], strict=True):
        start = cut if start is None else start
        heading = headings.get(cut)
        body = _after_label(text, heading) if heading else cut
        below = headings.get(end)
        if heading and below and below.level > heading.level and not text[body:end].strip():
            continue
        parts.append(Part(start, end, body))
        start = None
    return parts


def _page_cut(text: str, start: int) -> int:
    if start == 0 or text[start - 2 : start] == "\n\n":
        return start
    sentences = iter_sentences(text, start, min(len(text), start + _SENTENCE_REACH))
    next(sentences, None)
    following = next(sentences, None)
    return following.start if following else start


def _after_label(text: str, heading: Section) -> int:
    """Return where the text below a heading starts; its own words may be spread over several lines."""
    position = heading.start
    for letter in "".join(heading.label.split()):
        while position < heading.end and text[position].isspace():
            position += 1
        if position >= heading.end or text[position] != letter:
            break
        position += 1
    while position < heading.end and text[position].isspace():
        position += 1
    return position


__all__ = ["HEADING_JOINT", "Part", "Place", "SectionIndex", "split_parts"]
