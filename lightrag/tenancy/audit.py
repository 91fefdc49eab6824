"""Who did what, when, and with which outcome. Never what was in it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from lightrag.storage.records import Records
from lightrag.tenancy.tables import AuditRow


@dataclass(frozen=True, slots=True)
class Act:
    """Who acts, and in which request."""

    actor: str
    """Id of a key, or ``command`` for somebody with access to the database."""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One line of the log."""

    tenant: str
    actor: str
    action: str
    """``key.create``, or method and route of a request."""
    subject: str
    """What it was done to: ids, never content."""
    outcome: str
    """``done``, or the status of the response."""
    _: KW_ONLY
    request_id: str = ""
    moment: datetime = field(default_factory=lambda: datetime.now(UTC))
    number: int = 0
    """Position in the log; rises."""


class AuditLog:
    """The log in the records."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def append(self, entries: Iterable[AuditEntry]) -> None:
        """Write lines in one transaction."""
        rows = [_values(entry) for entry in entries]
        if rows:
            with self._records.session() as session:
                session.execute(sa.insert(AuditRow), rows)

    def page(self, tenant: str, before: int | None = None, limit: int = 100) -> Sequence[AuditEntry]:
        """A tenant's lines, newest first."""
        query = sa.select(AuditRow).where(AuditRow.tenant == tenant).order_by(AuditRow.audit_id.desc()).limit(limit)
        if before is not None:
            query = query.where(AuditRow.audit_id < before)
        with self._records.session(read_only=True) as session:
            return [_entry(row) for row in session.scalars(query)]


def write(session: Session, tenant: str, act: Act, action: str, subject: str) -> None:
    """Write a line within the transaction of what it reports."""
    session.add(AuditRow(**_values(AuditEntry(tenant, act.actor, action, subject, "done", request_id=act.request_id))))


def _values(entry: AuditEntry) -> dict[str, object]:
    # The columns are bounded, and what is written may come from a client.
    return {
        "tenant": entry.tenant,
        "moment": entry.moment,
        "actor": entry.actor[:200],
        "action": entry.action[:200],
        "subject": entry.subject[:300].replace("\0", "?"),
        "outcome": entry.outcome[:40],
        "request_id": entry.request_id[:128],
    }


def _entry(row: AuditRow) -> AuditEntry:
    return AuditEntry(
        row.tenant,
        row.actor,
        row.action,
        row.subject,
        row.outcome,
        request_id=row.request_id,
        moment=row.moment,
        number=row.audit_id,
    )


__all__ = ["Act", "AuditEntry", "AuditLog", "write"]
