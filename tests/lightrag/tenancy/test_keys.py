"""Keys and tenants in the records, and the way from a key to a principal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from lightrag.errors import AuthenticationError, ConflictError, NotFoundError, UsageError
from lightrag.storage.records import Records
from lightrag.tenancy.audit import AuditLog
from lightrag.tenancy.authentication import Authenticator
from lightrag.tenancy.keys import Keys
from lightrag.tenancy.tables import KeyRow
from lightrag.tenancy.tenants import Tenants
from lightrag.tenancy.types import ROLE_SCOPES, KeyRequest
from tests.lightrag.tenancy.conftest import ACT


@pytest.fixture
def keys(records: Records) -> Keys:
    return Keys(records)


@pytest.fixture
def tenants(records: Records) -> Tenants:
    return Tenants(records, {"standard", "gold"})


async def refused(authenticator: Authenticator, text: str) -> str:
    with pytest.raises(AuthenticationError) as caught:
        await authenticator.principal(text)
    return str(caught.value)


async def test_a_key_becomes_its_tenant_and_rights(keys: Keys) -> None:
    made = keys.create(KeyRequest("acme", "chat", "writer"), ACT)
    principal = await Authenticator(keys, cache_seconds=5).principal(made.text)
    assert (principal.tenant, principal.role, principal.key_id) == ("acme", "writer", made.key.key_id)
    assert principal.scopes == ROLE_SCOPES["writer"]


def test_the_text_of_a_key_is_nowhere_in_the_records(records: Records, keys: Keys) -> None:
    made = keys.create(KeyRequest("acme"), ACT)
    secret = made.text.split("_", 2)[2]
    with records.session(read_only=True) as session:
        row = session.execute(sa.select(KeyRow.__table__)).mappings().one()
    assert secret not in repr(dict(row))
    assert made.text not in repr(made)


async def test_wrong_unknown_expired_and_locked_out_keys_are_refused_alike(keys: Keys, tenants: Tenants) -> None:
    good = keys.create(KeyRequest("acme"), ACT)
    locked = keys.create(KeyRequest("globex"), ACT)
    soon = keys.create(KeyRequest("acme", expires=datetime.now(UTC) + timedelta(milliseconds=1)), ACT)
    revoked = keys.create(KeyRequest("acme"), ACT)
    keys.revoke("acme", revoked.key.key_id, ACT)
    tenants.change("globex", ACT, active=False)
    wrong = good.text[:-2] + ("AA" if not good.text.endswith("AA") else "BB")
    unknown = f"lrag_{'0' * 16}_{'A' * 43}"
    authenticator = Authenticator(keys, cache_seconds=5)
    while datetime.now(UTC) < (soon.key.expires or datetime.now(UTC)):
        pass
    texts = [wrong, unknown, soon.text, revoked.text, locked.text, "", "lrag_", "x" * 10_000]
    assert len({await refused(authenticator, text) for text in texts}) == 1
    assert (await authenticator.principal(good.text)).tenant == "acme"


async def test_a_remembered_key_needs_no_database_until_it_is_forgotten(keys: Keys) -> None:
    made = keys.create(KeyRequest("acme"), ACT)
    authenticator = Authenticator(keys, cache_seconds=3600)
    await authenticator.principal(made.text)
    keys.revoke("acme", made.key.key_id, ACT)
    await authenticator.principal(made.text)
    authenticator.forget()
    await refused(authenticator, made.text)


async def test_a_rotated_key_and_its_successor_work_side_by_side(keys: Keys) -> None:
    expires = datetime.now(UTC) + timedelta(days=10)
    old = keys.create(KeyRequest("acme", "chat", "writer", frozenset({"corpora:read"}), expires), ACT)
    new = keys.rotate("acme", old.key.key_id, timedelta(hours=1), ACT)
    authenticator = Authenticator(keys, cache_seconds=0)
    first, second = await authenticator.principal(old.text), await authenticator.principal(new.text)
    assert first.scopes == second.scopes == {"corpora:read"}
    left, right = keys.all("acme")
    assert left.replaced_by == right.key_id
    assert left.expires is not None
    assert left.expires < datetime.now(UTC) + timedelta(hours=1, seconds=1)
    assert right.expires is not None
    assert right.expires >= expires
    with pytest.raises(ConflictError, match="rotated"):
        keys.rotate("acme", old.key.key_id, timedelta(0), ACT)
    with pytest.raises(UsageError, match="30 days"):
        keys.rotate("acme", new.key.key_id, timedelta(days=31), ACT)


async def test_without_overlap_the_old_key_ends_at_once(keys: Keys) -> None:
    old = keys.create(KeyRequest("acme"), ACT)
    keys.rotate("acme", old.key.key_id, timedelta(0), ACT)
    await refused(Authenticator(keys, cache_seconds=0), old.text)


def test_keys_of_another_tenant_are_as_unknown_as_keys_that_do_not_exist(keys: Keys) -> None:
    made = keys.create(KeyRequest("acme"), ACT)
    for act in (
        lambda key_id: keys.revoke("globex", key_id, ACT),
        lambda key_id: keys.rotate("globex", key_id, timedelta(0), ACT),
    ):
        said = []
        for key_id in (made.key.key_id, "f" * 16):
            with pytest.raises(NotFoundError) as caught:
                act(key_id)
            said.append(str(caught.value).replace(key_id, "KEY"))
        assert said[0] == said[1]
    assert keys.all("globex") == []
    assert keys.all("acme")[0].revoked is None


def test_impossible_keys_are_refused(keys: Keys) -> None:
    with pytest.raises(UsageError, match="has no scope 'admin'"):
        KeyRequest("acme", role="reader", scopes=frozenset({"admin"}))
    with pytest.raises(UsageError, match="without any scope"):
        KeyRequest("acme", scopes=frozenset())
    with pytest.raises(UsageError, match="expired already"):
        keys.create(KeyRequest("acme", expires=datetime(2020, 1, 1, tzinfo=UTC)), ACT)
    with pytest.raises(NotFoundError, match="nobody"):
        keys.create(KeyRequest("nobody"), ACT)


def test_the_last_use_only_moves_forward(keys: Keys) -> None:
    made = keys.create(KeyRequest("acme"), ACT)
    later, earlier = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    keys.used({made.key.key_id: later})
    keys.used({made.key.key_id: earlier, "gone": later})
    assert keys.all("acme")[0].last_used == later


def test_every_change_has_its_line_in_the_log_of_its_tenant(records: Records, keys: Keys, tenants: Tenants) -> None:
    made = keys.create(KeyRequest("acme"), ACT)
    keys.revoke("acme", made.key.key_id, ACT)
    keys.revoke("acme", made.key.key_id, ACT)
    tenants.change("acme", ACT, tenant_class="gold")
    log = AuditLog(records)
    lines = log.page("acme")
    assert [line.action for line in lines] == ["tenant.change", "key.revoke", "key.create", "tenant.create"]
    assert {(line.actor, line.request_id) for line in lines} == {("test", "request-1")}
    assert [line.action for line in log.page("globex")] == ["tenant.create"]
    assert [line.number for line in log.page("acme", before=lines[1].number, limit=1)] == [lines[2].number]


def test_tenants_are_made_once_and_listed_in_order(tenants: Tenants) -> None:
    with pytest.raises(ConflictError, match="acme"):
        tenants.create("acme", "standard", ACT)
    with pytest.raises(UsageError, match="there is no class 'lead'"):
        tenants.create("initech", "lead", ACT)
    with pytest.raises(UsageError, match="not a valid name"):
        tenants.create("../acme", "standard", ACT)
    assert tenants.ensure("acme", "gold", ACT).tenant_class == "standard"
    assert [tenant.name for tenant in tenants.page()] == ["acme", "globex"]
    assert [tenant.name for tenant in tenants.page("acme")] == ["globex"]
