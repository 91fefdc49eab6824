"""Records of tenancy on SQLite, and on PostgreSQL where a server can be started."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lightrag.storage.records import Records, open_records
from lightrag.tenancy.audit import Act
from lightrag.tenancy.tables import migrate
from lightrag.tenancy.tenants import Tenants
from tests.lightrag.storage.test_records import postgres, url

__all__ = ["postgres", "url"]

ACT = Act("test", "request-1")


@pytest.fixture
def records(url: str) -> Iterator[Records]:
    """With tables and the tenants ``acme`` and ``globex``."""
    opened = open_records(url)
    migrate(opened)
    tenants = Tenants(opened, {"standard", "gold"})
    for name in ("acme", "globex"):
        tenants.create(name, "standard", ACT)
    yield opened
    opened.close()
