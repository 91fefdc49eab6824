"""Writing objects with a digest per part, and reading them back with every part verified while it streams in.

It knows objects and digests, not commits or tenants. A file of one part is identified by the blake3 of its content, a
longer one by the blake3 of the concatenated digests of its parts, which lie beside it as ``{path}.parts``. So an entry
stays small whatever the file's size, and any range can be verified without reading the rest.
"""

from __future__ import annotations

import functools
import itertools
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar, cast

from blake3 import blake3

from lightrag.errors import ArtifactError, NotFoundError, UsageError
from lightrag.storage.commits import FileEntry
from lightrag.storage.objects import MIB, PART_BYTES, Buffer, ObjectStore

Source = Buffer | Path | Iterable[Buffer]
"""What can be stored: bytes, a local file, or pieces of any length in order."""

_THREADS = 16
"""Requests in flight per process: enough to hide the latency of a remote store, few enough for a laptop."""
_WINDOW = 8
"""Parts that one reader or writer keeps in memory."""
_LARGE = 64 * 1024 * MIB
_LARGE_PART_BYTES = 64 * MIB

_DIGEST_BYTES = 32

T = TypeVar("T")
R = TypeVar("R")


class Written(NamedTuple):
    """What was stored."""

    size: int
    blake3: str
    part_bytes: int


@functools.cache
def _pool(depth: int) -> ThreadPoolExecutor:
    # Threads that waited for others of their own pool could use it up, so work inside work has a pool of its own.
    return ThreadPoolExecutor(
        _THREADS, thread_name_prefix=f"lightrag-storage-{depth}", initializer=setattr, initargs=(_here, "depth", depth)
    )


_here = threading.local()
_DEEPEST = 2
_HASHING = 3

os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


def parallel(function: Callable[[T], R], items: Iterable[T], window: int = 2 * _THREADS) -> Iterator[R]:
    """Apply a function that waits for storage to every item, several at once; results in order.

    The function may call ``parallel`` itself. At most ``window`` results wait to be taken.
    """
    depth = getattr(_here, "depth", 0) + 1
    return map(function, items) if depth > _DEEPEST else _ordered(_pool(depth), function, items, window)


def parallel_files(function: Callable[[T], R], items: Iterable[T], window: int = 4) -> Iterator[R]:
    """Like :func:`parallel`, for results that take much memory."""
    return parallel(function, items, window)


def _ordered(pool: ThreadPoolExecutor, function: Callable[[T], R], items: Iterable[T], window: int) -> Iterator[R]:
    pending: deque[Future[R]] = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= window:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()


# --- Writing ----------------------------------------------------------------------------------------------------------


def write(store: ObjectStore, path: str, source: Source) -> Written:
    """Store a new object and, where it has several parts, their digests.

    Raises:
        BackendError: the store failed; nothing is visible at ``path``.
    """
    parts = _in_parts(source)
    head = deque(itertools.islice(parts, 2))
    if len(head) < 2:
        data = head[0] if head else b""
        store.put(path, data)
        return Written(len(data), blake3(data).hexdigest(), PART_BYTES)
    return _write_many(store, path, _drained(head, parts), large=_is_large(source))


def _drained(head: deque[Buffer], rest: Iterator[Buffer]) -> Iterator[Buffer]:
    """Parts that were looked at, then the others; what was handed on is not held here."""
    while head:
        yield head.popleft()
    yield from rest


def _write_many(store: ObjectStore, path: str, parts: Iterator[Buffer], *, large: bool) -> Written:
    digests: list[Future[bytes]] = []
    size = 0

    def hashed() -> Iterator[Buffer]:
        nonlocal size
        for part in parts:
            size += len(part)
            digests.append(_pool(_HASHING).submit(_digest, part))
            if len(digests) > _WINDOW:
                digests[-_WINDOW].result()  # hashing keeps up with sending
            yield part
            del part  # else it would be held while the next one is read

    store.put_parts(path, hashed(), part_bytes=_LARGE_PART_BYTES if large else PART_BYTES)
    joined = b"".join(digest.result() for digest in digests)
    store.put(parts_path(path), joined)
    return Written(size, blake3(joined).hexdigest(), PART_BYTES)


def parts_path(path: str) -> str:
    """Where the digests of a file of several parts lie."""
    return f"{path}.parts"


def _digest(part: Buffer) -> bytes:
    return blake3(part).digest()


def _is_large(source: Source) -> bool:
    # A pipe's length is unknown; the default serves it up to 80 GB.
    return isinstance(source, Path) and source.stat().st_size > _LARGE


