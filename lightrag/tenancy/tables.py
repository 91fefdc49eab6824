"""Tables of tenants, keys, rates, usage and audit. Every row but a tenant's own carries its tenant."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from lightrag.storage.records import Base, Records, UtcDateTime

OWNER = "tenancy"
MIGRATIONS = Path(__file__).parent / "migrations"

_Id = sa.BigInteger().with_variant(sa.Integer, "sqlite")
"""SQLite only numbers INTEGER keys by itself."""


class TenantRow(Base):
    """A tenant."""

    __tablename__ = "tenancy_tenants"
    name: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    tenant_class: Mapped[str] = mapped_column(sa.String(40))
    active: Mapped[bool]
    created: Mapped[datetime] = mapped_column(UtcDateTime)


class KeyRow(Base):
    """An API key; of its secret only a salted hash."""

    __tablename__ = "tenancy_keys"
    key_id: Mapped[str] = mapped_column(sa.String(16), primary_key=True)
    tenant: Mapped[str] = mapped_column(sa.ForeignKey("tenancy_tenants.name"), index=True)
    name: Mapped[str] = mapped_column(sa.String(100))
    role: Mapped[str] = mapped_column(sa.String(16))
    scopes: Mapped[str] = mapped_column(sa.String(200))
    salt: Mapped[bytes] = mapped_column(sa.LargeBinary(32))
    digest: Mapped[bytes] = mapped_column(sa.LargeBinary(32))
    created: Mapped[datetime] = mapped_column(UtcDateTime)
    expires: Mapped[datetime | None] = mapped_column(UtcDateTime)
    revoked: Mapped[datetime | None] = mapped_column(UtcDateTime)
    last_used: Mapped[datetime | None] = mapped_column(UtcDateTime)
    replaced_by: Mapped[str | None] = mapped_column(sa.String(16))


class BucketRow(Base):
    """What is left of a tenant's rate, shared by all replicas."""

    __tablename__ = "tenancy_buckets"
    tenant: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    level: Mapped[float]
    moment: Mapped[float]
    """Seconds of the database's clock."""


class UsageRow(Base):
    """What a tenant used in a day, by corpus and model."""

    __tablename__ = "tenancy_usage"
    tenant: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    day: Mapped[str] = mapped_column(sa.String(10), primary_key=True)
    corpus: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    model: Mapped[str] = mapped_column(sa.String(200), primary_key=True)
    requests: Mapped[int] = mapped_column(sa.BigInteger)
    prompt_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    completion_tokens: Mapped[int] = mapped_column(sa.BigInteger)
    cached_tokens: Mapped[int] = mapped_column(sa.BigInteger)


class AuditRow(Base):
    """Something that was done, or refused."""

    __tablename__ = "tenancy_audit"
    audit_id: Mapped[int] = mapped_column(_Id, primary_key=True, autoincrement=True)
    tenant: Mapped[str] = mapped_column(sa.String(63))
    moment: Mapped[datetime] = mapped_column(UtcDateTime)
    actor: Mapped[str] = mapped_column(sa.String(200))
    action: Mapped[str] = mapped_column(sa.String(200))
    subject: Mapped[str] = mapped_column(sa.String(300))
    outcome: Mapped[str] = mapped_column(sa.String(40))
    request_id: Mapped[str] = mapped_column(sa.String(128))
    __table_args__ = (sa.Index(None, "tenant", "audit_id"), {"sqlite_autoincrement": True})


class ReplayRow(Base):
    """The answer to a write that carried an idempotency key."""

    __tablename__ = "tenancy_replays"
    tenant: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    replay_key: Mapped[str] = mapped_column(sa.String(255), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(sa.String(64))
    created: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    status: Mapped[int | None]
    """Empty while the write still runs."""
    media_type: Mapped[str | None] = mapped_column(sa.String(100))
    body: Mapped[bytes | None]


TABLES: tuple[type[Base], ...] = (TenantRow, KeyRow, BucketRow, UsageRow, AuditRow, ReplayRow)


def migrate(records: Records) -> None:
    """Bring the tables up to date. Raises as :meth:`lightrag.storage.records.Records.migrate`."""
    records.migrate(OWNER, MIGRATIONS)


__all__ = [
    "TABLES",
    "AuditRow",
    "BucketRow",
    "KeyRow",
    "ReplayRow",
    "TenantRow",
    "UsageRow",
    "migrate",
]
