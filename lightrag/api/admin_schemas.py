"""What goes over HTTP about tenants, keys, usage and audit."""

from __future__ import annotations

from datetime import datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from lightrag.api.schemas import Body
from lightrag.tenancy.audit import AuditEntry
from lightrag.tenancy.types import ApiKey, KeyRequest, KeyScope, NewKey, Role, Tenant
from lightrag.tenancy.usage import UsageLine


class _View(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class TenantBody(Body):
    """A tenant to make."""

    tenant: str
    tenant_class: str | None = None
    """One of the settings' classes; the default one where left out."""


class TenantChange(Body):
    """What changes; the rest stays."""

    tenant_class: str | None = None
    active: bool | None = None
    """Keys of an inactive tenant are refused."""


class KeyBody(Body):
    """A key to make."""

    name: str = ""
    role: Role = "reader"
    scopes: list[KeyScope] | None = None
    """A part of the role's scopes; all of them where left out."""
    expires: AwareDatetime | None = None

    def request(self, tenant: str) -> KeyRequest:
        """The same for a tenant."""
        scopes = None if self.scopes is None else frozenset(self.scopes)
        return KeyRequest(tenant, self.name, self.role, scopes, self.expires)


class RotateBody(Body):
    """How a key is replaced."""

    overlap_seconds: int = Field(default=3600, ge=0, le=30 * 86_400)
    """How long both keys work."""


class TenantView(_View):
    """A tenant."""

    tenant: str
    tenant_class: str
    active: bool
    created: datetime

    @classmethod
    def of(cls, tenant: Tenant) -> TenantView:
        """The same over HTTP."""
        return cls(tenant=tenant.name, tenant_class=tenant.tenant_class, active=tenant.active, created=tenant.created)


class TenantPage(_View):
    """Part of the tenants, in order of name."""

    tenants: list[TenantView]
    next: str | None
    """Cursor of the following page; null on the last one."""


class KeyView(_View):
    """A key, without its secret."""

    key_id: str
    tenant: str
    name: str
    role: Role
    scopes: list[KeyScope]
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    last_used: datetime | None
    """To the minute."""
    replaced_by: str | None

    @classmethod
    def of(cls, key: ApiKey) -> KeyView:
        """The same over HTTP."""
        return cls(
            key_id=key.key_id,
            tenant=key.tenant,
            name=key.name,
            role=key.role,
            scopes=sorted(key.scopes),
            created=key.created,
            expires=key.expires,
            revoked=key.revoked,
            last_used=key.last_used,
            replaced_by=key.replaced_by,
        )


class KeyList(_View):
    """All keys of the tenant, oldest first."""

    keys: list[KeyView]


class NewKeyView(KeyView):
    """A key that was just made."""

    text: str
    """The key itself. It is shown this once and cannot be read again."""

    @classmethod
    def made(cls, new: NewKey) -> NewKeyView:
        """The same over HTTP."""
        return cls(**KeyView.of(new.key).model_dump(), text=new.text)


class UsageView(_View):
    """What was used in one day of one corpus with one model."""

    day: str
    corpus: str
    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int

    @classmethod
    def of(cls, line: UsageLine) -> UsageView:
        """The same over HTTP."""
        used = line.used
        return cls(
            day=line.day,
            corpus=line.corpus,
            model=line.model,
            requests=used.requests,
            prompt_tokens=used.prompt_tokens,
            completion_tokens=used.completion_tokens,
            cached_tokens=used.cached_tokens,
        )


class UsageReport(_View):
    """What a tenant used, and what it may use."""

    tenant: str
    first: str
    last: str
    lines: list[UsageView]
    quota: dict[str, int | None]
    """By name; null: no limit."""


class AuditView(_View):
    """One line of the audit log."""

    number: int
    moment: datetime
    actor: str
    action: str
    subject: str
    outcome: str
    request_id: str

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditView:
        """The same over HTTP."""
        return cls(
            number=entry.number,
            moment=entry.moment,
            actor=entry.actor,
            action=entry.action,
            subject=entry.subject,
            outcome=entry.outcome,
            request_id=entry.request_id,
        )


class AuditPage(_View):
    """Part of the audit log, newest first."""

    entries: list[AuditView]
    next: int | None
    """Pass as ``before`` for older lines; null at the end."""


class CorpusDeletion(_View):
    """What was removed of one corpus."""

    versions: int
    objects: int
    bytes: int


class TenantDeletionView(_View):
    """What a deletion removed."""

    tenant: str
    corpora: dict[str, CorpusDeletion]
    """By name; the empty name stands for what belonged to no corpus."""
    keys: int
    records: int
    memories: int
    remaining_objects: int
    """Found by a look afterwards: 0, unless somebody wrote meanwhile."""


__all__ = [
    "AuditPage",
    "AuditView",
    "CorpusDeletion",
    "KeyBody",
    "KeyList",
    "KeyView",
    "NewKeyView",
    "RotateBody",
    "TenantBody",
    "TenantChange",
    "TenantDeletionView",
    "TenantPage",
    "TenantView",
    "UsageReport",
    "UsageView",
]
