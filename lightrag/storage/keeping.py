"""What is kept of a corpus and what is removed: pins, holds, and vacuum.

Why vacuum never removes what somebody needs. Let *horizon* be the time of vacuum less the grace period, or the moment
at which the oldest living hold began, if that is earlier. All times are the store's own, so clocks need not agree.
Vacuum removes

- a version, if it is not among the newest, not pinned, and its *successor* was committed before the horizon;
- a file or manifest, if no version that remains refers to it, and it was *written* before the horizon.

A reader works on a version that was the newest when it began. It began after the horizon (requests take less than the
grace period, jobs hold), so the successor, if any, was committed after the horizon: the version stays, and its files.

A writer refers to files of its base, and to files it wrote. The base must be the newest version when the commit is put,
and the newest version always stays, and its files. Files it wrote after the horizon stay by their age. Files it wrote
before the horizon exist only where a hold ended, or where there was none: the commit looks for them just before its
put, and fails if they are gone. Only a pause between that look and the put, long enough for a vacuum to read the log
before the put and to remove files after the look, could break a version; such a file is older than the grace period at
the look, so this takes a writer that has already broken the rule about holds.

A pin and vacuum can pass each other: vacuum reads the pins, the pin is written and finds its version, vacuum removes
it. So vacuum reads the pins again after removing commits and before removing files, and puts back a commit that has
been pinned meanwhile; a pin that finds its version gone withdraws.
"""

from __future__ import annotations

import itertools
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lightrag.errors import ArtifactError, BackendError, NotFoundError, QuotaExceeded, UsageError
from lightrag.storage.layout import parse_version
from lightrag.storage.objects import ObjectInfo
from lightrag.storage.transfer import parallel, parts_path
from lightrag.types import check_name

if TYPE_CHECKING:
    from lightrag.storage.artifacts import CorpusLog

HEARTBEAT_SECONDS = 60.0
HOLD_SECONDS = 900.0
"""A hold that has not been renewed for so long belongs to a process that was killed."""
_BATCH = 1000
"""Commits held in memory while they are removed."""


@dataclass(frozen=True, slots=True)
class VacuumReport:
    """What was removed, and what remains."""

    versions_removed: tuple[int, ...]
    files_removed: int
    bytes_removed: int
    versions_kept: tuple[int, ...]
    unreferenced_kept: int
    """Files that no version refers to, but too young to remove."""


# --- Pins -------------------------------------------------------------------------------------------------------------


def pins(log: CorpusLog) -> dict[str, int]:
    """See :meth:`CorpusLog.pins`."""
    found = {}
    for info in log.store.list(log.layout.pins):
        name = info.path.rpartition("/")[2].removesuffix(".json")
        try:
            found[name] = int(json.loads(log.store.get(info.path))["version"])
        except NotFoundError:  # unpinned since it was listed
            continue
        except (ValueError, KeyError, TypeError) as error:
            # Guessing would let vacuum remove what somebody wanted to keep.
            raise ArtifactError(f"pin {name!r} of {log.corpus} is damaged: unpin it", subject=name) from error
    return found


def pin(log: CorpusLog, version: int, name: str, limit: int | None = None) -> None:
    """See :meth:`CorpusLog.pin`."""
    log.read(version)
    path = log.layout.pin(name)
    try:
        before = log.store.get(path)
    except NotFoundError:
        before = None
    if before is None and limit is not None and (there := sum(1 for _ in log.store.list(log.layout.pins))) >= limit:
        raise QuotaExceeded(
            f"corpus {log.corpus.corpus!r} has {there} pins, and storage.max_pins allows {limit}: remove one, or move "
            "one by pinning the version under its name",
            subject="max_pins",
        )
    log.store.put(path, json.dumps({"version": version}).encode())
    try:
        log.read(version)
    except NotFoundError:  # removed just now: the name keeps what it kept
        if before is None:
            log.store.delete([path])
        else:
            log.store.put(path, before)
        raise


def unpin(log: CorpusLog, name: str) -> bool:
    """See :meth:`CorpusLog.unpin`."""
    path = log.layout.pin(name)
    try:
        log.store.head(path)
    except NotFoundError:
        return False
    log.store.delete([path])
    return True


# --- Holds ------------------------------------------------------------------------------------------------------------


@contextmanager
def hold(log: CorpusLog, job_id: str) -> Iterator[None]:
    """See :meth:`CorpusLog.hold`."""
    check_name(job_id, "job")
    since = _begin(log, job_id)
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(HEARTBEAT_SECONDS):
            try:
                _renew(log, job_id, since)
            except BackendError:
                continue  # fifteen more chances before the hold ends; the commit checks its files anyway

    beating = threading.Thread(target=renew, name=f"hold-{job_id}", daemon=True)
    beating.start()
    try:
        yield
    finally:
        stop.set()
        beating.join()
        log.store.delete([log.layout.hold(job_id)])


