"""Routes of administration: a tenant's own keys, usage and audit log, and, for operators, the tenants themselves."""

# Annotations are evaluated here: FastAPI reads them.
import asyncio
import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from lightrag.api.admin_schemas import (
    AuditPage,
    AuditView,
    KeyBody,
    KeyList,
    KeyView,
    NewKeyView,
    RotateBody,
    TenantBody,
    TenantChange,
    TenantDeletionView,
    TenantPage,
    TenantView,
    UsageReport,
    UsageView,
)
from lightrag.api.context import CURRENT
from lightrag.api.security import current_principal
from lightrag.conversation.service import Memories
from lightrag.conversation.types import Scope
from lightrag.errors import PermissionDenied, UsageError
from lightrag.tenancy import holdings
from lightrag.tenancy.audit import Act
from lightrag.tenancy.service import Tenancy
from lightrag.tenancy.types import Principal

Who = Annotated[Principal, Depends(current_principal)]
Limit = Annotated[int, Query(ge=1, le=1000)]
_LONGEST_REPORT = timedelta(days=400)


def admin_routes(tenancy: Tenancy, memories: Memories | None) -> APIRouter:
    """Build the routes.

    Args:
        tenancy: knows tenants and keys.
        memories: of conversations, which are deleted with their tenant.
    """
    routes = APIRouter(tags=["admin"], prefix="/v1")
    _add_usage(routes, tenancy)
    _add_keys(routes, tenancy)
    _add_tenants(routes, tenancy)
    _add_holdings(routes, tenancy, memories)
    return routes


def _add_usage(routes: APIRouter, tenancy: Tenancy) -> None:
    @routes.get("/usage")
    async def usage(who: Who, first: date | None = None, last: date | None = None) -> UsageReport:
        """What the tenant used per day, corpus and model (days in UTC, both included), and its quotas."""
        last = last or datetime.now(UTC).date()
        first = first or last.replace(day=1)
        if not timedelta(0) <= last - first <= _LONGEST_REPORT:
            raise UsageError(f"a report covers 1 to {_LONGEST_REPORT.days} days, from first to last", subject="first")
        await tenancy.flush()
        lines = await asyncio.to_thread(tenancy.usage_records.report, who.tenant, first, last)
        return UsageReport(
            tenant=who.tenant,
            first=first.isoformat(),
            last=last.isoformat(),
            lines=[UsageView.of(line) for line in lines],
            quota=tenancy.quota(who).model_dump(),
        )

    @routes.get("/admin/audit")
    async def audit(
        who: Who, before: Annotated[int | None, Query(ge=1, lt=2**63)] = None, limit: Limit = 100
    ) -> AuditPage:
        """Who did what in this tenant, newest first."""
        _admin(tenancy, who)
        await tenancy.flush()
        entries = await asyncio.to_thread(tenancy.audit_log.page, who.tenant, before, limit)
        following = entries[-1].number if len(entries) == limit else None
        return AuditPage(entries=[AuditView.of(entry) for entry in entries], next=following)


def _add_keys(routes: APIRouter, tenancy: Tenancy) -> None:
    @routes.get("/admin/keys")
    async def keys(who: Who) -> KeyList:
        """List the tenant's keys."""
        _admin(tenancy, who)
        found = await asyncio.to_thread(tenancy.keys.all, who.tenant)
        return KeyList(keys=[KeyView.of(key) for key in found])

    @routes.post("/admin/keys", status_code=201)
    async def create_key(body: KeyBody, who: Who) -> NewKeyView:
        """Make a key of the tenant. The answer shows it, once. Nobody can give rights that are not their own."""
        _admin(tenancy, who)
        request = body.request(who.tenant)
        if missing := sorted(request.granted - who.scopes):
            raise PermissionDenied(f"your key lacks the scope {missing[0]!r} and cannot give it", subject=missing[0])
        return NewKeyView.made(await asyncio.to_thread(tenancy.keys.create, request, _act(who)))

    @routes.delete("/admin/keys/{key_id}")
    async def revoke_key(key_id: str, who: Who) -> KeyView:
        """End a key. Other replicas follow within the settings' ``cache_seconds``."""
        _admin(tenancy, who)
        key = await asyncio.to_thread(tenancy.keys.revoke, who.tenant, key_id, _act(who))
        tenancy.changed()
        return KeyView.of(key)

    @routes.post("/admin/keys/{key_id}/rotate", status_code=201)
    async def rotate_key(key_id: str, body: RotateBody, who: Who) -> NewKeyView:
        """Make a key with the same rights; the old one works for a while yet."""
        _admin(tenancy, who)
        overlap = timedelta(seconds=body.overlap_seconds)
        listed = await asyncio.to_thread(tenancy.keys.all, who.tenant)
        for key in listed:
            if key.key_id == key_id and (missing := sorted(key.scopes - who.scopes)):
                raise PermissionDenied(f"that key has the scope {missing[0]!r}, which yours lacks", subject=missing[0])
        made = await asyncio.to_thread(tenancy.keys.rotate, who.tenant, key_id, overlap, _act(who))
        tenancy.changed()
        return NewKeyView.made(made)


