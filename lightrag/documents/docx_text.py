"""Collects the paragraphs of any part of a Word document from its XML events.

It knows what a paragraph's text is (inserted text, tabs, line breaks; not deleted text) and nothing of what becomes of
it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol

_IN_RUN: Final = {"w:tab": "\t", "w:br": "\n", "w:cr": "\n", "w:noBreakHyphen": "-"}
_SKIPPED: Final = frozenset(
    {
        "w:del",
        "w:moveFrom",
        "mc:Fallback",  # the same text again, for old readers
        *("w:pPrChange", "w:rPrChange", "w:tblPrChange", "w:trPrChange", "w:tcPrChange", "w:sectPrChange"),
    }
)


@dataclass(slots=True)
class Paragraph:
    """A paragraph with the properties that say what it is; ``None`` leaves one to the style."""

    parts: list[str] = field(default_factory=list)
    style: str = ""
    outline: int | None = None
    """Depth in the outline from 0; 9 is body text."""
    list_id: str | None = None
    list_level: int | None = None

    @property
    def text(self) -> str:
        """The paragraph's own text."""
        return "".join(self.parts)

    def set(self, name: str, value: str) -> None:
        """Take a property element; others than ours are passed over."""
        if name == "w:pStyle":
            self.style = value
        elif name == "w:numId":
            self.list_id = value
        elif name == "w:outlineLvl" and value.isdecimal():
            self.outline = int(value)
        elif name == "w:ilvl" and value.isdecimal():
            self.list_level = int(value)


class ParagraphSink(Protocol):
    """Takes paragraphs in the order in which they end, and the elements around and in them."""

    def enter(self, name: str, attributes: dict[str, str], paragraph: Paragraph | None) -> None:
        """Begin an element other than text, within ``paragraph`` if there is one."""
        ...

    def leave(self, name: str) -> None:
        """End such an element."""
        ...

    def paragraph(self, paragraph: Paragraph) -> None:
        """Take a finished paragraph; a text box ends before the paragraph that it hangs on."""
        ...


class ParagraphReader:
    """Turns XML events into paragraphs for a :class:`ParagraphSink`."""

    def __init__(self, sink: ParagraphSink) -> None:
        self._sink = sink
        self._open: list[Paragraph] = []
        self._runs = 0
        self._texts = 0
        self._skipped = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        if self._skipped or name in _SKIPPED:
            self._skipped += 1
        elif name == "w:p":
            self._open.append(Paragraph())
        elif name == "w:r":
            self._runs += 1
        elif name == "w:t":
            self._texts += 1
        elif name in _IN_RUN and self._runs and self._open:  # the same names define tab stops outside of runs
            self._open[-1].parts.append(_IN_RUN[name])
        else:
            self._sink.enter(name, attributes, self._open[-1] if self._open else None)

    def end(self, name: str) -> None:
        """End an element."""
        if self._skipped:
            self._skipped -= 1
        elif name == "w:p":
            self._sink.paragraph(self._open.pop())
        elif name == "w:r":
            self._runs -= 1
        elif name == "w:t":
            self._texts -= 1
        else:
            self._sink.leave(name)

    def text(self, data: str) -> None:
        """Take text, which counts only within ``w:t``."""
        if self._texts and self._open and not self._skipped:
            self._open[-1].parts.append(data)


__all__ = ["Paragraph", "ParagraphReader", "ParagraphSink"]
