"""Documents that arrive as bytes: uploads to the service, or anything a program holds in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Final

from lightrag.errors import DocumentError, UsageError
from lightrag.ingestion.items import Ignored, SourceItem, content_fingerprint
from lightrag.types import Metadata

UPLOADS: Final = "upload:"
"""Name of the source of all uploads to a corpus: a second upload of one file name replaces the first."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One document in memory."""

    source: str
    """File name; the ending says how to read it."""
    data: bytes
    _: KW_ONLY
    title: str = ""
    metadata: Metadata = field(default_factory=dict)


class UploadSource:
    """Documents in memory. Others that were uploaded before stay.

    Example:
        >>> source = UploadSource([Upload("notes.txt", b"The bay froze in 1912.")])
        >>> [item.source for item in source.items()]
        ['notes.txt']
    """

    complete = False

    def __init__(self, uploads: Sequence[Upload], *, name: str = UPLOADS) -> None:
        """Hold the documents.

        Raises:
            UsageError: two of them have the same name.
        """
        self.name = name
        self._uploads: Mapping[str, Upload] = {upload.source: upload for upload in uploads}
        if len(self._uploads) != len(uploads):
            raise UsageError("two uploads of one call have the same file name; rename one")

    def items(self) -> Iterator[SourceItem | Ignored]:
        """List them as given; see :class:`~lightrag.ingestion.items.Source`."""
        for upload in self._uploads.values():
            yield SourceItem(
                upload.source,
                upload.source,
                len(upload.data),
                content_fingerprint(upload.data),
                title=upload.title,
                metadata=upload.metadata,
            )

    def read(self, item: SourceItem) -> bytes:
        """Return the bytes; see :class:`~lightrag.ingestion.items.Source`."""
        if item.location not in self._uploads:
            raise DocumentError(f"{item.source!r} was not uploaded", subject=item.source, reason="unreadable")
        return self._uploads[item.location].data


__all__ = ["UPLOADS", "Upload", "UploadSource"]
