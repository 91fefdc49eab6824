"""Reads XML as a stream of events in constant memory, and refuses what makes XML dangerous: document types, entities.

Names come out as ``prefix:local`` with prefixes of our choosing, so that readers need not know namespaces.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol
from xml.parsers import expat

import lightrag.errors as errors

_W: Final = "w:"
_PREFIXES: Final[dict[str, str]] = {
    "http://schemas.openxmlformats.org/wordprocessingml/2006/main": _W,
    "http://purl.oclc.org/ooxml/wordprocessingml/main": _W,  # the strict variant
    "http://schemas.openxmlformats.org/markup-compatibility/2006": "mc:",
    "http://schemas.openxmlformats.org/package/2006/content-types": "ct:",
    "http://purl.org/dc/elements/1.1/": "dc:",
    "http://purl.org/dc/terms/": "dcterms:",
}


class XmlReader(Protocol):
    """What is told of each element and text."""

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """Begin an element."""
        ...

    def end(self, name: str) -> None:
        """End an element."""
        ...

    def text(self, data: str) -> None:
        """Take a piece of text."""
        ...


def read_xml(blocks: Iterable[bytes], reader: XmlReader, source: str) -> None:
    """Feed a document to ``reader``.

    Raises:
        DocumentError: ``damaged``: it is not well-formed, or declares a document type.
    """
    parser = expat.ParserCreate(namespace_separator="}")
    names: dict[str, str] = {}

    def short(name: str) -> str:
        found = names.get(name)
        if found is None:
            space, _, local = name.rpartition("}")
            found = names[name] = _PREFIXES.get(space, "") + local if space in _PREFIXES or not space else name
        return found

    def start(name: str, attributes: dict[str, str]) -> None:
        reader.start(short(name), {short(key): value for key, value in attributes.items()})

    def refuse(*_: object) -> None:
        raise _damaged(source, "it declares a document type, which no word processor writes")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda name: reader.end(short(name))
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = refuse
    parser.buffer_text = True
    try:
        for block in blocks:
            parser.Parse(block, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise _damaged(source, str(error)) from error


def _damaged(source: str, what: str) -> errors.DocumentError:
    return errors.DocumentError(
        f"{source!r} holds damaged XML ({what}): open it in a word processor and save it again",
        subject=source,
        reason="damaged",
    )


__all__ = ["XmlReader", "read_xml"]
