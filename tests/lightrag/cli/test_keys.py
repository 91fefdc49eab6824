"""The commands of keys and tenants, on records of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lightrag.cli.app import app
from lightrag.config import load_settings
from lightrag.errors import ConflictError, NotFoundError, UsageError
from lightrag.tenancy.service import Tenancy


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LRAG_HOME", str(tmp_path))
    return tmp_path


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return json.loads(result.stdout)


async def test_a_key_that_a_command_made_opens_the_service() -> None:
    made = run("keys", "create", "laptop", "--role", "admin", "--expires-in", "30d")
    tenancy = Tenancy.open(load_settings(None, tenancy={"authentication": "keys"}))
    assert (await tenancy.principal(made["text"])).role == "admin"
    await tenancy.close()


def test_keys_are_listed_rotated_and_revoked_without_showing_them_again() -> None:
    made = run("keys", "create", "--scope", "corpora:read")
    rotated = run("keys", "rotate", made["key_id"], "--overlap", "12h")
    assert rotated["scopes"] == ["corpora:read"]
    run("keys", "revoke", rotated["key_id"])
    listed = run("keys", "list")
    assert [key["replaced_by"] for key in listed] == [rotated["key_id"], None]
    assert made["text"] not in json.dumps(listed)
    table = CliRunner().invoke(app, ["keys", "list"]).stdout
    assert "revoked" in table
    assert "rotated" in table


def test_tenants_are_made_changed_and_deleted() -> None:
    run("tenants", "create", "globex")
    run("keys", "create", "--tenant", "globex")
    assert run("tenants", "change", "globex", "--lock")["active"] is False
    assert [tenant["name"] for tenant in run("tenants", "list")] == ["default", "globex"]
    removed = run("tenants", "delete", "globex", "--yes")
    assert (removed["keys"], removed["remaining_objects"]) == (1, 0)
    assert [tenant["name"] for tenant in run("tenants", "list")] == ["default"]


def test_misuse_names_the_cure() -> None:
    with pytest.raises(UsageError, match="30m, 12h"):
        run("keys", "create", "--expires-in", "tomorrow")
    with pytest.raises(UsageError, match="there is no role 'king'"):
        run("keys", "create", "--role", "king")
    with pytest.raises(NotFoundError, match="no key 'f'"):
        run("keys", "revoke", "f")
    with pytest.raises(ConflictError, match="default"):
        run("tenants", "create", "default")
    with pytest.raises(UsageError, match="there is no class"):
        run("tenants", "create", "globex", "--class", "lead")