def _in_parts(source: Source) -> Iterator[Buffer]:
    if isinstance(source, Path):
        return _file_parts(source)
    try:
        view = memoryview(source).cast("B")  # type: ignore[arg-type]  # asking is the only way to know
    except TypeError:
        return _regrouped(cast("Iterable[Buffer]", source))
    return (view[start : start + PART_BYTES] for start in range(0, len(view), PART_BYTES))


def _file_parts(path: Path) -> Iterator[Buffer]:
    with path.open("rb", buffering=0) as file:
        while part := file.read(PART_BYTES):
            while len(part) < PART_BYTES and (more := file.read(PART_BYTES - len(part))):
                part += more
            yield part
            del part


def _regrouped(pieces: Iterable[Buffer]) -> Iterator[Buffer]:
    collected = bytearray()
    for piece in pieces:
        view = memoryview(piece).cast("B")
        while len(view):
            room = PART_BYTES - len(collected)
            collected += view[:room]
            view = view[room:]
            if len(collected) == PART_BYTES:
                yield collected
                collected = bytearray()
    if collected:
        yield collected


# --- Reading ----------------------------------------------------------------------------------------------------------


class Part(NamedTuple):
    """A verified piece of a file."""

    start: int
    data: memoryview


def read_all(store: ObjectStore, path: str, entry: FileEntry) -> bytes:
    """Read a whole file, verified."""
    if entry.parts > 1:
        return b"".join(part.data for part in read_parts(store, path, entry))
    with _damage_as_artifact_error(entry):
        data = store.get(path)
    _check(data, bytes.fromhex(entry.blake3), entry, 0)
    return data


def read_parts(
    store: ObjectStore, path: str, entry: FileEntry, start: int = 0, length: int | None = None
) -> Iterator[Part]:
    """Read the parts that cover a range, in order, several in flight, each verified before it is handed out.

    The first and last part are trimmed to the range.

    Raises:
        ArtifactError: a part is missing or differs from what was written.
        UsageError: the range does not lie inside the file.
    """
    stop = entry.size if length is None else start + length
    if not 0 <= start <= stop <= entry.size:
        raise UsageError(
            f"bytes {start} to {stop} do not lie inside {entry.path!r} of {entry.size} bytes", subject=entry.path
        )
    if start == stop:
        return
    first, last = start // entry.part_bytes, -(-stop // entry.part_bytes)
    digests = _digests(store, path, entry)

    def fetch(number: int) -> Part:
        begin = number * entry.part_bytes
        size = min(entry.part_bytes, entry.size - begin)
        with _damage_as_artifact_error(entry):
            data = store.get_range(path, begin, size)
        _check(data, digests[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES], entry, begin)
        return Part(begin, data)

    for part in parallel(fetch, range(first, last), window=_WINDOW):
        skip = max(0, start - part.start)
        yield Part(part.start + skip, part.data[skip : stop - part.start])


def _digests(store: ObjectStore, path: str, entry: FileEntry) -> bytes:
    if entry.parts == 1:
        return bytes.fromhex(entry.blake3)
    with _damage_as_artifact_error(entry):
        joined = store.get(parts_path(path))
    if len(joined) != entry.parts * _DIGEST_BYTES or blake3(joined).hexdigest() != entry.blake3:
        raise ArtifactError(
            f"the digests of {entry.path!r} are damaged: {len(joined)} bytes, expected {entry.parts * _DIGEST_BYTES} "
            f"with blake3 {entry.blake3}",
            subject=entry.path,
        )
    return joined


def _check(data: Buffer, digest: bytes, entry: FileEntry, begin: int) -> None:
    size = min(entry.part_bytes, entry.size - begin)
    if len(data) != size:
        message = f"{entry.path!r} is damaged: it has {begin + len(data)} bytes, the commit says {entry.size}"
        raise ArtifactError(message, subject=entry.path)
    found = blake3(data).digest()
    if found != digest:
        raise ArtifactError(
            f"{entry.path!r} is damaged: bytes {begin} to {begin + size} have blake3 {found.hex()}, "
            f"the commit says {digest.hex()}",
            subject=entry.path,
        )


@contextmanager
def _damage_as_artifact_error(entry: FileEntry) -> Iterator[None]:
    """A commit promises the object and its length, so that either one missing is damage."""
    try:
        yield
    except NotFoundError as error:
        message = f"{entry.path!r} is missing: its version was vacuumed or deleted, or storage was damaged"
        raise ArtifactError(message, subject=entry.path) from error
    except UsageError as error:
        message = f"{entry.path!r} is damaged: it is shorter than the {entry.size} bytes that the commit says"
        raise ArtifactError(message, subject=entry.path) from error


__all__ = ["Part", "Source", "Written", "parallel", "parallel_files", "parts_path", "read_all", "read_parts", "write"]
