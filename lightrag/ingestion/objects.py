"""Documents that are objects below a prefix of a bucket, with or without wildcards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from lightrag.errors import DocumentError, NotFoundError
from lightrag.ingestion.globs import has_wildcard, split_pattern
from lightrag.ingestion.items import Ignored, SourceItem, content_fingerprint
from lightrag.storage.objects import ObjectInfo, ObjectStore, open_object_store

SETTLED: Final = timedelta(seconds=3)
"""Objects younger than this are read to tell whether they changed: stores keep time in whole seconds."""


class ObjectSource:
    """Objects in S3, GCS or Azure storage.

    An object counts as unchanged if the store names the same size and time of writing: unlike a file's, that time is
    the store's own, is set by every write, and cannot be set by whoever writes. So unchanged objects are not fetched.
    """

    def __init__(
        self,
        location: str,
        *,
        name: str = "",
        suffixes: frozenset[str] = frozenset(),
        max_bytes: int | None = None,
        options: Mapping[str, str] | None = None,
    ) -> None:
        """Describe the source; nothing is contacted yet.

        Args:
            location: ``s3://bucket/prefix``, a glob below it, or one object.
            name: identity of the source; empty: its location.
            suffixes: lower-case, with the dot; other objects are ignored, unless the location is that very object.
            max_bytes: larger objects are never fetched; they will be refused as too large.
            options: for the store's client.

        Raises:
            ConfigurationError: the URL or an option is not understood.
        """
        self.name = name or location
        self._location = location
        scheme, _, rest = location.partition("://")
        bucket, _, key = rest.partition("/")
        self._pattern = split_pattern(key) if has_wildcard(key) else None
        self._prefix = (self._pattern.base if self._pattern else key).strip("/")
        self._suffixes = suffixes
        self._max_bytes = max_bytes
        self._store: ObjectStore = open_object_store(f"{scheme}://{bucket}", options)

    @property
    def complete(self) -> bool:
        """A prefix says everything there is."""
        return True

    def items(self) -> Iterator[SourceItem | Ignored]:
        """List objects in the order of their keys; see :class:`~lightrag.ingestion.items.Source`."""
        found = sorted(self._store.list(self._prefix), key=lambda info: info.path)
        if not found and not self._pattern:
            yield self._item(self._single())
            return
        for info in found:
            relative = info.path[len(self._prefix) :].lstrip("/") if self._prefix else info.path
            if not self._pattern or self._pattern.matches.fullmatch(relative):
                yield self._describe(relative, info)

    def read(self, item: SourceItem) -> bytes:
        """Fetch an object; see :class:`~lightrag.ingestion.items.Source`."""
        try:
            return self._store.get(item.location)
        except NotFoundError as error:
            raise DocumentError(
                f"{item.source!r} is not there any more", subject=item.source, reason="unreadable"
            ) from error

    def _single(self) -> ObjectInfo:
        try:
            return self._store.head(self._prefix)
        except NotFoundError as error:
            raise NotFoundError(
                f"there is no object at or below {self._location!r}; check bucket and prefix", subject=self._location
            ) from error

    def _describe(self, relative: str, info: ObjectInfo) -> SourceItem | Ignored:
        suffix = os.path.splitext(relative)[1].lower()
        if suffix not in self._suffixes:
            return Ignored(relative, f"objects ending in {suffix!r} are not read" if suffix else "no ending")
        return self._item(info, relative)

    def _item(self, info: ObjectInfo, relative: str = "") -> SourceItem:
        source = relative or info.path.rsplit("/", 1)[-1]
        fingerprint = f"object:{info.size}:{info.modified.isoformat()}"
        too_large = self._max_bytes is not None and info.size > self._max_bytes
        if datetime.now(UTC) - info.modified < SETTLED and not too_large:
            fingerprint = content_fingerprint(self._store.get(info.path))
        return SourceItem(source, info.path, info.size, fingerprint)


__all__ = ["SETTLED", "ObjectSource"]
