"""Migrations of the history, on SQLite and on a real PostgreSQL where one is installed."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from lightrag.conversation import LightMemory
from lightrag.conversation.history import History, schema
from lightrag.conversation.types import Scope
from lightrag.errors import ConfigurationError
from lightrag.models.fakes import HashingEmbedder
from lightrag.storage.records import open_records
from tests.lightrag.conversation.conftest import say
from tests.lightrag.storage.test_records import postgres, url

__all__ = ["postgres", "url"]

SCOPE = Scope("default", "default")


def open_memory(url: str, folder: Path) -> LightMemory:
    store = {"model_name": "qdrant", "configs": {"path": str(folder / "vectors")}}
    config = {"history_db_path": url, "embedding_retriever": store}
    return LightMemory.from_config(config, embedder=HashingEmbedder(64))


def age(url: str, *missing: str) -> None:
    """Make of a history what releases without migrations left behind."""
    records = open_records(url)
    with records.session() as session:
        session.execute(sa.text("drop table alembic_version_conversation"))
        session.execute(sa.text("alter table conversation_store add column schema_version integer not null default 1"))
        for table in missing:
            session.execute(sa.text(f"drop table {table}"))
    records.close()


def differences(history: History) -> list[Any]:
    with history.ledger.engine.connect() as connection:
        names = set(schema.metadata.tables)
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "include_name": lambda name, kind, parents: (
                    kind == "schema" or parents.get("table_name", name) in names
                ),
            },
        )
        return list(compare_metadata(context, schema.metadata))


def tables_of(history: History) -> dict[str, str]:
    with history.ledger.engine.connect() as connection:
        rows = connection.execute(sa.text("select name, sql from sqlite_master where sql is not null")).all()
    kept = {row.name: " ".join(row.sql.split()) for row in rows}
    return {name: sql for name, sql in kept.items() if name.startswith("conversation_")}


def test_a_new_history_gets_the_tables_that_are_declared(url: str) -> None:
    history = History.open(url)
    assert differences(history) == []
    store = history.ledger.store_id
    history.close()
    again = History.open(url)
    assert again.ledger.store_id == store
    again.close()


def test_migrated_tables_number_their_rows_as_declared_ones_do(tmp_path: Path) -> None:
    """What no comparison of columns sees: AUTOINCREMENT and WITHOUT ROWID decide whether a number is used twice."""
    migrated = History.open(tmp_path / "migrated.db")
    declared = sa.create_engine(f"sqlite:///{tmp_path}/declared.db")
    schema.metadata.create_all(declared)
    with declared.connect() as connection:
        rows = connection.execute(sa.text("select name, sql from sqlite_master where sql is not null")).all()
    wanted = {row.name: " ".join(row.sql.split()) for row in rows if row.name.startswith("conversation_")}
    found = tables_of(migrated)
    del wanted["conversation_store"], found["conversation_store"]  # rewritten by a revision, in other words
    assert found == wanted
    declared.dispose()
    migrated.close()


@pytest.mark.parametrize("missing", [(), ("conversation_pictures", "conversation_consolidations")])
def test_a_history_from_before_migrations_keeps_everything(url: str, tmp_path: Path, missing: tuple[str, ...]) -> None:
    with open_memory(url, tmp_path) as memory:
        memory.add_memory(say("I live in Bergen."), force_extract=True)
        memory.add_memory(say("I moved to Oslo.", "2024-02-01T10:00:00"))
        gone = memory.add_memory(say("My bicycle is red.", "2024-03-01T10:00:00"), force_extract=True).entries[-1]
        operation = memory.delete(gone)
        before = memory.entries(), memory.history_of(gone), memory.aio.engine.history.ledger.store_id
    age(url, *missing)

    with open_memory(url, tmp_path) as memory:
        assert differences(memory.aio.engine.history) == []
        assert (memory.entries(), memory.history_of(gone), memory.aio.engine.history.ledger.store_id) == before
        assert "Oslo" in memory.retrieve("Where did I move?", limit=1)[0]
        memory.undo(operation)
        assert any("bicycle" in entry.text for entry in memory.entries())
        # Numbers go on where they were, so that no id means two things.
        assert memory.add_memory(say("I like tea.", "2024-04-01T10:00:00")).accepted == ("m4",)


def test_an_older_history_is_brought_up_to_date_and_keeps_its_rows(url: str, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(schema.MIGRATIONS, older)
    for revision in sorted((older / "versions").glob("0*.py"))[1:]:
        revision.unlink()
    records = open_records(url)
    records.migrate(schema.OWNER, older)
    with records.session() as session:
        session.execute(sa.text("insert into conversation_store values ('known', 1)"))
        session.execute(sa.text("insert into conversation_scopes values (7, 'acme', 'ada', 3, 0)"))
    records.close()
    history = History.open(url)
    assert differences(history) == []
    assert history.ledger.store_id == "known"
    assert history.ledger.revision(Scope("acme", "ada")) == 3
    history.close()


def test_a_history_of_a_later_release_is_refused_and_left_alone(url: str) -> None:
    History.open(url).close()
    records = open_records(url)
    with records.session() as session:
        session.execute(sa.text("update alembic_version_conversation set version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="later release"):
        History.open(url)
    with records.session(read_only=True) as session:
        assert session.execute(sa.text("select version_num from alembic_version_conversation")).scalar() == "9999"
    records.close()


def test_of_many_that_begin_a_history_at_once_all_get_the_same(url: str) -> None:
    def identify(_: int) -> str:
        history = History.open(url)
        history.close()
        return history.ledger.store_id

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(identify, range(6)))) == 1
