"""Tells what kind of file some bytes are: content first, the name's extension only where content cannot say.

It reads no more than signatures; whether the file is sound is for its parser to find out.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

import lightrag.errors as errors

PLAIN: Final = "text/plain"
MARKDOWN: Final = "text/markdown"
HTML: Final = "text/html"
PDF: Final = "application/pdf"
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

SUFFIXES: Final[dict[str, str]] = {
    ".txt": PLAIN,
    ".text": PLAIN,
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".mkd": MARKDOWN,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".pdf": PDF,
    ".docx": DOCX,
}
"""Extensions of files that are read when a folder is ingested, with what they usually hold."""

_CURE: Final = "save it as PDF, DOCX, HTML, Markdown or plain text"
_FOREIGN: Final[tuple[tuple[bytes, str, str], ...]] = (
    # (signature, what it is, cure)
    (b"{\\rtf", "an RTF file", f"open it in a word processor and {_CURE}"),
    (b"%!PS", "a PostScript file", "convert it to PDF"),
    (b"\x89PNG", "a PNG image", "run OCR on it and ingest the resulting text or PDF"),
    (b"\xff\xd8\xff", "a JPEG image", "run OCR on it and ingest the resulting text or PDF"),
    (b"GIF8", "a GIF image", "run OCR on it and ingest the resulting text or PDF"),
    (b"II*\0", "a TIFF image", "run OCR on it and ingest the resulting text or PDF"),
    (b"MM\0*", "a TIFF image", "run OCR on it and ingest the resulting text or PDF"),
    (b"\x1f\x8b", "a gzip archive", "unpack it and ingest the files in it"),
    (b"BZh", "a bzip2 archive", "unpack it and ingest the files in it"),
    (b"\xfd7zXZ\0", "an xz archive", "unpack it and ingest the files in it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "unpack it and ingest the files in it"),
    (b"Rar!", "a RAR archive", "unpack it and ingest the files in it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it and ingest the files in it"),
    (b"PAR1", "a Parquet table", "ingest it as a table of documents, not as one document"),
    (b"SQLite format 3\0", "an SQLite database", "export its text"),
    (b"\x7fELF", "a program", _CURE),
    (b"MZ\x90\0", "a program", _CURE),
)
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_PDF_REACH: Final = 1024  # readers accept a header within the first kilobyte
_HTML_START: Final = re.compile(rb"(?:\s|<!--.*?-->|<\?xml[^>]*>)*<(?:!doctype\s+html|html|head|body)\b", re.I | re.S)
_HTML_TAG: Final = re.compile(
    rb"</?(?:p|div|h[1-6]|ul|ol|li|table|tr|td|br|span|a|b|i|em|strong|img|title|meta)\b[^>]*>", re.I
)
_HEAD_BYTES: Final = 65_536
_BLANK: Final = b"\0\xef\xbb\xbf\xff\xfe \t\r\n"


def suffix_of(source: str) -> str:
    """Return the lower-case extension of a path or URI, with its dot."""
    return PurePosixPath(source.split("?")[0].split("#")[0].replace("\\", "/")).suffix.lower()


def detect_media_type(data: bytes, source: str) -> str:
    """Return the media type that ``data`` will be read as.

    A file whose content is recognised is read as what it is, whatever its name says. Markdown cannot be told from
    plain text by content, so there the extension decides; text with any other extension is read as plain text, except
    where the name promises a PDF or DOCX file: that is what a failed download or export leaves behind.

    Raises:
        DocumentError: ``unsupported`` or ``encrypted``: the content is known and cannot be read; ``wrong_extension``:
            it is text under the name of a PDF or DOCX file.
    """
    head = data[:_HEAD_BYTES]
    if b"%PDF-" in head[:_PDF_REACH]:
        return PDF
    if head.startswith(_ZIP):
        return DOCX  # its parser says what else the archive is
    if head.startswith(_OLE):
        raise _ole_error(data, source)
    for signature, what, cure in _FOREIGN:
        if head.startswith(signature):
            raise errors.DocumentError(
                f"{source!r} is {what}, which holds no text that can be read: {cure}",
                subject=source,
                reason="unsupported",
            )
    suffix = suffix_of(source)
    usual = SUFFIXES.get(suffix, PLAIN)
    if usual in (PDF, DOCX) and head.strip(_BLANK):
        raise errors.DocumentError(
            f"{source!r} is named {suffix} but holds no {suffix[1:].upper()} document: get the document again, or give "
            "the file the extension of what it holds, for example .txt or .html",
            subject=source,
            reason="wrong_extension",
        )
    ascii_head = (
        head.replace(b"\0", b"").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").removeprefix(b"\xef\xbb\xbf")
    )
    if _HTML_START.match(ascii_head):
        return HTML
    if usual == HTML and not _HTML_TAG.search(ascii_head):
        return PLAIN
    return usual


def _ole_error(data: bytes, source: str) -> errors.DocumentError:
    if _OLE_ENCRYPTED in data:
        return errors.DocumentError(
            f"{source!r} is an Office document protected by a password: remove the protection and save it again",
            subject=source,
            reason="encrypted",
        )
    return errors.DocumentError(
        f"{source!r} is a document of Office 97-2003 (.doc, .xls or .ppt): open it and save it as .docx or PDF",
        subject=source,
        reason="unsupported",
    )


__all__ = ["DOCX", "HTML", "MARKDOWN", "PDF", "PLAIN", "SUFFIXES", "detect_media_type", "suffix_of"]
