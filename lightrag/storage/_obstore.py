"""The one implementation of :class:`~lightrag.storage.objects.ObjectStore`, over obstore (Rust ``object_store``).

What makes the promises of the interface hold, as read from system calls and tested with killed processes: a local
object is written to ``name#1`` beside its place, then renamed over it, or, for ``if_absent``, hard-linked to it, which
the system refuses where the name exists; remote stores get ``If-None-Match: *``. Names ending in ``#`` and digits are
never listed. obstore does not flush to disk, so :meth:`sync` does.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.store import LocalStore, MemoryStore, from_url

from lightrag.errors import ConfigurationError, UsageError
from lightrag.storage._faults import translated
from lightrag.storage.objects import PART_BYTES, Buffer, ObjectInfo, ObjectStore

_CLIENT_OPTIONS = frozenset(
    {
        "allow_http",
        "allow_invalid_certificates",
        "connect_timeout",
        "http1_only",
        "http2_only",
        "pool_idle_timeout",
        "pool_max_idle_per_host",
        "proxy_url",
        "proxy_ca_certificate",
        "proxy_excludes",
        "randomize_addresses",
        "read_timeout",
        "root_certificate",
        "timeout",
        "user_agent",
    }
)
"""Options that obstore wants apart from the store's own; it panics where they are mixed."""
_REMOTE_SCHEMES = frozenset({"s3", "s3a", "gs", "az", "abfs", "abfss", "adl"})
_DELETE_BATCH = 1000  # the most that one S3 request takes
_LIST_BATCH = 1000

_shared_memory: dict[str, Any] = {}
_shared_memory_lock = threading.Lock()


