"""Objects in a local folder, in memory, or in S3, GCS or Azure storage, behind one interface.

It knows nothing of what the objects mean: versions, tables and tenants live in the modules above it.

Every implementation keeps these promises, and the rest of the package relies on them:

- an object appears whole or not at all, also when the writer is killed half-way;
- of any number of writers that put one path with ``if_absent``, in any number of processes, exactly one succeeds;
- what was put is seen by every ``get``, ``head`` and ``list`` that starts afterwards;
- methods may be called from any number of threads, and from an event loop through ``asyncio.to_thread``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

MIB = 1024 * 1024
PART_BYTES = 8 * MIB
"""Size of the pieces in which large objects are sent, hashed and fetched."""

Buffer = bytes | bytearray | memoryview
"""Contiguous bytes."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a store says about an object without reading it."""

    path: str
    """Relative to the store's URL, segments joined by ``/``."""
    size: int
    """Bytes."""
    modified: datetime
    """When it was put, by the store's own clock, in UTC."""


class ObjectStore(Protocol):
    """Named sequences of bytes below one URL.

    Every method raises ``BackendError`` where the store fails, with ``retryable`` set and no secret in the message, and
    ``UsageError`` for a path that is not a sequence of plain segments. Other conditions are listed per method.
    """

    @property
    def url(self) -> str:
        """Where it is, without secrets."""
        ...

    def put(self, path: str, data: Buffer, *, if_absent: bool = False) -> None:
        """Store one small object, replacing what was there.

        Raises:
            ConflictError: ``if_absent`` was asked and the path exists. A remote store that answered too late may have
                been asked twice, so the object found there can be this very one: compare before giving up.
        """
        ...

    def put_parts(self, path: str, parts: Iterable[Buffer], *, part_bytes: int = PART_BYTES) -> None:
        """Store an object piece by piece, replacing what was there; an exception from ``parts`` leaves nothing behind.

        Args:
            path: where.
            parts: pieces of any length, in order.
            part_bytes: how much is collected before it is sent. Remote stores accept at most 10,000 such requests, so
                objects above 80 GB need a larger value.
        """
        ...

    def get(self, path: str) -> bytes:
        """Read a whole object.

        Raises:
            NotFoundError: there is no such object.
        """
        ...

    def get_range(self, path: str, start: int, length: int) -> memoryview:
        """Read exactly ``length`` bytes from ``start``, without a further copy.

        Raises:
            NotFoundError: there is no such object.
            UsageError: the range does not lie inside the object.
        """
        ...

    def head(self, path: str) -> ObjectInfo:
        """Describe an object.

        Raises:
            NotFoundError: there is no such object.
        """
        ...

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        """Iterate over every object below a folder, in no particular order and without a cap.

        Args:
            prefix: whole path segments: ``a/b`` lists ``a/b/c`` and not ``a/bc``.
            after: only paths that sort after this one (by bytes); stores skip the others cheaply.
        """
        ...

    def folders(self, prefix: str = "") -> Sequence[str]:
        """Names, not paths, of the folders directly below one, sorted."""
        ...

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects; those that do not exist are passed over."""
        ...

    def sync(self, paths: Iterable[str]) -> None:
        """Return once these objects survive a power failure. Remote stores promise that with every put."""
        ...

    def sweep(self, prefix: str, *, before: datetime) -> int:
        """Remove what writers killed half-way left below a folder before a time, and count it.

        Remote stores do this themselves: give their bucket a rule that aborts incomplete multipart uploads.
        """
        ...


def open_object_store(url: str, options: Mapping[str, str] | None = None) -> ObjectStore:
    """Open the store at a URL; nothing remote is contacted yet.

    ``file:///folder`` is created where it is missing. ``memory://`` is a new, private store, and ``memory://name`` one
    that everybody in this process who uses the name shares: the store for tests, with the behaviour of the real ones.
    ``s3://bucket/prefix``, ``gs://bucket/prefix`` and ``az://container/prefix`` take credentials from the environment,
    as the cloud's own tools do. Stores can be pickled, to be opened again elsewhere; those in memory refuse.

    Args:
        url: where.
        options: what the client needs besides: ``endpoint``, ``region``, ``account_name``, ``timeout`` (``30s``),
            ``connect_timeout``, ``allow_http``, ``max_retries``, ``retry_timeout`` (seconds), and what else obstore's
            stores know.

    Raises:
        ConfigurationError: the URL or an option is not understood.

    Example:
        >>> store = open_object_store("memory://")
        >>> store.put("a/b.txt", b"text")
        >>> [info.path for info in store.list("a")]
        ['a/b.txt']
    """
    from lightrag.storage import _obstore

    return _obstore.open_store(url, dict(options or {}))


__all__ = ["MIB", "PART_BYTES", "Buffer", "ObjectInfo", "ObjectStore", "open_object_store"]
