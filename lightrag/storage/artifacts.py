"""The versioned log of a corpus: immutable files, and commits that make them visible all at once.

It knows files by role, name, size and digest, not what is in them (:mod:`lightrag.storage.tables` knows the tables).

A version exists when its commit file exists. Commits are made with put-if-absent at consecutive numbers, so of two
writers one wins, and the other one starts again from the winner. Data files have names that are never used twice and
are written before the commit that refers to them. So a reader of any version sees all of it, for as long as the
version is kept, whatever writers do or wherever they are killed.

Example:
    >>> from lightrag.storage.objects import open_object_store
    >>> from lightrag.types import CorpusId
    >>> log = CorpusLog(open_object_store("memory://"), CorpusId("default", "reports"))
    >>> entry = log.write_file("report", "job.json", b"{}")
    >>> commit = log.commit(None, add=[entry], job_id="first")
    >>> str(commit.id), log.read_file(log.file(log.latest(), "report", "job.json"))
    ('default/reports@1', b'{}')
"""

from __future__ import annotations

import itertools
import json
import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pydantic
from pydantic import JsonValue

from lightrag.errors import ArtifactError, BackendError, ConflictError, NotFoundError, UsageError
from lightrag.storage import committing, deletion, integrity, keeping, transfer
from lightrag.storage.commits import Change, Commit, FileEntry, Role, decode_commit, describe
from lightrag.storage.deletion import DeletionReport
from lightrag.storage.integrity import IntegrityReport
from lightrag.storage.keeping import VacuumReport
from lightrag.storage.layout import Layout, corpora_folder, parse_version, unique_path
from lightrag.storage.manifests import Manifests
from lightrag.storage.objects import ObjectStore
from lightrag.types import CorpusId

_LONGEST_PAUSE_SECONDS = 1.0


