import io
import re
import zipfile

import docx
import pytest
from docx.oxml.ns import nsdecls

from lightrag.documents import parse_document
from lightrag.errors import DocumentError

W = nsdecls("w")


def save(document: "docx.document.Document") -> bytes:
    target = io.BytesIO()
    document.save(target)
    return target.getvalue()


def make_docx() -> bytes:
    document = docx.Document()
    document.core_properties.author = "Ann"
    document.add_heading("A History", 0)
    document.add_heading("Mills", 1)
    document.add_paragraph("Wool was\tsold.")
    document.add_paragraph("first", style="List Bullet")
    document.add_paragraph("second", style="List Bullet")
    document.add_paragraph("one", style="List Number")
    document.add_paragraph("two", style="List Number")
    table = document.add_table(2, 2)
    for row, cells in enumerate((("Year", "Bales"), ("1911", "700\nor so"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    document.add_heading("Wages", 2)
    document.add_paragraph("They rose.")
    return save(document)


def rebuild(data: bytes, **parts: bytes) -> bytes:
    """Replace parts, given by the last word of their names."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, parts.get(name.rpartition("/")[2].removesuffix(".xml"), old.read(name)))
    return target.getvalue()


def body(xml: str) -> bytes:
    return f"<w:document {W}><w:body>{xml}</w:body></w:document>".encode()


def refused(data: bytes, name: str = "report.docx") -> DocumentError:
    with pytest.raises(DocumentError, match=re.escape(f"'{name}'")) as caught:
        parse_document(data, source=name)
    return caught.value


def test_paragraphs_lists_and_tables_come_in_reading_order() -> None:
    parsed = parse_document(make_docx(), source="report.docx")
    assert parsed.text == (
        "A History\n\nMills\n\nWool was\tsold.\n\n- first\n- second\n1. one\n2. two\n\n"
        "Year | Bales\n1911 | 700 or so\n\nWages\n\nThey rose."
    )
    assert [(s.label, s.level, parsed.text[s.start :][:5]) for s in parsed.sections] == [
        ("Mills", 1, "Mills"),
        ("Wages", 2, "Wages"),
    ]
    assert parsed.title == "A History"
    assert parsed.metadata["author"] == "Ann"


def test_what_other_readers_lose_is_read_and_what_was_deleted_is_not() -> None:
    xml = (
        "<w:sdt><w:sdtContent><w:p><w:r><w:t>controlled</w:t></w:r></w:p></w:sdtContent></w:sdt>"
        "<w:p><w:ins><w:r><w:t>inserted</w:t></w:r></w:ins><w:del><w:r><w:delText>deleted</w:delText></w:r></w:del></w:p>"
        "<w:p><w:moveFrom><w:r><w:t>moved away</w:t></w:r></w:moveFrom><w:hyperlink><w:r><w:t>linked</w:t></w:r>"
        "</w:hyperlink></w:p>"
        "<w:p><w:r><w:t>host</w:t></w:r><w:r><w:pict><w:txbxContent><w:p><w:r><w:t>boxed</w:t></w:r></w:p>"
        "</w:txbxContent></w:pict></w:r></w:p>"
        "<w:p><w:pPr><w:tabs><w:tab w:val='left'/></w:tabs></w:pPr><w:r><w:t>a</w:t><w:br/><w:t>b</w:t></w:r></w:p>"
    )
    text = parse_document(rebuild(make_docx(), document=body(xml)), source="a.docx").text
    assert text == "controlled\n\ninserted\n\nlinked\n\nboxed\n\nhost\n\na\nb"


def test_footnotes_are_numbered_and_follow_the_text() -> None:
    data = make_docx()
    target = io.BytesIO(data)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "word/footnotes.xml",
            f"<w:footnotes {W}><w:footnote w:id='7'><w:p><w:r><w:t>See page 9.</w:t></w:r></w:p></w:footnote>"
            "</w:footnotes>",
        )
    text = body("<w:p><w:r><w:t>Wool</w:t></w:r><w:r><w:footnoteReference w:id='7'/></w:r></w:p>")
    assert (
        parse_document(rebuild(target.getvalue(), document=text), source="a.docx").text == "Wool[1]\n\n[1] See page 9."
    )


def test_a_frame_of_one_cell_keeps_its_paragraphs_and_nested_tables_their_text() -> None:
    paragraph = "<w:p><w:r><w:t>{}</w:t></w:r></w:p>"
    cell = "<w:tbl><w:tr><w:tc>{}</w:tc></w:tr></w:tbl>"
    frame = cell.format(paragraph.format("one") + paragraph.format("two"))
    inner, other = cell.format(paragraph.format("in")), paragraph.format("out")
    nested = f"<w:tbl><w:tr><w:tc>{inner}</w:tc><w:tc>{other}</w:tc></w:tr></w:tbl>"
    text = parse_document(rebuild(make_docx(), document=body(frame + nested)), source="a.docx").text
    assert text == "one\n\ntwo\n\nin | out"


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_refused(kept: float) -> None:
    data = make_docx()
    assert refused(data[: int(len(data) * kept)]).reason == "damaged"


def test_damaged_bytes_are_refused() -> None:
    data = make_docx()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        start = archive.getinfo("word/document.xml").header_offset + 200
    assert refused(data[:start] + b"\xff" * 40 + data[start + 40 :]).reason == "damaged"


def test_a_bomb_is_refused_before_it_is_inflated() -> None:
    data = rebuild(make_docx(), document=body("<w:p/>" + " " * 80_000_000))
    assert len(data) < 300_000
    error = refused(data)
    assert error.reason == "expands_too_much"


def test_a_bomb_that_lies_about_its_size_is_never_inflated_beyond_the_lie() -> None:
    bomb = rebuild(make_docx(), document=body("<w:p/>" + " " * 80_000_000))
    with zipfile.ZipFile(io.BytesIO(bomb)) as archive:
        size = archive.getinfo("word/document.xml").file_size
    lying = bomb.replace(size.to_bytes(4, "little"), (1_000).to_bytes(4, "little"))
    assert refused(lying).reason == "damaged"


def test_entities_are_refused() -> None:
    xml = b'<?xml version="1.0"?><!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><d>&b;</d>'
    error = refused(rebuild(make_docx(), document=xml))
    assert error.reason == "damaged"
    assert "document type" in str(error)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ({"xl/workbook.xml": b"", "[Content_Types].xml": b"<Types/>"}, "Excel"),
        ({"ppt/presentation.xml": b"", "[Content_Types].xml": b"<Types/>"}, "PowerPoint"),
        ({"mimetype": b"application/epub+zip", "META-INF/container.xml": b""}, "EPUB"),
        ({"mimetype": b"application/vnd.oasis.opendocument.text", "content.xml": b""}, "OpenDocument"),
        ({"readme.txt": b"hello"}, "ZIP archive"),
    ],
)
def test_other_archives_are_named(parts: dict[str, bytes], what: str) -> None:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    error = refused(target.getvalue())
    assert error.reason == "unsupported"
    assert what in str(error)


def test_password_protected_office_files_are_named() -> None:
    container = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600
    assert refused(container + "EncryptedPackage".encode("utf-16-le")).reason == "encrypted"
    error = refused(container, "old.doc")
    assert error.reason == "unsupported"
    assert ".docx" in str(error)


def test_a_large_document_is_read_in_bounded_memory() -> None:
    paragraph = "<w:p><w:r><w:t>Wool was sold in spring, number {}.</w:t></w:r></w:p>"
    data = rebuild(make_docx(), document=body("".join(paragraph.format(number) for number in range(100_000))))
    assert parse_document(data, source="a.docx").text.endswith("number 99999.")
