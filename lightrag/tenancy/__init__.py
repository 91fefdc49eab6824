"""Tenants, API keys, quotas, usage and audit. Knows nothing of HTTP: see ``lightrag.api.security``."""

from lightrag.tenancy.types import ApiKey, KeyRequest, KeyScope, NewKey, Principal, Role, Tenant

__all__ = ["ApiKey", "KeyRequest", "KeyScope", "NewKey", "Principal", "Role", "Tenant"]
