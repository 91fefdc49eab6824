"""Commands about tenants and their API keys, on the records themselves: whoever can open those may do anything.

Over HTTP the same is under ``/v1/admin``, with the key of an admin or operator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lightrag.cli.output import console, print_json, print_table
from lightrag.config import load_settings
from lightrag.errors import UsageError

if TYPE_CHECKING:
    from lightrag.tenancy.service import Tenancy
    from lightrag.tenancy.types import ApiKey, KeyScope, NewKey, Role, Tenant

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (YAML). Default: $LRAG_CONFIG.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
TenantName = Annotated[str, typer.Option("--tenant", "-t", help="Whose. Default: the settings' own tenant.")]

keys = typer.Typer(help="Make, list, revoke and rotate API keys.", no_args_is_help=True)
tenants = typer.Typer(help="Make, list, change, export and delete tenants.", no_args_is_help=True)

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def register(app: typer.Typer) -> None:
    """Add the commands to the ``lightrag`` command."""
    app.add_typer(keys, name="keys")
    app.add_typer(tenants, name="tenants")


# --- Keys -------------------------------------------------------------------------------------------------------------


@keys.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="What it is for.")] = "",
    tenant: TenantName = "",
    role: Annotated[str, typer.Option(help="reader, writer, admin or operator.")] = "reader",
    scope: Annotated[list[str] | None, typer.Option(help="A part of the role's scopes; repeat it.")] = None,
    expires_in: Annotated[str, typer.Option(help="For example 12h, 30d or 8w. Default: never.")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a key and show it, this once."""
    from lightrag.tenancy.types import KeyRequest

    expires = datetime.now(UTC) + _duration(expires_in) if expires_in else None
    scopes = frozenset(cast("list[KeyScope]", scope)) if scope else None
    with _tenancy(config) as tenancy:
        request = KeyRequest(tenant or tenancy.settings.tenant, name, cast("Role", role), scopes, expires)
        _show_new(tenancy.keys.create(request, _act()), as_json=as_json)


@keys.command("list")
def list_keys(tenant: TenantName = "", config: Config = None, as_json: Json = False) -> None:
    """List the keys of a tenant."""
    with _tenancy(config) as tenancy:
        found = tenancy.keys.all(tenant or tenancy.settings.tenant)
    if as_json:
        print_json([_plain(key) for key in found])
        return
    if not found:
        console.print("No keys yet; make one with [bold]lightrag keys create[/]")
        return
    rows = [
        (key.key_id, key.name, key.role, _state(key), _minute(key.expires), _minute(key.last_used)) for key in found
    ]
    print_table("API keys", ["key", "name", "role", "state", "expires", "last used"], rows)


@keys.command("revoke")
def revoke_key(key_id: str, tenant: TenantName = "", config: Config = None, as_json: Json = False) -> None:
    """End a key. Running replicas follow within tenancy.cache_seconds."""
    with _tenancy(config) as tenancy:
        key = tenancy.keys.revoke(tenant or tenancy.settings.tenant, key_id, _act())
    if as_json:
        print_json(_plain(key))
    else:
        console.print(f"Revoked {key.key_id}")


