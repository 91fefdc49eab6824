import io
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3

from lightrag.documents import parse_document, read_document
from lightrag.errors import DocumentError, UsageError
from tests.lightrag.documents.test_docx import make_docx
from tests.lightrag.documents.test_pdf import make_pdf


@pytest.mark.parametrize("name", ["a.txt", "a.docx", "a.md", "noextension", "a.pdf.html"])
def test_content_decides_over_a_wrong_extension(name: str) -> None:
    assert parse_document(make_pdf(), source=name).media_type == "application/pdf"
    assert "wordprocessingml" in parse_document(make_docx(), source=name).media_type


@pytest.mark.parametrize("name", ["a.txt", "a.md", "noextension", "a.pdf.html"])
def test_pages_are_read_as_such_under_names_of_other_texts(name: str) -> None:
    assert parse_document(b"<!DOCTYPE html><p>Hi <b>you</b></p>", source=name).text == "Hi you"


@pytest.mark.parametrize("data", [b"not a document", b"<!DOCTYPE html><p>404 Not Found</p>", "Grüße".encode("utf-16")])
@pytest.mark.parametrize("name", ["report.pdf", "https://host/Report.DOCX?version=3"])
def test_text_under_the_name_of_a_document_is_refused_with_a_cure(name: str, data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"get the document again, or give the file the extension") as caught:
        parse_document(data, source=name)
    assert (caught.value.reason, caught.value.subject) == ("wrong_extension", name)


@pytest.mark.parametrize("name", ["a.html", "a.log", "a.csv", "A.TXT", "s3://b/a.txt?version=3"])
def test_text_with_any_name_is_read_as_text_without_loss(name: str) -> None:
    parsed = parse_document(b"# one\n* two *\n< three", source=name)
    assert (parsed.media_type, parsed.text) == ("text/plain", "# one\n* two *\n< three")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x89PNG\r\n\x1a\n....", "PNG"),
        (b"\xff\xd8\xff\xe0....", "JPEG"),
        (b"{\\rtf1 hello}", "RTF"),
        (b"\x1f\x8b\x08....", "gzip"),
        (b"%!PS-Adobe", "PostScript"),
    ],
)
def test_known_foreign_formats_are_named_with_a_cure(data: bytes, what: str) -> None:
    with pytest.raises(DocumentError, match=rf"'scan\.pdf' is .*{what}.*: ") as caught:
        parse_document(data, source="scan.pdf")
    assert caught.value.reason == "unsupported"
    assert caught.value.subject == "scan.pdf"


@pytest.mark.parametrize("data", [b"", b" \n\t\r\n", b"\xef\xbb\xbf", b"<html><body> </body></html>"])
def test_empty_files_are_refused(data: bytes) -> None:
    with pytest.raises(DocumentError, match=r"'a\.txt'") as caught:
        parse_document(data, source="a.txt")
    assert caught.value.reason == "empty"


def test_identity_comes_from_the_source_and_the_hash_from_the_bytes() -> None:
    one, changed = (parse_document(data, source="x/a.txt") for data in (b"one", b"two"))
    assert one.document_id == changed.document_id != parse_document(b"one", source="y/a.txt").document_id
    assert one.content_hash == blake3(b"one").hexdigest() != changed.content_hash
    assert parse_document(b"one", source="x/a.txt", document_id="mine").document_id == "mine"


def test_given_metadata_and_title_are_stronger_than_the_file() -> None:
    parsed = parse_document(b"---\ntitle: T\nyear: 1\nby: me\n---\nx", source="a.md", title="G", metadata={"year": 2})
    assert (parsed.title, parsed.metadata) == ("G", {"year": 2, "by": "me"})


def test_large_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    class Watched(io.BytesIO):
        longest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            assert size is not None
            assert size >= 0
            self.longest = max(self.longest, size)
            return super().read(size)

    file = Watched(b"x" * 10_000)
    with pytest.raises(DocumentError, match=r"'big.txt'.*1,000") as caught:
        read_document(file, source="big.txt", max_bytes=1_000)
    assert caught.value.reason == "too_large"
    assert file.longest <= 1_001
    sparse = tmp_path / "sparse.txt"
    with sparse.open("wb") as opened:
        opened.truncate(10**12)  # reading it would take minutes and all memory
    with pytest.raises(DocumentError, match="1,000,000,000,000"):
        read_document(sparse)
    with pytest.raises(DocumentError, match="limit is 3"):
        parse_document(b"four", source="a.txt", max_bytes=3)


def test_a_path_or_an_open_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "wool.md"
    path.write_bytes(b"# Wool")
    assert read_document(path).source == str(path)
    with path.open("rb") as opened:
        assert read_document(opened, source="notes/wool.md").source == "notes/wool.md"
    for missing in (tmp_path / "no.txt", tmp_path):
        with pytest.raises(DocumentError, match="cannot be read") as caught:
            read_document(missing)
        assert caught.value.reason == "unreadable"


def test_a_document_needs_a_source() -> None:
    with pytest.raises(UsageError, match="source"):
        parse_document(b"x", source="")
    with pytest.raises(UsageError, match="source"):
        read_document(io.BytesIO(b"x"))


def test_importing_the_package_loads_no_parser() -> None:
    code = (
        "import sys, lightrag.documents; heavy = {'pypdf', 'docx', 'lxml', 'selectolax', 'markdown_it', 'py3langid', "
        "'charset_normalizer', 'yaml', 'numpy'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
