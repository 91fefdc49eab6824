"""File sets of any size: a hash trie of manifests, so that a commit stays small with millions of files.

Entries are placed by the hexadecimal digits of the blake3 of their path. Up to ``INLINE`` entries stand in the commit
itself. Beyond that, sixteen manifests take them by their first digit, and each that outgrows ``LEAF`` entries is split
by the next digit. So a change rewrites only the manifests on the way to the changed entries (one leaf of at most 1024
entries, and sixteen references per level above it), and versions share all others. The shape depends on the set of
paths alone, not on the order in which they came.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import pydantic
from blake3 import blake3

from lightrag.errors import ArtifactError, NotFoundError, UsageError
from lightrag.storage.commits import FileEntry, FileSet, ManifestRef, describe
from lightrag.storage.layout import Layout, manifest_path
from lightrag.storage.objects import ObjectStore
from lightrag.storage.transfer import parallel

INLINE = 256
"""Entries of one role that a commit lists itself: about 60 KB of JSON."""
LEAF = 1024
"""Entries of one manifest: about 250 KB of JSON."""


class _Keyed(NamedTuple):
    key: str
    entry: FileEntry


class Manifests:
    """Reads and changes the file sets of one corpus."""

    def __init__(self, store: ObjectStore, layout: Layout) -> None:
        self._store = store
        self._layout = layout

    def entries(self, files: FileSet) -> Iterator[FileEntry]:
        """Every entry, the ones in manifests included, in no particular order.

        Raises:
            ArtifactError: a manifest is missing or damaged.
        """
        return self.references(files, set())

    def references(self, files: FileSet, seen: set[str]) -> Iterator[FileEntry]:
        """Like :meth:`entries`, but passes over manifests in ``seen`` and adds the paths of all others to it."""
        yield from files.entries
        level = [reference for reference in files.manifests if reference.path not in seen]
        while level:
            seen.update(reference.path for reference in level)
            below: list[ManifestRef] = []
            for manifest in parallel(self._load, level):
                yield from manifest.entries
                below.extend(reference for reference in manifest.manifests if reference.path not in seen)
            level = below

    def changed(self, files: FileSet, add: Iterable[FileEntry], remove: Iterable[str]) -> FileSet:
        """The set after adding entries and removing paths; new manifests are written, unchanged ones shared.

        Raises:
            UsageError: a path to remove is not in the set, or one to add already is.
        """
        added = [_Keyed(_key(entry.path), entry) for entry in add]
        removed = {_key(path): path for path in remove}
        if not added and not removed:
            return files
        result = self._changed(files, added, removed, depth=0)
        if result.files != files.files + len(added) - len(removed):
            raise UsageError(f"a file to remove is not in this version, or is named twice: {sorted(removed.values())}")
        return result

    def _changed(self, files: FileSet, added: list[_Keyed], removed: dict[str, str], depth: int) -> FileSet:
        if not files.manifests:
            kept = [_Keyed(_key(entry.path), entry) for entry in files.entries]
            kept = [keyed for keyed in kept if keyed.key not in removed]
            _refuse_duplicates(kept, added)
            return self._built([*kept, *added], depth)
        references = {reference.prefix[depth]: reference for reference in files.manifests}
        for digit, (child_added, child_removed) in sorted(_by_digit(added, removed, depth).items()):
            child = self._load(references.pop(digit)) if digit in references else FileSet()
            child = self._changed(child, child_added, child_removed, depth + 1)
            if child.files:
                references[digit] = self._written(files.manifests[0].prefix[:depth] + digit, child)
        return self._collapsed([references[digit] for digit in sorted(references)], depth)

    def _collapsed(self, references: list[ManifestRef], depth: int) -> FileSet:
        summary = _summed(references)
        if summary.files > _limit(depth):
            return summary
        return _leaf(sorted(self.entries(summary), key=lambda entry: _key(entry.path)))

    def _built(self, keyed: list[_Keyed], depth: int) -> FileSet:
        if len(keyed) <= _limit(depth):
            return _leaf([item.entry for item in sorted(keyed)])
        children: dict[str, list[_Keyed]] = defaultdict(list)
        for item in keyed:
            children[item.key[depth]].append(item)
        return _summed(
            [
                self._written(items[0].key[: depth + 1], self._built(items, depth + 1))
                for _, items in sorted(children.items())
            ]
        )

    def _written(self, prefix: str, files: FileSet) -> ManifestRef:
        data = files.model_dump_json(exclude_defaults=True).encode()
        path = manifest_path()
        self._store.put(self._layout.file(path), data)
        self._store.sync([self._layout.file(path)])
        return ManifestRef(
            prefix=prefix,
            path=path,
            size=len(data),
            blake3=blake3(data).hexdigest(),
            files=files.files,
            bytes=files.bytes,
            rows=files.rows,
        )

    def _load(self, reference: ManifestRef) -> FileSet:
        path = self._layout.file(reference.path)
        try:
            data = self._store.get(path)
        except NotFoundError as error:
            message = f"manifest {path!r} is missing: its version was vacuumed or deleted, or storage was damaged"
            raise ArtifactError(message, subject=path) from error
        found = blake3(data).hexdigest()
        if found != reference.blake3:
            raise ArtifactError(
                f"manifest {path!r} is damaged: {len(data)} bytes with blake3 {found}, the version that refers to it "
                f"says {reference.size} bytes with {reference.blake3}",
                subject=path,
            )
        try:
            return FileSet.model_validate_json(data)
        except pydantic.ValidationError as error:
            raise ArtifactError(f"manifest {path!r} is not one: {describe(error)}", subject=path) from error


def _key(path: str) -> str:
    return blake3(path.encode()).hexdigest()


def _limit(depth: int) -> int:
    return INLINE if depth == 0 else LEAF


def _by_digit(
    added: list[_Keyed], removed: dict[str, str], depth: int
) -> dict[str, tuple[list[_Keyed], dict[str, str]]]:
    parts: dict[str, tuple[list[_Keyed], dict[str, str]]] = defaultdict(lambda: ([], {}))
    for item in added:
        parts[item.key[depth]][0].append(item)
    for key, path in removed.items():
        parts[key[depth]][1][key] = path
    return parts


def _refuse_duplicates(kept: list[_Keyed], added: list[_Keyed]) -> None:
    seen = {item.key for item in kept}
    for item in added:
        if item.key in seen:
            raise UsageError(f"file {item.entry.path!r} is already in this version", subject=item.entry.path)
        seen.add(item.key)


def _leaf(entries: Sequence[FileEntry]) -> FileSet:
    return FileSet(
        files=len(entries),
        bytes=sum(entry.size for entry in entries),
        rows=sum(entry.rows or 0 for entry in entries),
        entries=tuple(entries),
    )


def _summed(references: Sequence[ManifestRef]) -> FileSet:
    return FileSet(
        files=sum(reference.files for reference in references),
        bytes=sum(reference.bytes for reference in references),
        rows=sum(reference.rows for reference in references),
        manifests=tuple(references),
    )


__all__ = ["INLINE", "LEAF", "Manifests"]
