"""Render the PDF and the DOCX of the example corpus from their sources, and count its words.

The Markdown and the text file of the corpus are their own sources. Dates and identifiers inside the rendered files are
fixed, so building twice gives equal bytes. Run it after changing a file in ``examples/source``.

    python -m examples.build_corpus
"""

from __future__ import annotations

import argparse
import datetime as dt
import io
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
SOURCE = HERE / "source"
CORPUS = HERE / "corpus"
REPORTS = "annual-reports-1958-1967.pdf"
MINUTES = "board-minutes.docx"
COMPANY = "Aldermere Ferry and Boatyard Company"
MODIFIED = dt.datetime(1968, 3, 9, 12, 0, 0)
ZIP_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest date a ZIP archive can hold."""

_FONT = "Times-Roman"
_CELL, _ROW, _GAP = 8.5, 12.0, 12.0
"""Size of type in tables, height of a row, and least distance between columns, in points."""
_EMPHASIS = re.compile(r"(\*\*.+?\*\*|\*.+?\*)")
_TABLE_RULE = re.compile(r"\|[\s|:-]+\|")

BlockKind = Literal["heading", "paragraph", "item", "table"]


@dataclass(frozen=True, slots=True)
class Block:
    """A heading, a paragraph, an item of a list, or a table."""

    kind: BlockKind
    text: str = ""
    level: int = 0
    rows: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Run:
    """Text in one style."""

    text: str
    bold: bool = False
    italic: bool = False


def blocks(markdown: str) -> Iterator[Block]:
    """Read the little Markdown that the sources are written in: headings, paragraphs, items, tables, emphasis."""
    for part in re.split(r"\n\s*\n", markdown.strip()):
        lines = part.splitlines()
        heading = re.match(r"(#+) (.+)", part)
        if heading:
            yield Block("heading", heading[2].strip(), len(heading[1]))
        elif lines[0].startswith("|"):
            rows = [line for line in lines if not _TABLE_RULE.fullmatch(line)]
            yield Block("table", rows=tuple(tuple(cell.strip() for cell in row[1:-1].split("|")) for row in rows))
        elif lines[0].startswith("- "):
            yield from (Block("item", line[2:].strip()) for line in lines)
        else:
            yield Block("paragraph", " ".join(line.strip() for line in lines))


def runs(text: str) -> Iterator[Run]:
    """Cut a line into plain, *italic* and **bold** text."""
    for part in _EMPHASIS.split(text):
        if part.startswith("**"):
            yield Run(part[2:-2], bold=True)
        elif part.startswith("*"):
            yield Run(part[1:-1], italic=True)
        elif part:
            yield Run(part)


def render_pdf(source: Sequence[Block], title: str) -> bytes:
    """Set blocks as a PDF: every heading of the first level opens a page, and headings become bookmarks."""
    from reportlab.lib.pagesizes import A5
    from reportlab.platypus import PageBreak, SimpleDocTemplate

    story: list[Any] = []
    for number, block in enumerate(source):
        if block.kind == "heading" and block.level == 1 and number:
            story.append(PageBreak())
        story.append(_flowable(block, f"block-{number}"))
    buffer = io.BytesIO()
    SimpleDocTemplate(
        buffer, pagesize=A5, title=title, author=COMPANY, invariant=1, rightMargin=42, leftMargin=42
    ).build(story, onFirstPage=_page_number, onLaterPages=_page_number)
    return buffer.getvalue()


def _flowable(block: Block, key: str) -> Any:
    from reportlab.lib.styles import ParagraphStyle, getSampleStyleSheet
    from reportlab.platypus import Flowable, Paragraph

    class Heading(Paragraph):  # type: ignore[misc]  # reportlab has no types
        """A heading that is a bookmark as well."""

        def draw(self) -> None:
            self.canv.bookmarkHorizontal(key, 0, 0)
            self.canv.addOutlineEntry(block.text, key, block.level - 1)
            super().draw()

    class Table(Flowable):  # type: ignore[misc]  # reportlab has no types
        """A table whose rows are lines of text.

        The table of reportlab ends every cell with a line feed, so that readers take each cell for a line.
        """

        spaceBefore = spaceAfter = 8

        def wrap(self, available: float, _: float) -> tuple[float, float]:
            self.stops = _tab_stops(block.rows, self.canv.stringWidth)
            self.width, self.height = available, _ROW * len(block.rows)
            return self.width, self.height

        def draw(self) -> None:
            text = self.canv.beginText()
            text.setFont(_FONT, _CELL)
            for number, row in enumerate(block.rows, start=1):
                for stop, cell in zip(self.stops, row, strict=True):
                    text.setTextOrigin(stop, self.height - number * _ROW + 3)
                    text.textOut(cell)
            self.canv.drawText(text)
            self.canv.line(0, self.height - _ROW, self.width, self.height - _ROW)

    sheet = getSampleStyleSheet()
    if block.kind == "table":
        return Table()
    if block.kind == "heading":
        return Heading(_marked_up(block.text), sheet[f"Heading{block.level}"])
    body = ParagraphStyle("body", sheet["BodyText"], fontName=_FONT, fontSize=10, leading=13)
    return Paragraph(_marked_up(block.text), body, bulletText="•" if block.kind == "item" else None)


def _tab_stops(rows: Sequence[Sequence[str]], width: Callable[[str, str, float], float]) -> list[float]:
    """Where each column starts, in points."""
    widths = [max(width(cell, _FONT, _CELL) for cell in column) + _GAP for column in zip(*rows, strict=True)]
    return [sum(widths[:column]) for column in range(len(widths))]


def _marked_up(text: str) -> str:
    tags = {(True, False): "<b>{}</b>", (False, True): "<i>{}</i>", (False, False): "{}"}
    return "".join(tags[run.bold, run.italic].format(escape(run.text)) for run in runs(text))


def _page_number(canvas: Any, document: Any) -> None:
    canvas.setFont(_FONT, 8)
    canvas.drawCentredString(document.pagesize[0] / 2, 20, str(document.page))


def render_docx(source: Sequence[Block], title: str) -> bytes:
    """Write blocks as a Word document."""
    import docx

    document = docx.Document()
    properties = document.core_properties
    properties.title, properties.author, properties.last_modified_by = title, COMPANY, COMPANY
    properties.created = properties.modified = MODIFIED
    for block in source:
        if block.kind == "table":
            _add_table(document, block)
        elif block.kind == "heading":
            document.add_heading(block.text, block.level)
        else:
            paragraph = document.add_paragraph(style="List Bullet" if block.kind == "item" else None)
            _add_runs(paragraph, block.text)
    buffer = io.BytesIO()
    document.save(buffer)
    return _with_fixed_dates(buffer.getvalue())


def _add_table(document: Any, block: Block) -> None:
    table = document.add_table(rows=0, cols=len(block.rows[0]), style="Table Grid")
    for row in block.rows:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            _add_runs(cell.paragraphs[0], text)


def _add_runs(paragraph: Any, text: str) -> None:
    for run in runs(text):
        added = paragraph.add_run(run.text)
        added.bold, added.italic = run.bold or None, run.italic or None


def _with_fixed_dates(archive: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            entry = zipfile.ZipInfo(name, ZIP_DATE)
            new.writestr(entry, old.read(name), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def build() -> dict[str, bytes]:
    """Render what is rendered, by the name of the file in the corpus."""
    reports = list(blocks((SOURCE / "annual-reports.md").read_text(encoding="utf-8")))
    minutes = list(blocks((SOURCE / "board-minutes.md").read_text(encoding="utf-8")))
    return {
        REPORTS: render_pdf(reports, f"{COMPANY}: annual reports, 1958 to 1967"),
        MINUTES: render_docx(minutes, f"{COMPANY}: minutes of the board, 1959 to 1967"),
    }


def count_words(corpus: Path = CORPUS) -> dict[str, int]:
    """Words of each document of a corpus as the product reads it."""
    from lightrag.documents import parse_document

    return {
        path.name: len(parse_document(path.read_bytes(), source=path.name).text.split())
        for path in sorted(corpus.iterdir())
    }


def main() -> int:
    """Write the rendered files and print how long the corpus is."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    for name, data in build().items():
        (CORPUS / name).write_bytes(data)
    words = count_words()
    for name, count in words.items():
        print(f"{count:7,} words  {name}")
    print(f"{sum(words.values()):7,} words together")
    return 0


if __name__ == "__main__":
    sys.exit(main())