@keys.command("rotate")
def rotate_key(
    key_id: str,
    tenant: TenantName = "",
    overlap: Annotated[str, typer.Option(help="How long both keys work.")] = "1h",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a key with the same rights; the old one works for a while yet."""
    with _tenancy(config) as tenancy:
        owner = tenant or tenancy.settings.tenant
        _show_new(tenancy.keys.rotate(owner, key_id, _duration(overlap), _act()), as_json=as_json)


# --- Tenants ----------------------------------------------------------------------------------------------------------


@tenants.command("create")
def create_tenant(
    name: str,
    tenant_class: Annotated[str, typer.Option("--class", help="One of tenancy.classes.")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a tenant."""
    with _tenancy(config) as tenancy:
        kind = tenant_class or tenancy.settings.tenancy.default_class
        made = tenancy.tenants.create(name, kind, _act())
    if as_json:
        print_json(asdict(made))
    else:
        console.print(f"Made tenant {made.name}; give it a key with [bold]lightrag keys create --tenant {made.name}[/]")


@tenants.command("list")
def list_tenants(config: Config = None, as_json: Json = False) -> None:
    """List all tenants."""
    with _tenancy(config) as tenancy:
        found: list[Tenant] = []
        while page := tenancy.tenants.page(found[-1].name if found else "", 500):
            found.extend(page)
    if as_json:
        print_json([asdict(tenant) for tenant in found])
        return
    rows = [(one.name, one.tenant_class, "active" if one.active else "locked", _minute(one.created)) for one in found]
    print_table("Tenants", ["tenant", "class", "state", "made"], rows)


@tenants.command("change")
def change_tenant(
    name: str,
    tenant_class: Annotated[str | None, typer.Option("--class", help="One of tenancy.classes.")] = None,
    active: Annotated[bool | None, typer.Option("--unlock/--lock", help="Whether its keys work.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Put a tenant into another class, lock it out, or let it in again."""
    with _tenancy(config) as tenancy:
        changed = tenancy.tenants.change(name, _act(), tenant_class=tenant_class, active=active)
    if as_json:
        print_json(asdict(changed))
    else:
        console.print(f"{changed.name}: class {changed.tenant_class}, {'active' if changed.active else 'locked'}")


@tenants.command("export")
def export_tenant(name: str, config: Config = None) -> None:
    """Print everything the records know of a tenant as JSON lines. No secrets, no documents."""
    from lightrag.tenancy import holdings

    with _tenancy(config) as tenancy:
        for line in holdings.export(tenancy.records, tenancy.store, name):
            print_json(line)


@tenants.command("delete")
def delete_tenant(
    name: str,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Delete a tenant with its corpora, memories, keys and usage, and say what was removed. It cannot be undone."""
    import asyncio

    from lightrag.tenancy import holdings

    if not yes:
        typer.confirm(f"Delete tenant {name} and everything it has?", abort=True)
    with _tenancy(config) as tenancy:
        tenancy.tenants.change(name, _act(), active=False)
        rows = asyncio.run(_forget(tenancy, name))
        removed = holdings.delete(tenancy.records, tenancy.store, name, _act())
    report = {"tenant": name, **asdict(removed), "memories": rows}
    if as_json:
        print_json(report)
        return
    objects = sum(corpus.objects for corpus in removed.corpora.values())
    console.print(
        f"Deleted {name}: {len([one for one in removed.corpora if one])} corpora ({objects} objects), {rows} rows of "
        f"memories, {removed.keys} keys, {removed.records} records; {removed.remaining_objects} objects remain"
    )


async def _forget(tenancy: Tenancy, tenant: str) -> int:
    from lightrag.conversation.engine_service import EngineMemories
    from lightrag.conversation.types import Scope

    memories = EngineMemories(tenancy.settings)
    rows = 0
    try:
        for user in await memories.users(tenant):
            rows += await memories.forget(Scope(tenant, user))
    finally:
        await memories.close()
    return rows


@contextmanager
def _tenancy(config: Path | None) -> Iterator[Tenancy]:
    from lightrag.tenancy.service import Tenancy

    tenancy = Tenancy.open(load_settings(config))
    try:
        yield tenancy
    finally:
        tenancy.records.close()


def _act() -> Any:
    from lightrag.tenancy.audit import Act

    return Act("command")


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if found is None:
        raise UsageError(f"{text!r} is no length of time: write for example 30m, 12h, 30d or 8w", subject=text)
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _show_new(new: NewKey, *, as_json: bool) -> None:
    if as_json:
        print_json({**_plain(new.key), "text": new.text})
        return
    console.print(f"Key {new.key.key_id} of tenant {new.key.tenant} ({new.key.role}). It is not shown again:")
    console.print(f"[bold]{new.text}[/]")


def _plain(key: ApiKey) -> dict[str, Any]:
    return {**asdict(key), "scopes": sorted(key.scopes)}


def _state(key: ApiKey) -> str:
    if key.revoked is not None:
        return "revoked"
    if not key.valid(datetime.now(UTC)):
        return "expired"
    return "rotated" if key.replaced_by else "valid"


def _minute(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M") if moment else ""


__all__ = ["keys", "register", "tenants"]