def _begin(log: CorpusLog, job_id: str) -> datetime:
    earlier = _living_holds(log, _store_now(log)).get(job_id)
    if earlier is not None:
        _renew(log, job_id, earlier)
        return earlier
    since = _store_now(log)
    _renew(log, job_id, since)
    return since


def _renew(log: CorpusLog, job_id: str, since: datetime) -> None:
    log.store.put(log.layout.hold(job_id), json.dumps({"since": since.isoformat()}).encode())


def _living_holds(log: CorpusLog, now: datetime) -> dict[str, datetime]:
    living = {}
    for info in log.store.list(log.layout.holds):
        if now - info.modified > timedelta(seconds=HOLD_SECONDS):
            continue
        name = info.path.rpartition("/")[2].removesuffix(".json")
        try:
            living[name] = datetime.fromisoformat(json.loads(log.store.get(info.path))["since"])
        except NotFoundError:  # ended since it was listed
            continue
        except (ValueError, KeyError, TypeError) as error:
            message = f"hold {name!r} of {log.corpus} is damaged: delete {info.path!r}"
            raise ArtifactError(message, subject=name) from error
    return living


def _store_now(log: CorpusLog) -> datetime:
    path = log.layout.file(f"clock/{secrets.token_hex(8)}")
    log.store.put(path, b"")
    now = log.store.head(path).modified
    log.store.delete([path])
    return now


# --- Vacuum -----------------------------------------------------------------------------------------------------------


def vacuum(log: CorpusLog, *, retain: int, grace_seconds: float) -> VacuumReport:
    """See :meth:`CorpusLog.vacuum`."""
    if retain < 1 or grace_seconds < 0:
        raise UsageError(f"vacuum needs retain >= 1 and grace_seconds >= 0, got {retain} and {grace_seconds}")
    now = _store_now(log)
    horizon = min([now - timedelta(seconds=grace_seconds), *_living_holds(log, now).values()])
    removed = _remove_versions(log, retain, horizon)
    # Everything below starts from the log as it is now, commits included that came in meanwhile.
    listed = {info.path: info for info in log.store.list(log.layout.root)}
    kept, referenced = _references(log)
    garbage = [info for path, info in listed.items() if path not in referenced and _is_data(log, path)]
    old = [info for info in garbage if info.modified < horizon]
    log.store.delete(info.path for info in old)
    _remove_ended_holds(log, now)
    log.store.sweep(log.layout.root, before=horizon)
    return VacuumReport(
        versions_removed=tuple(removed),
        files_removed=len(old),
        bytes_removed=sum(info.size for info in old),
        versions_kept=tuple(kept),
        unreferenced_kept=len(garbage) - len(old),
    )


def _remove_versions(log: CorpusLog, retain: int, horizon: datetime) -> list[int]:
    commits = [info for info in log.store.list(log.layout.log) if parse_version(info.path) is not None]
    commits.sort(key=lambda info: info.path)
    pinned = {log.layout.commit(version) for version in pins(log).values()}
    old = [
        info.path
        for info, successor in itertools.pairwise(commits[: -retain + 1 or None])
        if info.path not in pinned and successor.modified < horizon
    ]
    removed: list[str] = []
    for start in range(0, len(old), _BATCH):
        removed += _remove_unpinned(log, old[start : start + _BATCH])
    return [version for path in removed if (version := parse_version(path)) is not None]


def _remove_unpinned(log: CorpusLog, paths: list[str]) -> list[str]:
    copies = dict(zip(paths, parallel(log.store.get, paths), strict=True))
    log.store.delete(paths)
    for pinned in {log.layout.commit(version) for version in pins(log).values()} & copies.keys():
        log.store.put(pinned, copies.pop(pinned))
    return list(copies)


def _references(log: CorpusLog) -> tuple[list[int], set[str]]:
    """Versions that exist, and paths in the store that they refer to.

    Raises:
        ArtifactError: a version is damaged, so that it cannot be known what it refers to.
    """
    manifests: set[str] = set()
    files: set[str] = set()
    versions = log.versions()
    for version in versions:
        for file_set in log.read(version).files.values():
            for entry in log.manifests.references(file_set, manifests):
                files.add(entry.path)
                files.add(parts_path(entry.path))
    return versions, {log.layout.file(path) for path in files | manifests}


def _is_data(log: CorpusLog, path: str) -> bool:
    own = (f"{log.layout.log}/", f"{log.layout.pins}/", f"{log.layout.holds}/")
    return not path.startswith(own) and path != log.layout.newest


def _remove_ended_holds(log: CorpusLog, now: datetime) -> None:
    ended: list[ObjectInfo] = [
        info for info in log.store.list(log.layout.holds) if now - info.modified > timedelta(seconds=HOLD_SECONDS)
    ]
    log.store.delete(info.path for info in ended)


__all__ = ["HEARTBEAT_SECONDS", "HOLD_SECONDS", "VacuumReport", "hold", "pin", "pins", "unpin", "vacuum"]
