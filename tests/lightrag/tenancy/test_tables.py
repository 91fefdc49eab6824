"""Migrations of tenancy's tables."""

from __future__ import annotations

import shutil
from pathlib import Path

import sqlalchemy as sa

from lightrag.storage.records import open_records
from lightrag.tenancy.tables import MIGRATIONS, OWNER, TABLES, migrate


def test_an_empty_database_gets_the_tables_that_are_declared(url: str) -> None:
    records = open_records(url)
    migrate(records)
    assert records.differences(*TABLES) == []
    migrate(records)  # nothing is left to do
    records.close()


def test_an_older_database_is_brought_up_to_date_and_keeps_its_rows(url: str, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(MIGRATIONS, older)
    for revision in sorted((older / "versions").glob("0*.py"))[1:]:
        revision.unlink()
    records = open_records(url)
    records.migrate(OWNER, older)
    with records.session() as session:
        session.execute(
            sa.text("insert into tenancy_tenants values ('acme', 'standard', :active, '2026-01-01 00:00:00')"),
            {"active": True},
        )
    migrate(records)
    assert records.differences(*TABLES) == []
    with records.session(read_only=True) as session:
        assert session.execute(sa.text("select name from tenancy_tenants")).scalars().all() == ["acme"]
    records.close()
