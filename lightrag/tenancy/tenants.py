"""The tenants of a service, in its records. Every change is written together with its line in the audit log."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from lightrag.errors import ConflictError, NotFoundError, UsageError
from lightrag.storage.records import Records
from lightrag.tenancy.audit import Act, write
from lightrag.tenancy.tables import KeyRow, TenantRow
from lightrag.tenancy.types import Tenant
from lightrag.types import check_name


class Tenants:
    """Tenants by name.

    Args:
        records: with the tables of tenancy.
        classes: that a tenant may be in.
    """

    def __init__(self, records: Records, classes: Collection[str]) -> None:
        self._records = records
        self._classes = classes

    def create(self, name: str, tenant_class: str, act: Act) -> Tenant:
        """Make a tenant.

        Raises:
            UsageError: the name or the class is not valid.
            ConflictError: there is such a tenant.
        """
        check_name(name, "tenant")
        row = TenantRow(name=name, tenant_class=self._class(tenant_class), active=True, created=datetime.now(UTC))
        with self._records.session() as session:
            if session.get(TenantRow, name) is not None:
                raise ConflictError(f"tenant {name!r} exists already", subject=name)
            session.add(row)
            write(session, name, act, "tenant.create", name)
        return _tenant(row)

    def ensure(self, name: str, tenant_class: str, act: Act) -> Tenant:
        """The tenant of this name, made if there is none."""
        try:
            return self.get(name)
        except NotFoundError:
            pass
        try:
            return self.create(name, tenant_class, act)
        except ConflictError:
            return self.get(name)

    def get(self, name: str) -> Tenant:
        """One tenant.

        Raises:
            NotFoundError: there is none of this name.
        """
        with self._records.session(read_only=True) as session:
            return _tenant(_row(session, name))

    def page(self, after: str = "", limit: int = 100) -> Sequence[Tenant]:
        """Tenants in order of name."""
        query = sa.select(TenantRow).where(TenantRow.name > after).order_by(TenantRow.name).limit(limit)
        with self._records.session(read_only=True) as session:
            return [_tenant(row) for row in session.scalars(query)]

    def change(self, name: str, act: Act, *, tenant_class: str | None = None, active: bool | None = None) -> Tenant:
        """Put a tenant into another class, or lock it out and let it in again.

        Raises:
            NotFoundError: there is none of this name.
            UsageError: there is no such class.
        """
        with self._records.session() as session:
            row = _row(session, name, lock=True)
            if tenant_class is not None:
                row.tenant_class = self._class(tenant_class)
            if active is not None:
                row.active = active
            write(session, name, act, "tenant.change", f"class={row.tenant_class} active={row.active}")
            return _tenant(row)

    def remove(self, name: str, act: Act) -> int:
        """Forget a tenant and its keys; returns the number of keys. The audit log stays, and says who did it."""
        with self._records.session() as session:
            row = _row(session, name, lock=True)
            mine = KeyRow.tenant == name
            keys = session.execute(sa.select(sa.func.count()).select_from(KeyRow).where(mine)).scalar_one()
            session.execute(sa.delete(KeyRow).where(mine))
            session.delete(row)
            write(session, name, act, "tenant.delete", name)
        return keys

    def _class(self, name: str) -> str:
        if name not in self._classes:
            raise UsageError(
                f"there is no class {name!r} of tenants; the settings name {sorted(self._classes)!r}", subject=name
            )
        return name


def _row(session: Session, name: str, *, lock: bool = False) -> TenantRow:
    row = session.get(TenantRow, name, with_for_update=lock or None)
    if row is None:
        raise NotFoundError(f"there is no tenant {name!r}", subject=name)
    return row


def _tenant(row: TenantRow) -> Tenant:
    return Tenant(row.name, row.tenant_class, row.created, row.active)


__all__ = ["Tenants"]
