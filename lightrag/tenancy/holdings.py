"""What a tenant has stored, what of it can be exported, and how all of it is deleted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

import sqlalchemy as sa

from lightrag.config import QuotaSettings
from lightrag.errors import QuotaExceeded
from lightrag.storage.artifacts import CorpusLog, delete_tenant, list_corpora
from lightrag.storage.commits import Commit
from lightrag.storage.deletion import DeletionReport
from lightrag.storage.objects import ObjectStore
from lightrag.storage.records import Records
from lightrag.tenancy.audit import Act, AuditLog
from lightrag.tenancy.keys import Keys
from lightrag.tenancy.tables import BucketRow, ReplayRow, UsageRow
from lightrag.tenancy.tenants import Tenants
from lightrag.tenancy.usage import UsageRecords

_PAGE = 500
_BELIEVED_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the newest versions of a tenant's corpora hold together."""

    documents: int
    stored_bytes: int


@dataclass(frozen=True, slots=True)
class TenantDeletion:
    """What a deletion removed, and what a look afterwards still found."""

    corpora: dict[str, DeletionReport]
    """By name; the empty name stands for what belonged to no corpus."""
    keys: int
    records: int
    """Rows of usage, rates and idempotency keys."""
    remaining_objects: int
    """Counted after the deletion: 0, unless somebody wrote meanwhile."""


class StorageQuota:
    """Checks what is stored before more is written; believes its sums for a few seconds."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._known: dict[str, tuple[float, Holdings]] = {}

    def holdings(self, tenant: str) -> Holdings:
        """Add up what a tenant has stored."""
        commits = [commit for _, commit in _corpora(self._store, tenant)]
        files = sum(group.bytes for commit in commits for group in commit.files.values())
        return Holdings(sum(commit.counts.get("documents", 0) for commit in commits), files)

    def check(self, tenant: str, quota: QuotaSettings, more_bytes: int) -> None:
        """Check that a tenant may write.

        Raises:
            QuotaExceeded: it has stored as much as it may. Waiting does not help, deleting does.
        """
        if quota.documents is None and quota.stored_bytes is None:
            return
        looked, held = self._known.get(tenant, (float("-inf"), Holdings(0, 0)))
        if time.monotonic() - looked > _BELIEVED_SECONDS:
            held = self.holdings(tenant)
            self._known[tenant] = (time.monotonic(), held)
        if quota.documents is not None and held.documents >= quota.documents:
            message = f"the tenant has {held.documents} documents, and may have {quota.documents}: delete some first"
            raise QuotaExceeded(message, subject="documents")
        if quota.stored_bytes is not None and held.stored_bytes + more_bytes > quota.stored_bytes:
            message = (
                f"the tenant stores {held.stored_bytes} bytes, and may store {quota.stored_bytes}: {more_bytes} more "
                "are too many"
            )
            raise QuotaExceeded(message, subject="stored_bytes")


def export(records: Records, store: ObjectStore, tenant: str) -> Iterator[dict[str, Any]]:
    """Everything the records know of a tenant, and a list of its corpora: one value per line, each with its ``kind``.

    Documents and memories are read through their own routes. No secret is in the result.
    """
    found = Tenants(records, ()).get(tenant)
    yield {"kind": "tenant", "name": tenant, "class": found.tenant_class, "created": found.created.isoformat()}
    for key in Keys(records).all(tenant):
        yield {"kind": "key", "key_id": key.key_id, "name": key.name, "role": key.role, "scopes": sorted(key.scopes)}
    for name, commit in _corpora(store, tenant):
        counts = dict(commit.counts)
        yield {"kind": "corpus", "corpus": name, "version": commit.version, "counts": counts}
    for line in UsageRecords(records).report(tenant, date.min, date.max):
        tokens = {"prompt_tokens": line.used.prompt_tokens, "completion_tokens": line.used.completion_tokens}
        used = {"day": line.day, "corpus": line.corpus, "model": line.model, "requests": line.used.requests}
        yield {"kind": "usage", **used, **tokens}
    before: int | None = None
    log = AuditLog(records)
    while lines := log.page(tenant, before, _PAGE):
        for entry in lines:
            done = {"action": entry.action, "subject": entry.subject, "outcome": entry.outcome}
            yield {"kind": "audit", "moment": entry.moment.isoformat(), "actor": entry.actor, **done}
        before = lines[-1].number


def delete(records: Records, store: ObjectStore, tenant: str, act: Act) -> TenantDeletion:
    """Delete a tenant: its keys are refused first, so that nobody writes any more, then everything goes.

    Memories of conversations are the caller's to delete, who holds their store.

    Args:
        records: where it is known.
        store: where its corpora are.
        tenant: whose data.
        act: who does it.

    Raises:
        NotFoundError: there is no such tenant.
    """
    tenants = Tenants(records, ())
    tenants.change(tenant, act, active=False)
    corpora = delete_tenant(store, tenant)
    rows = _delete_rows(records, tenant)
    keys = tenants.remove(tenant, act)
    remaining = sum(1 for _ in store.list(tenant))
    return TenantDeletion(corpora, keys, rows, remaining)


def _delete_rows(records: Records, tenant: str) -> int:
    removed = 0
    with records.session() as session:
        for table in (UsageRow, BucketRow, ReplayRow):
            mine = table.__table__.c.tenant == tenant
            removed += session.execute(sa.select(sa.func.count()).select_from(table).where(mine)).scalar_one()
            session.execute(sa.delete(table).where(mine))
    return removed


def _corpora(store: ObjectStore, tenant: str) -> Iterator[tuple[str, Commit]]:
    for corpus in list_corpora(store, tenant):
        commit = CorpusLog(store, corpus).latest()
        if commit is not None:  # deleted since it was listed
            yield corpus.corpus, commit


def seconds_until_tomorrow() -> float:
    """Until the next day in UTC."""
    now = datetime.now(UTC)
    return 86_400 - (now.hour * 3600 + now.minute * 60 + now.second + now.microsecond / 1e6)


__all__ = ["Holdings", "StorageQuota", "TenantDeletion", "delete", "export", "seconds_until_tomorrow"]
