"""Removing whole corpora and tenants, completely, with a report, and safely beside writers.

Order makes it safe. First a tombstone with the last version number: a commit that comes now finds it and withdraws, and
a corpus made later under the same name counts on from there. Then the log, oldest version first, so that readers see
the newest version until they see none. Then everything else, again and again until a listing is empty.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lightrag.errors import ArtifactError, BackendError, NotFoundError
from lightrag.storage.layout import corpora_folder, parse_version
from lightrag.storage.objects import ObjectInfo, ObjectStore
from lightrag.types import CorpusId, check_name

if TYPE_CHECKING:
    from lightrag.storage.artifacts import CorpusLog

_ROUNDS = 100
"""Listings until a writer that does not stop is reported instead of chased."""


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """What was removed."""

    versions: int = 0
    objects: int = 0
    """Commits included."""
    bytes: int = 0


def delete(log: CorpusLog) -> DeletionReport:
    """See :meth:`CorpusLog.delete`."""
    commits = sorted(log.store.list(log.layout.log), key=lambda info: info.path)
    versions = [version for info in commits if (version := parse_version(info.path)) is not None]
    if versions:
        log.store.put(log.layout.tombstone, json.dumps({"last": versions[-1]}).encode())
        log.store.sync([log.layout.tombstone])
    for info in commits:
        log.store.delete([info.path])
    rest = _delete_below(log.store, log.layout.root)
    objects = [*commits, *rest]
    return DeletionReport(len(versions), len(objects), sum(info.size for info in objects))


def delete_tenant(store: ObjectStore, tenant: str) -> dict[str, DeletionReport]:
    """See :func:`lightrag.storage.artifacts.delete_tenant`."""
    from lightrag.storage.artifacts import CorpusLog

    check_name(tenant, "tenant")
    reports = {name: delete(CorpusLog(store, CorpusId(tenant, name))) for name in store.folders(corpora_folder(tenant))}
    rest = _delete_below(store, tenant)
    return {**reports, "": DeletionReport(0, len(rest), sum(info.size for info in rest))}


def last_deleted(log: CorpusLog) -> int:
    """The last version of deleted corpora of this name; 0 where there were none.

    Raises:
        ArtifactError: the tombstone is damaged. Going on would give old names to new versions.
    """
    try:
        return int(json.loads(log.store.get(log.layout.tombstone))["last"])
    except NotFoundError:
        return 0
    except (ValueError, KeyError, TypeError) as error:
        message = f"the tombstone {log.layout.tombstone!r} of {log.corpus} is damaged"
        raise ArtifactError(message, subject=str(log.corpus)) from error


def _delete_below(store: ObjectStore, folder: str) -> list[ObjectInfo]:
    removed: list[ObjectInfo] = []
    for _ in range(_ROUNDS):
        found = list(store.list(folder))
        store.delete(info.path for info in found)
        removed += found
        if not found:
            store.sweep(folder, before=datetime.now(UTC) + timedelta(seconds=1))
            return removed
    raise BackendError(f"somebody keeps writing below {folder!r}: stop it and delete again", subject=folder)


__all__ = ["DeletionReport", "delete", "delete_tenant", "last_deleted"]
