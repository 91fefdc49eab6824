import io
import re

import pytest
from pypdf import PdfReader, PdfWriter
from pypdf.generic import DecodedStreamObject, NameObject
from reportlab.pdfgen import canvas

from lightrag.documents import Chunker, parse_document
from lightrag.errors import DocumentError
from tests.lightrag.documents.tokenizers_for_tests import MiniLMTokenizer

PAGES = (
    ["The Mill", "Wool was sold in spring, and the infor-", "mation was kept. The second mill was"],
    ["opened in May. It burnt down.", "Wages", "Wages rose by a well-", "known margin; the well-known margin of 3%."],
    ["The last line."],
)


def make_pdf(pages: tuple[list[str], ...] = PAGES, *, compress: bool = True, bookmarks: bool = True) -> bytes:
    target = io.BytesIO()
    drawing = canvas.Canvas(target, pageCompression=int(compress))
    drawing.setTitle("A History")
    drawing.setAuthor("Ann Smith")
    marks = {0: ("The Mill", 0), 1: ("Wages", 1)} if bookmarks else {}
    for number, lines in enumerate(pages):
        if number in marks:
            drawing.bookmarkPage(str(number))
            drawing.addOutlineEntry(marks[number][0], str(number), marks[number][1])
        text = drawing.beginText(50, 780)
        for line in lines:
            text.textLine(line)
        drawing.drawText(text)
        drawing.showPage()
    drawing.save()
    return target.getvalue()


def refused(data: bytes) -> DocumentError:
    with pytest.raises(DocumentError, match=r"'report\.pdf'") as caught:
        parse_document(data, source="report.pdf")
    return caught.value


def test_pages_and_bookmarks_are_sections_at_their_places() -> None:
    parsed = parse_document(make_pdf(), source="report.pdf")
    found = [(s.kind, s.label, s.level, parsed.text[s.start : s.start + 8]) for s in parsed.sections]
    assert found == [
        ("page", "1", 0, "The Mill"),
        ("heading", "The Mill", 1, "The Mill"),
        ("page", "2", 0, "opened i"),
        ("heading", "Wages", 2, "Wages\nWa"),
        ("page", "3", 0, "The last"),
    ]
    assert (parsed.title, parsed.media_type) == ("A History", "application/pdf")
    assert parsed.metadata == {"pages": 3, "author": "Ann Smith"}
    assert parsed.text.endswith("The last line.")


@pytest.mark.parametrize("form", ["{}", "- {} -", "Page {} of 4", "{} / 4"])
@pytest.mark.parametrize("first", [1, 117])
def test_page_numbers_do_not_cut_sentences(form: str, first: int) -> None:
    lines = (["The mill was founded", "and later"], ["sold to the"], ["county, which"], ["closed it."])
    pages = tuple([*page, form.format(first + index)] for index, page in enumerate(lines))
    parsed = parse_document(make_pdf(pages, bookmarks=False), source="report.pdf")
    assert parsed.text == "The mill was founded\nand later\nsold to the\ncounty, which\nclosed it."
    assert [section.label for section in parsed.sections] == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    "numbers", [["1958", "1959", "1960", "1961"], ["12", "7", "30", "2"], ["1", "2", "", ""]], ids=str
)
def test_numbers_that_do_not_count_pages_stay(numbers: list[str]) -> None:
    pages = tuple([number, "Wool was sold."] if number else ["Wool was sold."] for number in numbers)
    parsed = parse_document(make_pdf(pages, bookmarks=False), source="report.pdf")
    assert all(number in parsed.text for number in numbers)


def test_words_divided_at_a_line_end_are_joined_and_real_hyphens_kept() -> None:
    text = parse_document(make_pdf(), source="report.pdf").text
    assert "the information\nwas kept" in text
    assert "a well-known\nmargin" in text


def test_a_sentence_across_pages_stays_one_and_chunks_name_their_pages(minilm: MiniLMTokenizer) -> None:
    chunks = Chunker(minilm, 64).chunks(parse_document(make_pdf(), source="report.pdf"))
    assert any("The second mill was\nopened in May." in chunk.text and chunk.page == "1–2" for chunk in chunks)
    assert chunks[-1].page == "3"
    assert chunks[-1].heading == "The Mill › Wages"


def test_an_encrypted_file_is_refused_unless_its_password_is_empty() -> None:
    for password in ("secret", ""):
        writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf())))
        writer.encrypt(password, "owner", algorithm="AES-256")
        target = io.BytesIO()
        writer.write(target)
        if password:
            assert refused(target.getvalue()).reason == "encrypted"
        else:
            assert "The Mill" in parse_document(target.getvalue(), source="report.pdf").text


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9, 0.99])
def test_a_truncated_file_is_refused(kept: float) -> None:
    data = make_pdf()
    assert refused(data[: int(len(data) * kept)]).reason == "damaged"


def test_an_update_that_was_cut_off_is_refused() -> None:
    data = make_pdf()
    assert refused(data + b"\n7 0 obj\n<< /Type /Page").reason == "damaged"


def test_a_lost_page_or_damaged_stream_is_refused_rather_than_skipped() -> None:
    data = make_pdf(compress=False, bookmarks=False)
    page = data.index(b"/Contents")
    assert refused(data[: page - 20] + b"\0" * 60 + data[page + 40 :]).reason == "damaged"
    data = make_pdf((["A line of text that fills the page. " * 3] * 40,))
    start = re.search(rb"stream\r?\n", data).end() + 40  # type: ignore[union-attr]
    assert refused(data[:start] + b"!!!!" + data[start + 4 :]).reason == "damaged"


def test_a_scan_without_text_is_told_to_be_recognised_first() -> None:
    error = refused(make_pdf(([], []), bookmarks=False))
    assert error.reason == "no_text"
    assert "OCR" in str(error)


def test_pages_without_text_are_counted() -> None:
    parsed = parse_document(make_pdf((["Text."], [], []), bookmarks=False), source="report.pdf")
    assert parsed.metadata["pages_without_text"] == 2


def test_a_decompression_bomb_is_refused() -> None:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(make_pdf())))
    stream = DecodedStreamObject()
    stream.set_data(b" " * 90_000_000)
    writer.pages[0][NameObject("/Contents")] = writer._add_object(stream.flate_encode())
    target = io.BytesIO()
    writer.write(target)
    assert len(target.getvalue()) < 200_000
    assert refused(target.getvalue()).reason == "expands_too_much"


def test_noise_around_a_header_is_a_damaged_pdf_not_a_crash() -> None:
    for data in (b"%PDF-1.4\n%%EOF", b"%PDF-1.7\n" + bytes(range(256)) * 50 + b"startxref\n0\n%%EOF"):
        assert refused(data).reason in ("damaged", "no_text")
