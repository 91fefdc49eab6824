"""Plain text: the text is the file, form feeds are page ends, and a line that names a chapter is a heading."""

from __future__ import annotations

import re

from lightrag.documents.assembly import Parsed
from lightrag.documents.encoding import decode
from lightrag.documents.normalise import normalise
from lightrag.types import Section

_TITLE_CHARS = 100
_CHAPTER = re.compile(
    r"(?:\A|(?<=\n\n))[ \t]*(?P<label>(?:(?:chapter|part|book|volume|section|appendix|chapitre|partie|capítulo|"
    r"capitolo|kapitel|teil|anhang|глава|часть)[ \t]+(?:\d{1,3}|[ivxlc]{1,7}|[a-z])\b[^\n]{0,80}|"
    r"第[0-9一二三四五六七八九十百零]{1,5}[章节節部回][^\n]{0,40}))[ \t]*(?=\n|\Z)",
    re.IGNORECASE,
)


def parse_plain(data: bytes, source: str) -> Parsed:
    """Read a text file.

    Raises:
        DocumentError: its encoding cannot be told, or it holds no text.
    """
    pages = [normalise(page) for page in decode(data, source).split("\f")]
    text = "\n".join(pages)
    sections = [*(_pages(pages) if len(pages) > 1 else ()), *_chapters(text)]
    sections.sort(key=lambda section: section.start)
    return Parsed(text, tuple(sections), _title(text))


def _pages(pages: list[str]) -> list[Section]:
    sections = []
    start = 0
    for number, page in enumerate(pages, start=1):
        end = start + len(page) + (number < len(pages))
        if page.strip():
            sections.append(Section("page", str(number), start, end))
        start = end
    return sections


def _chapters(text: str) -> list[Section]:
    """Return headings that name a chapter on a line of their own; nothing else in plain text is surely a heading."""
    found = [(match.start("label"), " ".join(match["label"].split())) for match in _CHAPTER.finditer(text)]
    ends = [*(start for start, _ in found[1:]), len(text)][: len(found)]
    return [Section("heading", label, start, end, 1) for (start, label), end in zip(found, ends, strict=True)]


def _title(text: str) -> str:
    """Return the first line if it stands alone and is short, as titles do."""
    first, _, rest = text.lstrip()[: 4 * _TITLE_CHARS].partition("\n")
    alone = rest.startswith("\n") and rest.strip() != ""
    return first.strip() if alone and len(first) <= _TITLE_CHARS and first[-1:] not in ".,;:!。，；" else ""


__all__ = ["parse_plain"]