class CorpusLog:
    """Versions of one corpus. Cheap to make, safe to share between threads, and pickled with its store.

    Nothing is cached but the newest version seen, so any number of logs of one corpus may live in any number of
    processes. All calls wait for storage: from an event loop use ``asyncio.to_thread``.
    """

    def __init__(self, store: ObjectStore, corpus: CorpusId) -> None:
        self.store = store
        self.corpus = corpus
        self.layout = Layout(corpus)
        self.manifests = Manifests(store, self.layout)
        self._newest_seen: Commit | None = None

    def __repr__(self) -> str:
        return f"CorpusLog({self.store!r}, {self.corpus!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return (CorpusLog, (self.store, self.corpus))

    # --- Versions -----------------------------------------------------------------------------------------------------

    def versions(self) -> list[int]:
        """Versions that can be read, oldest first."""
        return self._list_versions(after=0)

    def latest(self) -> Commit | None:
        """The newest version, or ``None`` before the first commit. Costs one listing, and one read where it is new.

        Raises:
            ArtifactError: its commit file is damaged.
        """
        version = self.newest_version()
        if version is None:
            return None
        seen = self._newest_seen
        if seen is not None and seen.version == version:
            return seen
        try:
            commit = self.read(version)
        except NotFoundError:  # deleted since it was listed
            return None
        self._newest_seen = commit
        return commit

    def newest_version(self) -> int | None:
        """Number of the newest version, without reading it: one listing, however long the log is."""
        # It starts at a version that was the newest once. Whether that one still exists does not matter: whatever is
        # newer sorts behind it. Only after a deletion nothing does, and then everything is listed.
        seen = self._newest_seen
        start = seen.version if seen is not None else self._hint()
        found = self._list_versions(after=start - 1) or (self._list_versions(after=0) if start > 1 else [])
        return found[-1] if found else None

    def read(self, version: int) -> Commit:
        """Read one version.

        Raises:
            NotFoundError: it does not exist, or no longer.
            ArtifactError: its commit file is damaged, or made by a later release.
        """
        expected = self.corpus.at(version)
        try:
            data = self.store.get(self.layout.commit(version))
        except NotFoundError as error:
            raise NotFoundError(f"version {expected} does not exist", subject=str(expected)) from error
        return decode_commit(data, expected)

    def history(self) -> Iterator[Commit]:
        """Versions that can be read, newest first. Those vacuumed meanwhile are passed over."""
        for version in reversed(self.versions()):
            try:
                yield self.read(version)
            except NotFoundError:
                continue

    def find_job(self, job_id: str) -> Commit | None:
        """The newest kept version that a job made: lets a resumed job see that it had already committed."""
        return next((commit for commit in self.history() if commit.job_id == job_id), None)

    def _list_versions(self, *, after: int) -> list[int]:
        listed = self.store.list(self.layout.log, after=self.layout.commit(after) if after > 0 else "")
        return sorted(version for info in listed if (version := parse_version(info.path)) is not None)

    def _hint(self) -> int:
        try:
            return int(json.loads(self.store.get(self.layout.newest))["version"])
        except (NotFoundError, ValueError, KeyError, TypeError):
            return 0  # only a hint: without it the whole log is listed

    # --- Files --------------------------------------------------------------------------------------------------------

    def files(self, commit: Commit, role: Role, prefix: str = "") -> list[FileEntry]:
        """Files of one role in a version, sorted by name; only those whose name begins with ``prefix``."""
        entries = self.manifests.entries(commit.file_set(role))
        return sorted((entry for entry in entries if entry.name.startswith(prefix)), key=lambda e: (e.name, e.path))

    def file(self, commit: Commit, role: Role, name: str) -> FileEntry:
        """The one file of a role with this name.

        Raises:
            NotFoundError: the version has no such file.
            ArtifactError: it has several, so that a name alone does not say which.
        """
        found = [entry for entry in self.files(commit, role, name) if entry.name == name]
        if not found:
            raise NotFoundError(f"version {commit.id} has no {role} file {name!r}", subject=str(commit.id))
        if len(found) > 1:
            raise ArtifactError(f"version {commit.id} has {len(found)} {role} files {name!r}", subject=str(commit.id))
        return found[0]

    def write_file(self, role: Role, name: str, source: transfer.Source, *, rows: int | None = None) -> FileEntry:
        """Store a new file of this corpus; no version refers to it until it is committed.

        Args:
            role: what it is for.
            name: letters, digits, ``.``, ``_``, ``=``, ``-`` in segments joined by ``/``. Names need not be unique.
            source: bytes, a ``Path`` of a local file, or an iterable of bytes; several parts of 8 MiB are in flight.
            rows: for tables.

        Raises:
            BackendError: the store failed (disk full, no rights …).
            UsageError: the name or role is not valid.
        """
        try:
            entry = FileEntry(
                role=role, name=name, path=unique_path(role, name), size=0, blake3="0" * 64, part_bytes=1, rows=rows
            )
        except pydantic.ValidationError as error:
            raise UsageError(
                f"a file cannot be called {name!r} as {role!r}: {describe(error)}", subject=name
            ) from error
        written = transfer.write(self.store, self.layout.file(entry.path), source)
        return entry.model_copy(update=written._asdict())

    def read_file(self, entry: FileEntry) -> bytes:
        """Read a whole file, every part verified.

        Raises:
            ArtifactError: the file is missing or differs from what was written.
        """
        return transfer.read_all(self.store, self.layout.file(entry.path), entry)

    def read_parts(self, entry: FileEntry, start: int = 0, length: int | None = None) -> Iterator[transfer.Part]:
        """Read a range as verified pieces in order, several fetched ahead: for loading into buffers that exist.

        Raises:
            ArtifactError: a piece is missing or differs from what was written.
            UsageError: the range does not lie inside the file.
        """
        return transfer.read_parts(self.store, self.layout.file(entry.path), entry, start, length)

    def read_range(self, entry: FileEntry, start: int, length: int) -> bytes:
        """Read a range; the parts of 8 MiB that it touches are fetched and verified whole. Raises as `read_parts`."""
        return b"".join(part.data for part in self.read_parts(entry, start, length))

    def fetch_to(self, entry: FileEntry, path: Path) -> None:
        """Write a verified copy to a local file, which appears whole or not at all. Raises as :meth:`read_file`."""
        partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("wb") as file:
                    for part in self.read_parts(entry):
                        file.write(part.data)
                partial.replace(path)
            finally:
                partial.unlink(missing_ok=True)
        except OSError as error:
            message = f"{entry.path!r} cannot be written to {str(path)!r}: {error.strerror}"
            raise BackendError(message, subject=str(path)) from error

    def missing(self, entries: Iterable[FileEntry]) -> list[FileEntry]:
        """Those files that are not in storage with their size; what a resumed job has to write again."""

        def lacks(entry: FileEntry) -> FileEntry | None:
            try:
                info = self.store.head(self.layout.file(entry.path))
            except NotFoundError:
                return entry
            return entry if info.size != entry.size else None

        return [entry for entry in transfer.parallel(lacks, entries) if entry is not None]

    # --- Commits ------------------------------------------------------------------------------------------------------

    def commit(
        self,
        base: Commit | None,
        *,
        add: Sequence[FileEntry] = (),
        remove: Sequence[str] = (),
        fingerprints: Mapping[str, str] | None = None,
        counts: Mapping[str, int] | None = None,
        settings: Mapping[str, JsonValue] | None = None,
        job_id: str = "",
        message: str = "",
    ) -> Commit:
        """Make the next version after ``base``: its files without ``remove`` and with ``add``. Costs six requests.

        ``None`` for fingerprints, counts or settings keeps those of ``base``.

        Raises:
            ConflictError: ``base`` is not the newest version any more; ``winner`` is the version that is.
            ArtifactError: a file to add is not in storage; nothing was committed.
            UsageError: a file is added twice, one to remove is not in ``base``, or ``base`` is of another corpus.
            BackendError: the store failed. Where ``retryable``, whether the version exists is not known: look with
                :meth:`find_job` before trying again.
        """
        change = Change(add, remove, fingerprints, counts, settings, job_id, message)
        made = committing.commit(self, base, change)
        self._newest_seen = made
        return made

    def commit_rebasing(self, change: Callable[[Commit | None], Change], *, attempts: int = 20) -> Commit:
        """Commit what ``change`` makes of the newest version, starting again from each version that comes first.

        Args:
            change: called with the newest version, possibly several times; files it adds may have been written before.
            attempts: how often to try.

        Raises:
            ConflictError: other writers came first every time.
        """
        if attempts < 1:
            raise UsageError(f"attempts must be at least 1, got {attempts}")
        for attempt in itertools.count(1):
            base = self.latest()
            wanted = change(base)
            try:
                made = committing.commit(self, base, wanted)
                break
            except ConflictError:
                if attempt == attempts:
                    raise
                time.sleep(random.uniform(0, min(_LONGEST_PAUSE_SECONDS, 0.01 * 2**attempt)))  # noqa: S311
        self._newest_seen = made
        return made

    # --- Keeping and removing -----------------------------------------------------------------------------------------

    def pin(self, version: int, name: str, *, limit: int | None = None) -> None:
        """Keep a version, under a name that moves if it is already used, until :meth:`unpin`.

        Args:
            version: of this corpus.
            name: of the pin.
            limit: pins that the corpus may have, for names that are not there yet. Those that are made in the same
                moment count only afterwards.

        Raises:
            NotFoundError: the version does not exist.
            QuotaExceeded: the corpus has as many pins as it may.
        """
        keeping.pin(self, version, name, limit)

    def unpin(self, name: str) -> bool:
        """Remove a pin, and say whether there was one."""
        return keeping.unpin(self, name)

    def pins(self) -> dict[str, int]:
        """Pinned versions by name."""
        return keeping.pins(self)

    def hold(self, job_id: str) -> AbstractContextManager[None]:
        """Keep what this job has written and not yet committed, and the version it started from, from vacuum.

        Needed by whoever takes longer than the grace period between writing a file and committing it. One process per
        job holds; a hold whose process was killed ends after fifteen minutes, and the same job resuming within them
        continues it.
        """
        return keeping.hold(self, job_id)

    def vacuum(self, *, retain: int, grace_seconds: float) -> VacuumReport:
        """Remove old versions and files that no version refers to.

        Kept are the newest ``retain`` versions, pinned ones, those that were the newest within the grace period or
        since a hold began, and files written since then. Safe beside readers and writers as long as a request, and the
        last step of a commit, take less than ``grace_seconds``.
        """
        return keeping.vacuum(self, retain=retain, grace_seconds=grace_seconds)

    def delete(self) -> DeletionReport:
        """Remove the whole corpus, and report what was removed. A commit that comes at the same time fails."""
        return deletion.delete(self)

    def check_integrity(self, *, deep: bool = False) -> IntegrityReport:
        """Check that every version can be read and has all its files; ``deep`` reads and verifies their content."""
        return integrity.check_integrity(self, deep=deep)


def list_corpora(store: ObjectStore, tenant: str) -> list[CorpusId]:
    """Corpora of a tenant that have at least one version, sorted."""
    folder = corpora_folder(tenant)
    found = [CorpusId(tenant, name) for name in store.folders(folder)]
    exist = transfer.parallel(lambda corpus: any(store.list(Layout(corpus).log)), found)
    return [corpus for corpus, exists in zip(found, exist, strict=True) if exists]


def delete_tenant(store: ObjectStore, tenant: str) -> dict[str, DeletionReport]:
    """Remove every object of a tenant, and report what was removed by corpus (``""``: objects of no corpus)."""
    return deletion.delete_tenant(store, tenant)


__all__ = [
    "Change",
    "Commit",
    "CorpusLog",
    "DeletionReport",
    "FileEntry",
    "IntegrityReport",
    "Role",
    "VacuumReport",
    "delete_tenant",
    "list_corpora",
]
