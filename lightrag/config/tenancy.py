"""Settings of tenants: authentication, quotas, records."""

from __future__ import annotations

from typing import Literal

import pydantic
from pydantic import Field, SecretStr

from lightrag.config.section import Section


class QuotaSettings(Section):
    """What a tenant may use; left out: as much as it likes."""

    requests_per_minute: int | None = Field(default=None, ge=1)
    """Sustained; a tenant that was quiet may send one minute's worth at once."""
    tokens_per_day: int | None = Field(default=None, ge=0)
    """Of language models, read and written, per day in UTC. Counted when an answer is complete."""
    stored_bytes: int | None = Field(default=None, ge=0)
    """Of the newest versions of all corpora."""
    documents: int | None = Field(default=None, ge=0)
    """In the newest versions of all corpora."""


class OidcSettings(Section):
    """Bearer tokens of an OpenID Connect provider, accepted beside API keys."""

    issuer: str = ""
    """As in the tokens' ``iss``; empty: none are accepted."""
    audience: str = ""
    """As in the tokens' ``aud``."""
    keys_url: str = ""
    """The provider's JSON Web Key Set."""
    tenant_claim: str = "tenant"
    role_claim: str = "role"
    """Holds ``reader``, ``writer`` or ``admin``; a token without it reads."""


class TenancySettings(Section):
    """Who may use the service, and how much of it."""

    authentication: Literal["none", "keys"] = "none"
    """``none``: every request belongs to ``tenant``. ``keys``: every request needs an API key."""
    records_url: SecretStr = SecretStr("")
    """Database of tenants, keys, usage and audit: ``postgresql://user@host/name``, which several replicas need, or a
    SQLite file. Empty: ``records.db`` in ``home``."""
    classes: dict[str, QuotaSettings] = Field(default_factory=lambda: {"standard": QuotaSettings()})
    """Classes of tenants and their quotas. Metrics carry the class, never the tenant."""
    default_class: str = "standard"
    """Class of tenants that are made without one."""
    slots: int = Field(default=32, ge=2)
    """Requests that one replica of the ingress works on at once."""
    slots_per_tenant: int = Field(default=24, ge=1)
    """Of these, how many one tenant may hold, so that another one need not wait for its burst."""
    slots_beside_others: int | None = Field(default=None, ge=1)
    """How many it may hold while other tenants ask too. Left out: one for every two processors of the machine where
    the service itself computes answers (``extractive``, ``transformers``), as a burst would take them from the others;
    ``slots_per_tenant`` where an engine or a service elsewhere does."""
    queue_per_tenant: int = Field(default=64, ge=0)
    """Requests of one tenant that wait for a slot before further ones get 429 with Retry-After."""
    queue_seconds: float = Field(default=10.0, gt=0)
    """How long a request waits for a slot before it gets 503."""
    cache_seconds: float = Field(default=5.0, ge=0)
    """How long replicas believe what they know about a key: a revoked one works that long, at most."""
    lease_seconds: float = Field(default=2.0, gt=0)
    """Rates and usage are synchronised between replicas this often."""
    oidc: OidcSettings = OidcSettings()

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> TenancySettings:
        if self.default_class not in self.classes:
            raise ValueError(f"default_class {self.default_class!r} is none of the classes {sorted(self.classes)!r}")
        if self.slots_per_tenant > self.slots:
            raise ValueError(f"slots_per_tenant {self.slots_per_tenant} is more than all slots ({self.slots})")
        if self.oidc.issuer and not (self.oidc.audience and self.oidc.keys_url):
            raise ValueError("oidc needs audience and keys_url beside issuer")
        return self


__all__ = ["OidcSettings", "QuotaSettings", "TenancySettings"]
