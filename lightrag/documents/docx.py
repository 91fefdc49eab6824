"""Word documents: paragraphs, headings, lists, tables, text boxes and notes in reading order.

The parts are read as streams of XML events, so memory does not grow with pictures, and what python-docx does not show
(content controls, accepted insertions, text boxes, notes) is not lost. Deleted text, headers and footers are left out.
"""

from __future__ import annotations

from typing import TypeVar

import lightrag.errors as errors
from lightrag.documents.archive import Archive
from lightrag.documents.assembly import Parsed, TextBuilder
from lightrag.documents.blocks import BlockWriter
from lightrag.documents.docx_styles import Numbering, StyleSheet
from lightrag.documents.docx_text import Paragraph, ParagraphReader
from lightrag.documents.xml_events import XmlReader, read_xml

_Reader = TypeVar("_Reader", bound=XmlReader)

_TYPES = "[Content_Types].xml"
_MAIN_TYPES = ("wordprocessingml.document.main+xml", "ms-word.document.macroEnabled.main+xml")
_NOTE_MARKS = {"w:footnoteReference": "w:footnote", "w:endnoteReference": "w:endnote"}
_PROPERTIES = {
    "dc:title": "title",
    "dc:creator": "author",
    "dcterms:created": "created",
    "dcterms:modified": "modified",
}
_INDENT = "  "


def parse_docx(data: bytes, source: str) -> Parsed:
    """Read a Word document (DOCX, also with macros, which are ignored).

    Raises:
        DocumentError: ``damaged``, ``encrypted``, ``expands_too_much``, or ``unsupported`` where the archive holds
            something else.
    """
    with Archive(data, source) as archive:
        main = _main_part(archive, source)
        folder = main.rpartition("/")[0]
        styles = _read(archive, f"{folder}/styles.xml", StyleSheet(), source)
        numbering = _read(archive, f"{folder}/numbering.xml", Numbering(), source)
        properties = _read(archive, "docProps/core.xml", _Properties(), source)
        body = _Body(styles, numbering)
        read_xml(archive.blocks(main), ParagraphReader(body), source)
        for kind, part in (("w:footnote", "footnotes"), ("w:endnote", "endnotes")):
            notes = _Notes(kind)
            _read(archive, f"{folder}/{part}.xml", ParagraphReader(notes), source)
            body.write_notes(kind, notes.texts)
        return body.builder.build(
            title=properties.values.get("title", "") or body.title, metadata=properties.metadata()
        )


def _read(archive: Archive, part: str, reader: _Reader, source: str) -> _Reader:
    if part in archive:
        read_xml(archive.blocks(part), reader, source)
    return reader


def _main_part(archive: Archive, source: str) -> str:
    types = _read(archive, _TYPES, _ContentTypes(), source)
    for part, kind in types.parts.items():
        if kind.endswith(_MAIN_TYPES) and part in archive:
            return part
    if "word/document.xml" in archive:
        return "word/document.xml"
    what, cure = _other_content(archive)
    raise errors.DocumentError(f"{source!r} is {what}: {cure}", subject=source, reason="unsupported")


def _other_content(archive: Archive) -> tuple[str, str]:
    names = archive.names()
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook", "save its sheets as CSV or PDF"
    if any(name.startswith("ppt/") for name in names):
        return "a PowerPoint presentation", "save it as PDF"
    if _TYPES in archive:
        return "a Word document without its text part", "get a complete copy, or let Word repair and save it"
    if "META-INF/container.xml" in archive:
        return "an EPUB book", "convert it to HTML or PDF"
    if "content.xml" in archive and "mimetype" in archive:
        return "an OpenDocument file", "save it as DOCX or PDF"
    return "a ZIP archive", "unpack it and ingest the files in it"


class _ContentTypes:
    def __init__(self) -> None:
        self.parts: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "ct:Override":
            self.parts[attributes.get("PartName", "").lstrip("/")] = attributes.get("ContentType", "")

    def end(self, name: str) -> None: ...

    def text(self, data: str) -> None: ...


