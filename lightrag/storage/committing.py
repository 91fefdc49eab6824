"""How a version comes into being: checks, manifests, one put-if-absent, and a look back.

The put decides. The checks before it give early and clear errors; what they see cannot change before the put in a way
that would harm, with two exceptions that the steps after the put take care of:

- the answer to the put can be lost, so that the client asks again and collides with itself: ``commit_id`` tells;
- the corpus can be deleted between check and put: the tombstone, which deletion writes first, tells, and the commit is
  withdrawn. Deletion itself lists and deletes until nothing is left, so it also removes what it meets.

A third would be a pause between checks and put that is longer than the grace period of ``vacuum``; the module
:mod:`lightrag.storage.keeping` explains why nothing shorter can hurt.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

import pydantic

from lightrag.errors import ArtifactError, BackendError, ConflictError, NotFoundError, UsageError
from lightrag.storage import deletion
from lightrag.storage.commits import Change, Commit, FileEntry, FileSet, Role, describe, encode_commit
from lightrag.storage.transfer import parts_path

if TYPE_CHECKING:
    from lightrag.storage.artifacts import CorpusLog

V = TypeVar("V")


def commit(log: CorpusLog, base: Commit | None, change: Change) -> Commit:
    """See :meth:`CorpusLog.commit`."""
    if base is not None and base.id.corpus_id != log.corpus:
        raise UsageError(f"a commit to {log.corpus} cannot start from {base.id}", subject=str(log.corpus))
    version = (base.version if base else deletion.last_deleted(log)) + 1
    _require_newest(log, base)
    _require_files(log, change.add)
    made = _next(log, base, change, version)
    log.store.sync(_added_paths(log, change.add))
    _put(log, made, base)
    if deletion.last_deleted(log) >= (base.version if base else version):
        log.store.delete([log.layout.commit(version)])
        raise ConflictError(f"corpus {log.corpus} was deleted during a commit", subject=str(log.corpus))
    log.store.sync([log.layout.commit(version)])
    log.store.put(log.layout.newest, json.dumps({"version": version}).encode())
    return made


def _require_newest(log: CorpusLog, base: Commit | None) -> None:
    # Not only courtesy: the number after an old base may be free again because vacuum removed that version.
    newest = log.newest_version()
    if newest != (base.version if base else None):
        _raise_conflict(log, base)


def _raise_conflict(log: CorpusLog, base: Commit | None) -> NoReturn:
    winner = log.latest()
    first = str(winner.id) if winner else f"deletion of {log.corpus}"
    message = f"{first} came before a commit on {base.id if base else 'an empty corpus'}: start again from it"
    raise ConflictError(message, subject=str(log.corpus), winner=winner)


def _require_files(log: CorpusLog, entries: Sequence[FileEntry]) -> None:
    missing = log.missing(entries)
    if missing:
        names = ", ".join(repr(entry.path) for entry in missing[:5])
        raise ArtifactError(
            f"{len(missing)} files to commit to {log.corpus} are not in storage, or not whole: {names}. Files that "
            "wait for their commit longer than the grace period of vacuum need CorpusLog.hold()",
            subject=str(log.corpus),
        )


def _next(log: CorpusLog, base: Commit | None, change: Change, version: int) -> Commit:
    try:
        return Commit(
            tenant=log.corpus.tenant,
            corpus=log.corpus.corpus,
            version=version,
            parent=base.version if base else 0,
            commit_id=secrets.token_hex(16),
            created=datetime.now(UTC),
            job_id=change.job_id,
            message=change.message,
            files=_changed_files(log, base, change, version),
            fingerprints=_kept(change.fingerprints, base.fingerprints if base else {}),
            counts=_kept(change.counts, base.counts if base else {}),
            settings=_kept(change.settings, base.settings if base else {}),
        )
    except pydantic.ValidationError as error:
        raise UsageError(f"a commit cannot say this: {describe(error)}", subject=str(log.corpus)) from error


def _kept(new: Mapping[str, V] | None, old: Mapping[str, V]) -> dict[str, V]:
    return dict(old if new is None else new)


def _changed_files(log: CorpusLog, base: Commit | None, change: Change, version: int) -> dict[Role, FileSet]:
    files = dict(base.files) if base else {}
    for role in sorted({*(entry.role for entry in change.add), *map(_role, change.remove)}):
        files[role] = log.manifests.changed(
            files.get(role, FileSet()),
            [entry.model_copy(update={"version": version}) for entry in change.add if entry.role == role],
            [path for path in change.remove if _role(path) == role],
        )
    return {role: file_set for role, file_set in files.items() if file_set.files}


def _role(path: str) -> Role:
    # A path of no role is found in no file set, and refused there.
    return cast("Role", path.split("/", 1)[0])


def _put(log: CorpusLog, made: Commit, base: Commit | None) -> None:
    try:
        log.store.put(log.layout.commit(made.version), encode_commit(made), if_absent=True)
    except ConflictError:
        if not _is_there(log, made):
            _raise_conflict(log, base)
    except BackendError as error:
        if not (error.retryable and _is_there(log, made)):
            raise


def _is_there(log: CorpusLog, made: Commit) -> bool:
    try:
        return log.read(made.version).commit_id == made.commit_id
    except (NotFoundError, BackendError):
        return False


def _added_paths(log: CorpusLog, entries: Iterable[FileEntry]) -> Iterator[str]:
    for entry in entries:
        yield log.layout.file(entry.path)
        if entry.parts > 1:
            yield log.layout.file(parts_path(entry.path))


__all__ = ["commit"]
