"""Opens the ZIP archive that an Office document is, and never inflates more than it promised or may.

Whatever an archive claims, its parts are read as streams whose length is counted; declared sizes are checked before
the first byte is inflated. It knows nothing of what the parts mean.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Final

import lightrag.errors as errors

_DIRECTORY_END: Final = b"PK\x05\x06"
_MAX_DIRECTORY_BYTES: Final = 8 * 1024**2
"""A Word document has tens of parts; a directory of this size has a hundred thousand."""
_INFLATED_FLOOR: Final = 64 * 1024**2
_INFLATED_CEILING: Final = 1024**3
_MAX_EXPANSION: Final = 20
"""Times its own size that a large archive may grow; text in DOCX grows 5 to 15 times."""
_BLOCK_BYTES: Final = 256 * 1024
_ENCRYPTED_FLAG: Final = 0x1
_BROKEN: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError),
    *(ValueError, OverflowError, RuntimeError),  # from offsets and flags that make no sense; NotImplementedError too
)


class Archive:
    """Read-only view of a ZIP archive in memory. Use it as a context manager.

    Raises:
        DocumentError: ``damaged``, ``encrypted`` or ``expands_too_much``.
    """

    def __init__(self, data: bytes, source: str) -> None:
        self._source = source
        _check_directory(data, source)
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except _BROKEN as error:
            raise _damaged(source, str(error)) from error
        self._parts = {info.filename: info for info in self._zip.infolist()}
        self._left = min(_INFLATED_CEILING, max(_INFLATED_FLOOR, _MAX_EXPANSION * len(data)))

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def __contains__(self, part: str) -> bool:
        return part in self._parts

    def names(self) -> list[str]:
        """Return the names of all parts."""
        return list(self._parts)

    def blocks(self, part: str) -> Iterator[bytes]:
        """Yield the content of a part in blocks.

        All parts that are read share one budget of inflated bytes, which small archives are granted too.
        """
        info = self._parts[part]
        if info.flag_bits & _ENCRYPTED_FLAG:
            raise errors.DocumentError(
                f"{self._source!r} is an archive protected by a password: remove the protection and save it again",
                subject=self._source,
                reason="encrypted",
            )
        if info.file_size > self._left:
            raise self._expands(part, info.file_size)
        try:
            with self._zip.open(info) as stream:
                while block := stream.read(_BLOCK_BYTES):
                    self._left -= len(block)
                    if self._left < 0:
                        raise self._expands(part, info.file_size)
                    yield block
        except _BROKEN as error:
            raise _damaged(self._source, f"part {part!r}: {error}") from error

    def _expands(self, part: str, size: int) -> errors.DocumentError:
        return errors.DocumentError(
            f"{self._source!r} would expand to far more than its size (part {part!r} to {size:,} bytes), as a zip bomb "
            "does: if it is a real document, split it or save it as PDF",
            subject=self._source,
            reason="expands_too_much",
        )


def _check_directory(data: bytes, source: str) -> None:
    """Refuse an archive whose list of parts is missing, as in a truncated file, or is itself a bomb."""
    end = data.rfind(_DIRECTORY_END, max(0, len(data) - 65_557))
    if end < 0 or end + 22 > len(data):
        raise _damaged(source, "its list of parts is missing, so its end was probably cut off")
    (directory_bytes,) = struct.unpack_from("<I", data, end + 12)
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise errors.DocumentError(
            f"{source!r} lists more parts than any document has: unpack it and ingest the files in it",
            subject=source,
            reason="expands_too_much",
        )


def _damaged(source: str, what: str) -> errors.DocumentError:
    return errors.DocumentError(
        f"{source!r} is a damaged archive ({what}): get a complete copy, or let Word repair and save it",
        subject=source,
        reason="damaged",
    )


__all__ = ["Archive"]