def _add_tenants(routes: APIRouter, tenancy: Tenancy) -> None:
    @routes.get("/admin/tenants")
    async def tenants(who: Who, cursor: str = "", limit: Limit = 100) -> TenantPage:
        """List tenants, in order of name."""
        _operator(tenancy, who)
        found = await asyncio.to_thread(tenancy.tenants.page, cursor, limit + 1)
        following = found[limit - 1].name if len(found) > limit else None
        return TenantPage(tenants=[TenantView.of(tenant) for tenant in found[:limit]], next=following)

    @routes.post("/admin/tenants", status_code=201)
    async def create_tenant(body: TenantBody, who: Who) -> TenantView:
        """Make a tenant."""
        _operator(tenancy, who)
        kind = body.tenant_class or tenancy.settings.tenancy.default_class
        return TenantView.of(await asyncio.to_thread(tenancy.tenants.create, body.tenant, kind, _act(who)))

    @routes.patch("/admin/tenants/{tenant}")
    async def change_tenant(tenant: str, body: TenantChange, who: Who) -> TenantView:
        """Put a tenant into another class, lock it out, or let it in again."""
        _operator(tenancy, who)
        changed = await asyncio.to_thread(
            lambda: tenancy.tenants.change(tenant, _act(who), tenant_class=body.tenant_class, active=body.active)
        )
        tenancy.changed()
        return TenantView.of(changed)

    @routes.post("/admin/tenants/{tenant}/keys", status_code=201)
    async def create_tenant_key(tenant: str, body: KeyBody, who: Who) -> NewKeyView:
        """Make a key of any tenant, for example its first one."""
        _operator(tenancy, who)
        return NewKeyView.made(await asyncio.to_thread(tenancy.keys.create, body.request(tenant), _act(who)))


def _add_holdings(routes: APIRouter, tenancy: Tenancy, memories: Memories | None) -> None:
    @routes.get("/admin/tenants/{tenant}/export")
    async def export(tenant: str, who: Who) -> StreamingResponse:
        """Everything the records know of a tenant, as JSON lines; no secrets, no documents."""
        _operator(tenancy, who)
        await tenancy.flush()
        await asyncio.to_thread(tenancy.tenants.get, tenant)
        lines = _lines(holdings.export(tenancy.records, tenancy.store, tenant))
        return StreamingResponse(lines, media_type="application/x-ndjson")

    @routes.delete("/admin/tenants/{tenant}")
    async def delete_tenant(tenant: str, who: Who) -> TenantDeletionView:
        """Delete a tenant with all its corpora, memories, keys and usage, and report what was removed."""
        _operator(tenancy, who)
        if tenant == who.tenant:
            raise UsageError("an operator cannot delete the tenant of the key in use", subject=tenant)
        await asyncio.to_thread(lambda: tenancy.tenants.change(tenant, _act(who), active=False))
        tenancy.changed()
        await tenancy.flush()
        rows = await _forget(memories, tenant) if memories is not None else 0
        removed = await asyncio.to_thread(holdings.delete, tenancy.records, tenancy.store, tenant, _act(who))
        return TenantDeletionView(tenant=tenant, **{**asdict(removed), "memories": rows})


async def _forget(memories: Memories, tenant: str) -> int:
    rows = 0
    for user in await memories.users(tenant):
        rows += await memories.forget(Scope(tenant, user))
    return rows


def _admin(tenancy: Tenancy, who: Principal) -> None:
    _needs_keys(tenancy)
    who.require("admin")


def _operator(tenancy: Tenancy, who: Principal) -> None:
    _needs_keys(tenancy)
    who.require("operate")


def _needs_keys(tenancy: Tenancy) -> None:
    # Otherwise anybody who reaches the port could make keys for the day on which they will be asked for.
    if not tenancy.authenticated:
        raise PermissionDenied("administration over HTTP needs the setting tenancy.authentication: keys")


def _act(who: Principal) -> Act:
    context = CURRENT.get()
    return Act(who.key_id, context.request_id if context else "")


def _lines(values: Iterator[dict[str, object]]) -> Iterator[bytes]:
    for value in values:
        yield json.dumps(value, ensure_ascii=False).encode() + b"\n"


__all__ = ["admin_routes"]