def open_store(url: str, options: dict[str, str]) -> ObjectStore:
    """See :func:`lightrag.storage.objects.open_object_store`."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return _open_local(url, options)
    if parts.scheme == "memory":
        _refuse_options(url, options)
        return Objects(url, options, _open_memory(parts.netloc))
    if parts.scheme in _REMOTE_SCHEMES:
        if parts.query or parts.password:
            raise ConfigurationError("an object store URL may hold no credentials: use environment variables")
        return Objects(url, options, _open_remote(url, options))
    hint = f"; a folder is written {Path(url).absolute().as_uri()!r}" if not parts.scheme else ""
    raise ConfigurationError(f"object store URL {url!r} must start with file, s3, gs, az or memory{hint}", subject=url)


class Objects:
    """Objects below one URL, see :class:`~lightrag.storage.objects.ObjectStore`."""

    def __init__(self, url: str, options: dict[str, str], client: Any) -> None:
        self._url = url
        self._options = options
        self._client = client

    def __repr__(self) -> str:
        return f"open_object_store({self._url!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if self._url.startswith("memory:"):
            raise UsageError("a store in memory cannot leave its process: use file:// or a remote store")
        return (open_store, (self._url, self._options))

    @property
    def url(self) -> str:
        return self._url

    def put(self, path: str, data: Buffer, *, if_absent: bool = False) -> None:
        with translated(self._url, path):
            mode = "create" if if_absent else "overwrite"
            obstore.put(self._client, path, data, mode=mode, use_multipart=False)

    def put_parts(self, path: str, parts: Iterable[Buffer], *, part_bytes: int = PART_BYTES) -> None:
        source = _Source(parts)
        with translated(self._url, path, source):
            obstore.put(self._client, path, source, use_multipart=True, chunk_size=part_bytes, max_concurrency=4)

    def get(self, path: str) -> bytes:
        with translated(self._url, path):
            return bytes(obstore.get(self._client, path).bytes())

    def get_range(self, path: str, start: int, length: int) -> memoryview:
        if length == 0 and start >= 0:
            return memoryview(b"")
        with translated(self._url, path):
            data = memoryview(obstore.get_range(self._client, path, start=start, length=length))
        if len(data) != length:  # stores cut a range at the end of the object without a word
            raise UsageError(f"bytes {start} to {start + length} do not lie inside object {path!r}", subject=path)
        return data

    def head(self, path: str) -> ObjectInfo:
        with translated(self._url, path):
            return _info(obstore.head(self._client, path))

    def list(self, prefix: str = "", *, after: str = "") -> Iterator[ObjectInfo]:
        with translated(self._url, prefix):
            for batch in obstore.list(self._client, prefix or None, offset=after or None, chunk_size=_LIST_BATCH):
                for meta in batch:
                    yield _info(meta)

    def folders(self, prefix: str = "") -> Sequence[str]:
        with translated(self._url, prefix):
            found = obstore.list_with_delimiter(self._client, prefix or None)["common_prefixes"]
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    def delete(self, paths: Iterable[str]) -> None:
        remaining = iter(paths)
        while batch := list(itertools.islice(remaining, _DELETE_BATCH)):
            with translated(self._url, batch[0]):
                self._delete_batch(batch)

    def _delete_batch(self, batch: Sequence[str]) -> None:
        try:
            obstore.delete(self._client, batch)
        except FileNotFoundError:
            # Some stores stop a batch at an object that is gone; then each goes on its own.
            for path in batch:
                try:
                    obstore.delete(self._client, path)
                except FileNotFoundError:
                    continue

    def sync(self, paths: Iterable[str]) -> None:
        """Nothing to do here: remote stores answer a put when it is durable, and memory never is."""

    def sweep(self, prefix: str, *, before: datetime) -> int:
        return 0


class LocalObjects(Objects):
    """Objects in a folder, which also has to flush to disk and to clear away what killed writers left."""

    def __init__(self, url: str, options: dict[str, str], client: Any, root: Path) -> None:
        super().__init__(url, options, client)
        self._root = root

    def sync(self, paths: Iterable[str]) -> None:
        folders: set[Path] = set()
        with translated(self._url, ""):
            for path in paths:
                _flush(self._root / path)
                folders.update(parent for parent in (self._root / path).parents if parent.is_relative_to(self._root))
            for folder in folders:
                _flush(folder)

    def sweep(self, prefix: str, *, before: datetime) -> int:
        removed = 0
        with translated(self._url, prefix):
            for folder, _, names in os.walk(self._root / prefix, topdown=False):
                for path in (Path(folder, name) for name in names if _is_staged(name)):
                    removed += _remove_if_older(path, before)
                _remove_if_empty(Path(folder), before)
        return removed


class _Source:
    """An iterator that remembers its own failure, so that it is not taken for one of the store."""

    def __init__(self, parts: Iterable[Buffer]) -> None:
        self._parts = iter(parts)
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[Buffer]:
        return self

    def __next__(self) -> Buffer:
        try:
            return next(self._parts)
        except StopIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise


def _open_local(url: str, options: dict[str, str]) -> LocalObjects:
    _refuse_options(url, options)
    parts = urlsplit(url)
    root = Path(unquote(parts.path))
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise ConfigurationError(f"folder URL {url!r} must be absolute, like file:///srv/objects", subject=url)
    with translated(url, ""):
        root.mkdir(parents=True, exist_ok=True)
        client = LocalStore(root, automatic_cleanup=True)
    return LocalObjects(url, options, client, root)


def _open_memory(name: str) -> Any:
    if not name:
        return MemoryStore()
    with _shared_memory_lock:
        return _shared_memory.setdefault(name, MemoryStore())


def _open_remote(url: str, options: dict[str, str]) -> Any:
    config = dict(options)
    client = {name: config.pop(name) for name in _CLIENT_OPTIONS & config.keys()}
    # Without bounds, a machine outside the cloud waits minutes for credentials that do not exist.
    client.setdefault("connect_timeout", "10s")
    if config.get("endpoint", "").startswith("http://"):
        client.setdefault("allow_http", "true")
    try:
        retry = {
            "max_retries": int(config.pop("max_retries", "5")),
            "retry_timeout": timedelta(seconds=float(config.pop("retry_timeout", "60"))),
        }
        return from_url(url, config=config or None, client_options=client, retry_config=retry)
    except (ValueError, obstore.exceptions.BaseError) as error:
        reason = str(error).split("\n", 1)[0]
        for secret in config.values():
            reason = reason.replace(secret, "…")
        message = f"object store {url!r} cannot be opened with options {sorted(options)}: {reason}"
        raise ConfigurationError(message, subject=url) from None


def _refuse_options(url: str, options: dict[str, str]) -> None:
    if options:
        raise ConfigurationError(f"object store {url!r} takes no options, got {sorted(options)}", subject=url)


def _info(meta: Any) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["last_modified"].astimezone(UTC))


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_staged(name: str) -> bool:
    stem, mark, number = name.rpartition("#")
    return bool(stem and mark) and number.isdigit()


def _remove_if_older(path: Path, before: datetime) -> bool:
    try:
        if path.stat().st_mtime >= before.timestamp():
            return False
        path.unlink()
    except FileNotFoundError:
        return False  # its writer lives and has just finished
    return True


def _remove_if_empty(folder: Path, before: datetime) -> None:
    try:
        if folder.stat().st_mtime < before.timestamp() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError:
        # Somebody is writing here again; an empty folder is invisible anyway.
        return


__all__ = ["LocalObjects", "Objects", "open_store"]
