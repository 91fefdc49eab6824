"""Lays out lists and tables as readable lines, the same for every format that has them."""

from __future__ import annotations

from collections.abc import Sequence

from lightrag.documents.assembly import TextBuilder

CELL_GAP = " | "
_MAX_INDENT = 8
"""Deeper lists are not indented further: their text would grow with the square of the depth."""


class BlockWriter:
    """Writes paragraphs, headings, lists and tables to a :class:`TextBuilder` in reading order."""

    def __init__(self, builder: TextBuilder) -> None:
        self._builder = builder
        self._lists: list[int | None] = []
        """The next number of each open list; ``None`` for bullets."""
        self._marker = ""
        """Bullet or number that the next block of a list item starts with."""
        self._gap = "\n\n"

    def heading(self, text: str, level: int) -> None:
        """Write a heading, 1 for the outermost level."""
        self._builder.heading(text, level)
        self._gap = "\n\n"

    def open_list(self, first: int | None = None) -> None:
        """Begin a list, or one within an item; ``first`` is the number of its first item, ``None`` for bullets."""
        self._lists.append(first)

    def close_list(self) -> None:
        """End the innermost list."""
        self._lists.pop()
        self._marker = ""
        if not self._lists:
            self._gap = "\n\n"

    def open_item(self) -> None:
        """Begin an item of the innermost list."""
        number = self._lists[-1]
        self._marker = "- " if number is None else f"{number}. "
        if number is not None:
            self._lists[-1] = number + 1

    def block(self, text: str) -> None:
        """Write a paragraph, or the next one of a list item; blank text is left out."""
        if not text.strip():
            return
        if not self._lists:
            self._builder.block(text, gap=self._gap)
            self._gap = "\n\n"
            return
        indent = "  " * min(len(self._lists) - 1, _MAX_INDENT)
        first, *others = text.split("\n")
        lines = [indent + (self._marker or "  ") + first, *(f"{indent}  {line}" for line in others)]
        self._builder.block("\n".join(lines), gap=self._gap)
        self._marker = ""
        self._gap = "\n"

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """Write a table, one line per row; rows without any text are left out."""
        lines = [CELL_GAP.join(" ".join(cell.split()) for cell in row) for row in rows if any(map(str.strip, row))]
        self.block("\n".join(lines))


__all__ = ["CELL_GAP", "BlockWriter"]