class _Properties:
    """Title, author and dates from ``core.xml``."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self._open = ""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._open = _PROPERTIES.get(name, "")

    def end(self, name: str) -> None:
        self._open = ""

    def text(self, data: str) -> None:
        if self._open:
            self.values[self._open] = self.values.get(self._open, "") + data.strip()

    def metadata(self) -> dict[str, str]:
        return {name: value for name, value in self.values.items() if value and name != "title"}


class _Notes:
    """Texts of footnotes or endnotes by their id."""

    def __init__(self, kind: str) -> None:
        self.texts: dict[str, str] = {}
        self._kind = kind
        self._id = ""

    def enter(self, name: str, attributes: dict[str, str], paragraph: Paragraph | None) -> None:
        if name == self._kind:
            self._id = attributes.get("w:id", "")

    def leave(self, name: str) -> None: ...

    def paragraph(self, paragraph: Paragraph) -> None:
        self.texts[self._id] = f"{self.texts.get(self._id, '')} {paragraph.text}".strip()


class _Body:
    """Writes the paragraphs and tables of the main part."""

    def __init__(self, styles: StyleSheet, numbering: Numbering) -> None:
        self.builder = TextBuilder()
        self.title = ""
        self._writer = BlockWriter(self.builder)
        self._styles = styles
        self._numbering = numbering
        self._tables: list[list[list[list[str]]]] = []
        """Paragraphs of cells of rows of each open table, the innermost last."""
        self._notes: dict[tuple[str, str], int] = {}
        """Numbers of the notes referred to, by kind and id."""
        self._in_list = False

    def enter(self, name: str, attributes: dict[str, str], paragraph: Paragraph | None) -> None:
        if name == "w:tbl":
            self._tables.append([])
        elif name == "w:tr" and self._tables:
            self._tables[-1].append([])
        elif name == "w:tc" and self._tables and self._tables[-1]:
            self._tables[-1][-1].append([])
        elif paragraph is None:
            return
        elif name in _NOTE_MARKS:
            key = (_NOTE_MARKS[name], attributes.get("w:id", ""))
            paragraph.parts.append(f"[{self._notes.setdefault(key, len(self._notes) + 1)}]")
        else:
            paragraph.set(name, attributes.get("w:val", ""))

    def leave(self, name: str) -> None:
        if name == "w:tbl" and self._tables:
            self._write_table(self._tables.pop())

    def paragraph(self, paragraph: Paragraph) -> None:
        text = paragraph.text
        if not text.strip():
            return
        if self._tables and self._tables[-1] and self._tables[-1][-1]:
            self._tables[-1][-1][-1].append(text)
            return
        level = self._styles.heading_level(paragraph.style) if paragraph.outline is None else paragraph.outline + 1
        if level is not None and level < 10:
            self._writer.heading(text, level)
            self._in_list = False
        else:
            self._write_text(paragraph, text)

    def _write_text(self, paragraph: Paragraph, text: str) -> None:
        if not self.title and self._styles.is_title(paragraph.style):
            self.title = text
        list_id, list_level = self._styles.list_place(paragraph.style)
        list_id = list_id if paragraph.list_id is None else paragraph.list_id
        list_level = list_level if paragraph.list_level is None else paragraph.list_level
        in_list = list_id not in ("", "0")
        if in_list:
            text = _INDENT * min(list_level, 8) + self._numbering.next_marker(list_id, list_level) + text
        self.builder.block(text, gap="\n" if in_list and self._in_list else "\n\n")
        self._in_list = in_list

    def _write_table(self, rows: list[list[list[str]]]) -> None:
        self._in_list = False
        if self._tables:  # a table in a cell of another one
            if self._tables[-1] and self._tables[-1][-1]:
                self._tables[-1][-1][-1].extend(" ".join(cell) for row in rows for cell in row if cell)
        elif sum(map(len, rows)) == 1:  # a frame around text
            for text in rows[0][0] if rows[0] else rows[-1][0]:
                self._writer.block(text)
        else:
            self._writer.table([[" ".join(cell) for cell in row] for row in rows])

    def write_notes(self, kind: str, texts: dict[str, str]) -> None:
        """Write the notes of one kind that the text refers to, in the order of their numbers."""
        for (note_kind, note_id), number in self._notes.items():
            if note_kind == kind and texts.get(note_id):
                self.builder.block(f"[{number}] {texts[note_id]}")


__all__ = ["parse_docx"]
