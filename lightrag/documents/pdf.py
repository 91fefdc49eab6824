"""PDF: the text of each page in reading order, pages as sections, bookmarks as headings.

It reads the text layer only: of pages that are pictures it counts how many there are.
"""

from __future__ import annotations

import io
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import lightrag.errors as errors
from lightrag.documents.assembly import Parsed, TextBuilder
from lightrag.documents.normalise import normalise
from lightrag.documents.pdf_text import clean_pages, continues
from lightrag.types import MetadataValue

if TYPE_CHECKING:
    from pypdf import PdfReader

_END = b"%%EOF"
_OBJECT = re.compile(rb"\d \d+ obj\b")
_NO_TITLE = re.compile(
    r"untitled|anonymous|unspecified|microsoft \w+ - |.*\.(?:docx?|tex|dvi|indd|qxd|rtf|txt)\Z", re.I
)
_TITLE_CHARS = 300


class _Bookmark(NamedTuple):
    title: str
    level: int


def parse_pdf(data: bytes, source: str) -> Parsed:
    """Read a PDF file.

    Raises:
        DocumentError: ``encrypted``, ``damaged``, ``expands_too_much``, or ``no_text`` for scans without a text layer.
    """
    _refuse_truncated(data, source)
    with _pdf_errors(source), _without_guesses():
        reader = _open(data, source)
        pages = clean_pages([normalise(text) for text in _page_texts(reader, source)])
        labels = reader.page_labels
        bookmarks = _bookmarks(reader)
        properties: Mapping[str, Any] = reader.metadata or {}
        title, author = str(properties.get("/Title", "")), str(properties.get("/Author", ""))
    if not any(page.strip() for page in pages):
        raise errors.DocumentError(
            f"{source!r} has {len(pages)} pages but no text, so it is probably a scan: run OCR on it (for example "
            "with ocrmypdf) and ingest the result",
            subject=source,
            reason="no_text",
        )
    metadata: dict[str, MetadataValue] = {"pages": len(pages)}
    if blank := sum(not page.strip() for page in pages):
        metadata["pages_without_text"] = blank
    if author and not _NO_TITLE.match(author):
        metadata["author"] = author
    builder = _write(pages, labels, bookmarks)
    return builder.build(title="" if _NO_TITLE.match(title) else title, metadata=metadata)


def _refuse_truncated(data: bytes, source: str) -> None:
    """Readers repair a truncated file silently and lose what was cut off, so its end is looked at first."""
    end = data.rfind(_END)
    if end < 0 or _OBJECT.search(data, end):
        raise errors.DocumentError(
            f"{source!r} is a PDF without its end, so it was probably cut off while being copied: get a complete copy",
            subject=source,
            reason="damaged",
        )


@contextmanager
def _pdf_errors(source: str) -> Iterator[None]:
    """Map what pypdf raises; of broken files it says that they may raise anything."""
    from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

    try:
        yield
    except (errors.DocumentError, MemoryError):
        raise
    except (FileNotDecryptedError, DependencyError) as error:
        raise _encrypted(source) from error
    except LimitReachedError as error:
        if isinstance(error.__cause__, zlib.error):
            raise _damaged(source, str(error.__cause__)) from error
        raise errors.DocumentError(
            f"{source!r} expands beyond what a page holds ({error}), as a decompression bomb does: if it is a real "
            "document, print it to a new PDF",
            subject=source,
            reason="expands_too_much",
        ) from error
    except Exception as error:
        raise _damaged(source, f"{type(error).__name__}: {error}") from error


def _without_guesses() -> AbstractContextManager[object]:
    """Switch off that pypdf reads on behind the damage in a compressed stream, which gives wrong or missing text."""
    from pypdf import apply_configuration

    return apply_configuration(zlib_maximum_recovery_input_length=0)


def _open(data: bytes, source: str) -> PdfReader:
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data))
    # Many files are encrypted with an empty password, only to forbid printing; those are readable.
    if reader.is_encrypted and not reader.decrypt(""):
        raise _encrypted(source)
    return reader


def _page_texts(reader: PdfReader, source: str) -> Iterator[str]:
    from pypdf.generic import ArrayObject, StreamObject

    declared, found = reader.root_object["/Pages"].get("/Count", 0), len(reader.pages)  # type: ignore[attr-defined]
    if found < declared:
        raise _damaged(source, f"{declared - found} of its {declared} pages cannot be found")
    for number, page in enumerate(reader.pages, start=1):
        if "/Contents" in page and not isinstance(page["/Contents"], ArrayObject | StreamObject):
            raise _damaged(source, f"the content of page {number} is missing")
        yield page.extract_text()


def _bookmarks(reader: PdfReader) -> dict[int, list[_Bookmark]]:
    """Return the bookmarks of each page by its index."""
    found: dict[int, list[_Bookmark]] = defaultdict(list)

    def collect(items: Sequence[Any], level: int) -> None:
        for item in items:
            if isinstance(item, list):
                collect(item, level + 1)
                continue
            page = reader.get_destination_page_number(item)
            title = " ".join(normalise(str(item.title or "")).split())[:_TITLE_CHARS]
            if page is not None and page >= 0 and title:
                found[page].append(_Bookmark(title, level))

    collect(reader.outline, 1)
    return found


def _write(pages: Sequence[str], labels: Sequence[str], bookmarks: dict[int, list[_Bookmark]]) -> TextBuilder:
    builder = TextBuilder()
    before = ""
    for index, (page, label) in enumerate(zip(pages, labels, strict=True)):
        if not page.strip():
            continue
        builder.page(label)
        builder.block(page, gap="\n" if continues(before, page) else "\n\n")
        start = builder.length - len(page)
        at = 0
        for bookmark in bookmarks.get(index, ()):
            # Where the words of a bookmark are not on its page, the page itself is the best place known.
            found = _find(bookmark.title, page, at)
            if found >= 0:
                at = found
            builder.mark_heading(bookmark.title, start + max(found, 0), bookmark.level)
        before = page
    return builder


def _find(title: str, page: str, at: int) -> int:
    pattern = r"\s+".join(map(re.escape, title.split()))
    match = re.compile(pattern, re.IGNORECASE).search(page, at)
    return match.start() if match else -1


def _encrypted(source: str) -> errors.DocumentError:
    return errors.DocumentError(
        f"{source!r} is a PDF protected by a password: remove the protection (for example with qpdf --decrypt) and "
        "try again",
        subject=source,
        reason="encrypted",
    )


def _damaged(source: str, what: str) -> errors.DocumentError:
    return errors.DocumentError(
        f"{source!r} is a damaged PDF ({what}): get a complete copy, or repair it by printing it to a new PDF",
        subject=source,
        reason="damaged",
    )


__all__ = ["parse_pdf"]
