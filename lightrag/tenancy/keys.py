"""API keys in the records: make, list, revoke, rotate, and find the one that a request carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, cast

import sqlalchemy as sa
from sqlalchemy.orm import Session

from lightrag.errors import ConflictError, NotFoundError, UsageError
from lightrag.storage.records import Records
from lightrag.tenancy.audit import Act, write
from lightrag.tenancy.secrets import Sealed, new_key, seal
from lightrag.tenancy.tables import KeyRow, TenantRow
from lightrag.tenancy.types import ApiKey, KeyRequest, KeyScope, NewKey, Role

LONGEST_OVERLAP = timedelta(days=30)


class Stored(NamedTuple):
    """What a request is checked against."""

    key: ApiKey
    sealed: Sealed
    tenant_class: str
    tenant_active: bool


class Keys:
    """The keys of all tenants. Every method but :meth:`find` names the tenant."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def create(self, request: KeyRequest, act: Act) -> NewKey:
        """Make a key. Its text is in the result and nowhere else.

        Raises:
            NotFoundError: there is no such tenant.
            UsageError: it would have expired already.
        """
        now = datetime.now(UTC)
        if request.expires is not None and request.expires <= now:
            raise UsageError(f"the key would have expired already, at {request.expires.isoformat()}", subject="expires")
        with self._records.session() as session:
            if session.get(TenantRow, request.tenant) is None:
                raise NotFoundError(f"there is no tenant {request.tenant!r}", subject=request.tenant)
            made = _insert(session, request, now)
            write(session, request.tenant, act, "key.create", made.key.key_id)
        return made

    def all(self, tenant: str) -> Sequence[ApiKey]:
        """The keys of a tenant, oldest first, also those that open nothing any more."""
        query = sa.select(KeyRow).where(KeyRow.tenant == tenant).order_by(KeyRow.created, KeyRow.key_id)
        with self._records.session(read_only=True) as session:
            return [_key(row) for row in session.scalars(query)]

    def revoke(self, tenant: str, key_id: str, act: Act) -> ApiKey:
        """End a key now. Doing it again changes nothing.

        Raises:
            NotFoundError: the tenant has no such key.
        """
        with self._records.session() as session:
            row = _row(session, tenant, key_id)
            if row.revoked is None:
                row.revoked = datetime.now(UTC)
                write(session, tenant, act, "key.revoke", key_id)
            return _key(row)

    def rotate(self, tenant: str, key_id: str, overlap: timedelta, act: Act) -> NewKey:
        """Make a key with the same rights, and let the old one expire after a time in which both work.

        The new key lives as long as the old one was made for.

        Raises:
            NotFoundError: the tenant has no such key.
            ConflictError: it opens nothing any more, or was rotated before.
            UsageError: the overlap is negative or longer than 30 days.
        """
        if not timedelta(0) <= overlap <= LONGEST_OVERLAP:
            raise UsageError(f"keys may overlap for 0 to {LONGEST_OVERLAP.days} days", subject="overlap")
        now = datetime.now(UTC)
        with self._records.session() as session:
            row = _row(session, tenant, key_id)
            old = _key(row)
            if not old.valid(now) or old.replaced_by:
                raise ConflictError(f"key {key_id!r} was revoked, rotated or has expired: make a new one")
            expires = None if old.expires is None else now + (old.expires - old.created)
            made = _insert(session, KeyRequest(tenant, old.name, old.role, old.scopes, expires), now)
            row.replaced_by = made.key.key_id
            row.expires = min(now + overlap, old.expires or now + overlap)
            write(session, tenant, act, "key.rotate", f"{key_id} -> {made.key.key_id}")
        return made

    def find(self, key_id: str) -> Stored | None:
        """The key of this id, of whatever tenant."""
        query = sa.select(KeyRow, TenantRow).join(TenantRow).where(KeyRow.key_id == key_id)
        with self._records.session(read_only=True) as session:
            found = session.execute(query).one_or_none()
        if found is None:
            return None
        row, tenant = found
        return Stored(_key(row), Sealed(row.salt, row.digest), tenant.tenant_class, tenant.active)

    def used(self, moments: Mapping[str, datetime]) -> None:
        """Note when keys were last used."""
        with self._records.session() as session:
            for key_id, moment in sorted(moments.items()):
                later = sa.or_(KeyRow.last_used.is_(None), KeyRow.last_used < moment)
                session.execute(sa.update(KeyRow).where(KeyRow.key_id == key_id, later).values(last_used=moment))


def _insert(session: Session, request: KeyRequest, now: datetime) -> NewKey:
    text = new_key()
    sealed = seal(text.secret)
    row = KeyRow(
        key_id=text.key_id,
        tenant=request.tenant,
        name=request.name,
        role=request.role,
        scopes=" ".join(sorted(request.granted)),
        salt=sealed.salt,
        digest=sealed.digest,
        created=now,
        expires=request.expires,
        revoked=None,
        last_used=None,
        replaced_by=None,
    )
    session.add(row)
    return NewKey(_key(row), str(text))


def _row(session: Session, tenant: str, key_id: str) -> KeyRow:
    row = session.get(KeyRow, key_id, with_for_update=True)
    # A key of another tenant is as unknown as one that does not exist.
    if row is None or row.tenant != tenant:
        raise NotFoundError(f"tenant {tenant!r} has no key {key_id!r}", subject=key_id)
    return row


def _key(row: KeyRow) -> ApiKey:
    return ApiKey(
        row.key_id,
        row.tenant,
        row.name,
        cast("Role", row.role),
        frozenset(cast("list[KeyScope]", row.scopes.split())),
        row.created,
        row.expires,
        row.revoked,
        row.last_used,
        row.replaced_by,
    )


__all__ = ["LONGEST_OVERLAP", "Keys", "Stored"]
