"""Turns the bytes of a file into a document, whatever its format, or says exactly why it cannot.

It decides the format, applies the limits every format shares and names the document; parsers do the rest.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from blake3 import blake3

import lightrag.errors as errors
from lightrag.documents.assembly import Parsed
from lightrag.documents.formats import DOCX, HTML, MARKDOWN, PDF, detect_media_type
from lightrag.documents.language import UNDETERMINED, detect_language
from lightrag.types import Document, Metadata

MAX_BYTES = 200 * 1024 * 1024
"""Largest file that is read unless the caller says otherwise."""


def parse_document(
    data: bytes,
    *,
    source: str,
    document_id: str | None = None,
    metadata: Metadata | None = None,
    max_bytes: int = MAX_BYTES,
    title: str | None = None,
    media_type: str = "",
) -> Document:
    r"""Read a TXT, Markdown, HTML, PDF or DOCX file.

    The content decides the format and the extension of ``source`` only between text formats: a PDF named ``.txt`` is
    read as a PDF, a text named ``.pdf`` as text, and what cannot be read at all is refused.

    Args:
        data: the whole file.
        source: where it comes from, as the user knows it; names the file in errors and gives the default id and title.
        document_id: default: a hash of ``source``, so that a changed file keeps its id.
        metadata: added to what the file says of itself, and stronger.
        max_bytes: larger files are refused.
        title: default: what the file says, its first heading, or the name of the file.
        media_type: default: what content and name tell.

    Raises:
        DocumentError: the file cannot be read; ``reason`` says why and the message what to do.
        UsageError: ``source`` is empty.

    Example:
        >>> document = parse_document(b"# Wool\n\nSheep were shorn in May.", source="notes/wool.md")
        >>> document.title, document.text[document.sections[0].start :]
        ('Wool', 'Wool\n\nSheep were shorn in May.')
    """
    if not source:
        raise errors.UsageError("source is empty: say where the document comes from", subject="source")
    if len(data) > max_bytes:
        raise _too_large(source, len(data), max_bytes)
    if not data:
        raise _empty(source, "has no bytes")
    media_type = media_type or detect_media_type(data, source)
    parsed = _parser(media_type)(data, source)
    if not parsed.text.strip():
        raise _empty(source, "has no text besides white space and markup")
    language = detect_language(parsed.text).code
    return Document(
        document_id=document_id or blake3(source.encode("utf-8", "surrogatepass")).hexdigest(length=16),
        source=source,
        title=title
        or parsed.title
        or _first_heading(parsed)
        or PurePosixPath(source.replace("\\", "/")).stem
        or source,
        text=parsed.text,
        content_hash=blake3(data).hexdigest(),
        media_type=media_type,
        language=parsed.language or UNDETERMINED if language == UNDETERMINED else language,
        sections=parsed.sections,
        metadata={**parsed.metadata, **(metadata or {})},
    )


def read_document(
    file: str | os.PathLike[str] | IO[bytes],
    *,
    source: str | None = None,
    document_id: str | None = None,
    metadata: Metadata | None = None,
    max_bytes: int = MAX_BYTES,
    title: str | None = None,
) -> Document:
    """Read a document from a path or an open binary file; of a file that is too large nothing, or little, is read.

    Args:
        file: path, or file open for reading bytes.
        source: default: the path as given, or the name of the open file.
        document_id: as for :func:`parse_document`.
        metadata: as for :func:`parse_document`.
        max_bytes: as for :func:`parse_document`.
        title: as for :func:`parse_document`.

    Raises:
        DocumentError: as :func:`parse_document`; ``unreadable`` where the file is missing or may not be opened.
    """
    if isinstance(file, str | os.PathLike):
        path = Path(file)
        source = source or str(path)
        try:
            size = path.stat().st_size
            if size > max_bytes:
                raise _too_large(source, size, max_bytes)
            with path.open("rb") as opened:
                data = opened.read(max_bytes + 1)  # it may have grown meanwhile
        except OSError as error:
            raise errors.DocumentError(
                f"{source!r} cannot be read: {error.strerror or error}; check the path and its permissions",
                subject=source,
                reason="unreadable",
            ) from error
    else:
        source = source or str(getattr(file, "name", ""))
        data = file.read(max_bytes + 1)
    return parse_document(
        data, source=source, document_id=document_id, metadata=metadata, max_bytes=max_bytes, title=title
    )


def _parser(media_type: str) -> Callable[[bytes, str], Parsed]:
    """Return the parser of a media type, importing it and its libraries only now."""
    parse: Callable[[bytes, str], Parsed]
    if media_type == PDF:
        from lightrag.documents.pdf import parse_pdf as parse
    elif media_type == DOCX:
        from lightrag.documents.docx import parse_docx as parse
    elif media_type == HTML:
        from lightrag.documents.html import parse_html as parse
    elif media_type == MARKDOWN:
        from lightrag.documents.markdown import parse_markdown as parse
    else:
        from lightrag.documents.plain import parse_plain as parse
    return parse


def _first_heading(parsed: Parsed) -> str:
    return next((section.label for section in parsed.sections if section.kind == "heading"), "")


def _too_large(source: str, size: int, limit: int) -> errors.DocumentError:
    return errors.DocumentError(
        f"{source!r} has {size:,} bytes or more, and the limit is {limit:,}: split it, or raise max_document_bytes",
        subject=source,
        reason="too_large",
    )


def _empty(source: str, what: str) -> errors.DocumentError:
    return errors.DocumentError(
        f"{source!r} {what}: remove it, or replace it with a copy that has content", subject=source, reason="empty"
    )


__all__ = ["MAX_BYTES", "parse_document", "read_document"]
