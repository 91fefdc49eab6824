"""What the styles and numbering of a Word document mean: which paragraphs are headings, titles and list items."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_HEADING_NAME = re.compile(r"heading (\d)\Z")
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"))
_ROMAN_UNITS = (*_ROMAN, (9, "ix"), (5, "v"), (4, "iv"), (1, "i"))
_MAX_BASES = 32


@dataclass(slots=True)
class Style:
    """A paragraph style as declared; what it leaves open comes from the style it is based on."""

    name: str = ""
    based_on: str = ""
    outline: int | None = None
    """Depth in the outline from 0; 9 is body text."""
    list_id: str = ""
    list_level: int | None = None


@dataclass(slots=True)
class ListFormat:
    """How the levels of a list count: the name of the number format of each, and its first number."""

    formats: dict[int, str] = field(default_factory=dict)
    starts: dict[int, int] = field(default_factory=dict)


class StyleSheet:
    """Reads ``styles.xml`` and answers questions about style ids."""

    def __init__(self) -> None:
        self._styles: dict[str, Style] = {}
        self._style: Style | None = None

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        value = attributes.get("w:val", "")
        if name == "w:style":
            is_paragraph = attributes.get("w:type") == "paragraph"
            self._style = Style() if is_paragraph else None
            if self._style:
                self._styles[attributes.get("w:styleId", "")] = self._style
        elif self._style is None:
            return
        elif name == "w:name":
            self._style.name = value.lower()
        elif name == "w:basedOn":
            self._style.based_on = value
        elif name == "w:outlineLvl" and value.isdecimal():
            self._style.outline = int(value)
        elif name == "w:numId":
            self._style.list_id = value
        elif name == "w:ilvl" and value.isdecimal():
            self._style.list_level = int(value)

    def end(self, name: str) -> None:
        """End an element."""
        if name == "w:style":
            self._style = None

    def text(self, data: str) -> None:
        """Styles have no text."""

    def heading_level(self, style_id: str) -> int | None:
        """Return the heading level from 1 of paragraphs of a style, or ``None``."""
        for style in self._chain(style_id):
            named = _HEADING_NAME.match(style.name)
            if named:
                return int(named[1])
            if style.outline is not None:
                return style.outline + 1 if style.outline < 9 else None
        return None

    def is_title(self, style_id: str) -> bool:
        """Tell whether paragraphs of a style are the title of the document."""
        return any(style.name == "title" for style in self._chain(style_id))

    def list_place(self, style_id: str) -> tuple[str, int]:
        """Return list id and level of paragraphs of a style; the id is empty outside lists."""
        for style in self._chain(style_id):
            if style.list_id:
                return style.list_id, style.list_level or 0
        return "", 0

    def _chain(self, style_id: str) -> list[Style]:
        chain: list[Style] = []
        while style_id in self._styles and len(chain) < _MAX_BASES:  # styles may be based on each other in a circle
            chain.append(self._styles[style_id])
            style_id = chain[-1].based_on
        return chain


class Numbering:
    """Reads ``numbering.xml`` and counts list items in reading order."""

    def __init__(self) -> None:
        self._abstract: dict[str, ListFormat] = {}
        self._lists: dict[str, str] = {}
        self._counts: dict[str, dict[int, int]] = {}
        self._open_abstract = ""
        self._open_list = ""
        self._level = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        value = attributes.get("w:val", "")
        if name == "w:abstractNum":
            self._open_abstract = attributes.get("w:abstractNumId", "")
            self._abstract[self._open_abstract] = ListFormat()
        elif name == "w:num":
            self._open_list = attributes.get("w:numId", "")
        elif name == "w:abstractNumId" and self._open_list:
            self._lists[self._open_list] = value
        elif name == "w:lvl":
            level = attributes.get("w:ilvl", "0")
            self._level = int(level) if level.isdecimal() else 0
        elif name == "w:numFmt" and self._open_abstract:
            self._abstract[self._open_abstract].formats[self._level] = value
        elif name == "w:start" and self._open_abstract and value.isdecimal():
            self._abstract[self._open_abstract].starts[self._level] = int(value)

    def end(self, name: str) -> None:
        """End an element."""
        if name == "w:abstractNum":
            self._open_abstract = ""
        elif name == "w:num":
            self._open_list = ""

    def text(self, data: str) -> None:
        """Numbering has no text."""

    def next_marker(self, list_id: str, level: int) -> str:
        """Return what the next item of a list starts with, for example ``- `` or ``3. ``."""
        style = self._abstract.get(self._lists.get(list_id, ""), ListFormat())
        kind = style.formats.get(level, "bullet")
        if kind in ("bullet", "none"):
            return "- "
        counts = self._counts.setdefault(list_id, {})
        counts[level] = counts[level] + 1 if level in counts else style.starts.get(level, 1)
        for deeper in [each for each in counts if each > level]:
            del counts[deeper]
        return f"{_number(counts[level], kind)}. "


def _number(value: int, kind: str) -> str:
    if kind in ("lowerLetter", "upperLetter") and value > 0:
        letter = chr(ord("a") + (value - 1) % 26) * ((value - 1) // 26 + 1)
        return letter if kind == "lowerLetter" else letter.upper()
    if kind in ("lowerRoman", "upperRoman") and 0 < value < 4000:
        roman = ""
        for worth, letters in _ROMAN_UNITS:
            roman += letters * (value // worth)
            value %= worth
        return roman if kind == "lowerRoman" else roman.upper()
    return str(value)


__all__ = ["Numbering", "StyleSheet"]
