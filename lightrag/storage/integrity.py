"""Proof that a log is what it should be, for tests, idle time and suspicious operators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lightrag.errors import ArtifactError, NotFoundError
from lightrag.storage.commits import Commit, FileEntry
from lightrag.storage.layout import parse_version

if TYPE_CHECKING:
    from lightrag.storage.artifacts import CorpusLog


@dataclass(frozen=True, slots=True)
class IntegrityReport:
    """What was looked at, and what is wrong."""

    versions: int
    files: int
    """Different files of all versions together."""
    problems: tuple[str, ...]

    def raise_if_damaged(self) -> None:
        """Raise ``ArtifactError`` naming every problem, if there is one."""
        if self.problems:
            raise ArtifactError("; ".join(self.problems))


def check_integrity(log: CorpusLog, *, deep: bool) -> IntegrityReport:
    """See :meth:`CorpusLog.check_integrity`."""
    problems = [
        f"{info.path!r} is no commit" for info in log.store.list(log.layout.log) if parse_version(info.path) is None
    ]
    versions = log.versions()
    files: dict[str, FileEntry] = {}
    for version in versions:
        try:
            commit = log.read(version)
            problems += _check_version(log, commit, files)
        except NotFoundError:  # vacuumed meanwhile
            continue
        except ArtifactError as error:
            problems.append(str(error))
    ordered = [files[path] for path in sorted(files)]
    missing = log.missing(ordered)
    problems += [f"{entry.path!r} is not in storage with {entry.size} bytes" for entry in missing]
    problems += _read_through(log, [entry for entry in ordered if entry not in missing]) if deep else ()
    return IntegrityReport(len(versions), len(files), tuple(problems))


def _check_version(log: CorpusLog, commit: Commit, files: dict[str, FileEntry]) -> Iterator[str]:
    if commit.parent and commit.parent != commit.version - 1:
        yield f"{commit.id} has parent {commit.parent}"
    for role, file_set in commit.files.items():
        entries = list(log.manifests.entries(file_set))
        if (len(entries), sum(entry.size for entry in entries)) != (file_set.files, file_set.bytes):
            yield f"{commit.id} counts {file_set.files} {role} files but lists {len(entries)}"
        for entry in entries:
            if files.setdefault(entry.path, entry) != entry:
                yield f"{commit.id} describes {entry.path!r} differently from an earlier version"
            if not 1 <= entry.version <= commit.version:
                yield f"{commit.id} has {entry.path!r} of version {entry.version}"


def _read_through(log: CorpusLog, files: Iterable[FileEntry]) -> Iterator[str]:
    for entry in files:
        try:
            for _ in log.read_parts(entry):
                pass
        except ArtifactError as error:
            yield str(error)


__all__ = ["IntegrityReport", "check_integrity"]
