"""Tenants, keys and principals as frozen values. Nothing here reads or writes records."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from datetime import datetime
from typing import Literal, get_args

from lightrag.errors import PermissionDenied, UsageError
from lightrag.types import check_name

Role = Literal["reader", "writer", "admin", "operator"]
"""``reader`` asks, ``writer`` also changes data, ``admin`` also manages the tenant's keys and sees its usage and audit
log. ``operator`` manages all tenants, and reads the data of none but its own."""

KeyScope = Literal["corpora:read", "corpora:write", "memories:read", "memories:write", "admin", "operate"]

ROLE_SCOPES: dict[Role, frozenset[KeyScope]] = {
    "reader": frozenset({"corpora:read", "memories:read"}),
    "writer": frozenset({"corpora:read", "memories:read", "corpora:write", "memories:write"}),
    "admin": frozenset({"corpora:read", "memories:read", "corpora:write", "memories:write", "admin"}),
    "operator": frozenset(get_args(KeyScope)),
}


@dataclass(frozen=True, slots=True)
class Principal:
    """Who sends a request."""

    tenant: str
    scopes: frozenset[KeyScope]
    _: KW_ONLY
    key_id: str = ""
    """The key, or ``oidc:`` and the subject of a token; empty where authentication is off."""
    role: Role = "reader"
    tenant_class: str = "standard"

    def require(self, scope: KeyScope) -> None:
        """Check a scope.

        Raises:
            PermissionDenied: it is missing.
        """
        if scope not in self.scopes:
            raise PermissionDenied(f"this needs a key with the scope {scope!r}", subject=scope)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A customer of the service."""

    name: str
    tenant_class: str
    created: datetime
    active: bool = True
    """Keys of an inactive tenant are refused."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known about a key. Its secret is not."""

    key_id: str
    tenant: str
    name: str
    role: Role
    scopes: frozenset[KeyScope]
    created: datetime
    expires: datetime | None = None
    revoked: datetime | None = None
    last_used: datetime | None = None
    """To the minute."""
    replaced_by: str | None = None
    """The key that a rotation made."""

    def valid(self, now: datetime) -> bool:
        """Whether it opens anything at a time."""
        return self.revoked is None and (self.expires is None or now < self.expires)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made; the only time its text is known."""

    key: ApiKey
    text: str

    def __repr__(self) -> str:
        return f"NewKey({self.key!r})"


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """A key to make."""

    tenant: str
    name: str = ""
    role: Role = "reader"
    scopes: frozenset[KeyScope] | None = None
    """A part of the role's scopes; ``None``: all of them."""
    expires: datetime | None = None

    def __post_init__(self) -> None:
        check_name(self.tenant, "tenant")
        if self.role not in ROLE_SCOPES:
            raise UsageError(f"there is no role {self.role!r}; the roles are {list(ROLE_SCOPES)!r}", subject="role")
        if len(self.name) > 100 or not self.name.isprintable():
            raise UsageError("the name of a key is printable text of at most 100 characters", subject="name")
        if self.expires is not None and self.expires.tzinfo is None:
            raise UsageError(f"the expiry {self.expires.isoformat()} has no time zone", subject="expires")
        if unknown := sorted(self.granted - ROLE_SCOPES[self.role]):
            known = sorted(ROLE_SCOPES[self.role])
            raise UsageError(f"role {self.role!r} has no scope {unknown[0]!r}; it has {known!r}", subject="scopes")
        if not self.granted:
            raise UsageError("a key without any scope would open nothing", subject="scopes")

    @property
    def granted(self) -> frozenset[KeyScope]:
        """The scopes that the key will have."""
        return ROLE_SCOPES[self.role] if self.scopes is None else self.scopes


__all__ = [
    "ROLE_SCOPES",
    "ApiKey",
    "KeyRequest",
    "KeyScope",
    "NewKey",
    "Principal",
    "Role",
    "Tenant",
]
