"""What sources list: documents by name, place and fingerprint, before anybody has read them as documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field
from typing import Any, NamedTuple, Protocol, Self

from blake3 import blake3

from lightrag.types import Metadata


@dataclass(frozen=True, slots=True)
class SourceItem:
    """One document as its source lists it: enough to find its bytes again, nothing of its content."""

    source: str
    """As the user knows it: the relative path, or ``path#record``. Unique within its source."""
    location: str
    """Where its source finds it again."""
    size: int
    """In bytes."""
    fingerprint: str
    """Equal fingerprints of one item mean equal bytes. Empty where it cannot be told without reading as a document."""
    _: KW_ONLY
    title: str = ""
    """Where the source knows it."""
    place: tuple[int, int] = (0, 0)
    """Where in the file a record lies, in its source's own terms."""
    metadata: Metadata = field(default_factory=dict)
    media_type: str = ""
    """Where the source knows it; empty: content and name tell."""

    def to_plain(self) -> dict[str, Any]:
        """As JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Undo :meth:`to_plain`."""
        metadata = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["metadata"].items()
        }
        return cls(**{**values, "place": tuple(values["place"]), "metadata": metadata})


class Ignored(NamedTuple):
    """Something in a source that is not a document, and why it was left out."""

    source: str
    reason: str


class Source(Protocol):
    """Lists documents and reads their bytes. Opened anew, from the same spec, in every worker."""

    @property
    def name(self) -> str:
        """Identity within the corpus: a later listing of the same name replaces this one."""
        ...

    @property
    def complete(self) -> bool:
        """Whether a listing names everything there is, so that what is missing has been deleted."""
        ...

    def items(self) -> Iterator[SourceItem | Ignored]:
        """List the documents in a stable order, fingerprinted, without holding their contents.

        Raises:
            NotFoundError: the source does not exist.
            UsageError: its description does not fit what is there.
            BackendError: the store behind it failed.
        """
        ...

    def read(self, item: SourceItem) -> bytes:
        """Read one document.

        Raises:
            DocumentError: it is gone or cannot be read.
            BackendError: the store behind it failed.
        """
        ...


def document_id(source_name: str, source: str) -> str:
    """The stable id of a document: by the name of its source and its name there, never by its content."""
    return blake3(f"{source_name}\0{source}".encode("utf-8", "surrogateescape")).hexdigest(16)


def content_fingerprint(data: bytes) -> str:
    """Fingerprint of a document's bytes."""
    return "blake3:" + blake3(data).hexdigest(32)


__all__ = ["Ignored", "Source", "SourceItem", "content_fingerprint", "document_id"]
