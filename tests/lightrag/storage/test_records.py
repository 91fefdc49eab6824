"""Transactions, migrations and errors on SQLite, and on a real PostgreSQL where one is installed."""

from __future__ import annotations

import glob
import os
import shutil
import signal
import socket
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from lightrag.errors import BackendError, ConfigurationError, ConflictError, UsageError
from lightrag.storage.records import Base, Records, UtcDateTime, open_records
from tests.lightrag.storage.processes import race, start


class Owner(Base):
    __tablename__ = "test_owner"
    name: Mapped[str] = mapped_column(primary_key=True)


class Note(Base):
    __tablename__ = "test_note"
    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(sa.ForeignKey("test_owner.name"))
    text: Mapped[str] = mapped_column(sa.String(100), unique=True)
    at: Mapped[datetime | None] = mapped_column(UtcDateTime)


FIRST = """
    import sqlalchemy as sa
    from alembic import op
    revision, down_revision = "0001", None
    def upgrade():
        op.create_table("test_owner", sa.Column("name", sa.String(), nullable=False),
                        sa.PrimaryKeyConstraint("name", name="pk_test_owner"))
"""
SECOND = """
    import sqlalchemy as sa
    from alembic import op
    revision, down_revision = "0002", "0001"
    def upgrade():
        op.create_table(
            "test_note",
            sa.Column("id", sa.Integer(), nullable=False),
            sa.Column("owner", sa.String(), nullable=False),
            sa.Column("text", sa.String(100), nullable=False),
            sa.Column("at", sa.DateTime(timezone=True), nullable=True),
            sa.PrimaryKeyConstraint("id", name="pk_test_note"),
            sa.ForeignKeyConstraint(["owner"], ["test_owner.name"], name="fk_test_note_owner_test_owner"),
            sa.UniqueConstraint("text", name="uq_test_note_text"),
        )
"""
BROKEN = """
    from alembic import op
    revision, down_revision = "0003", "0002"
    def upgrade():
        op.execute("create table half_done (x integer)")
        op.execute("this is not SQL")
"""


def write_migrations(folder: Path, *revisions: str) -> Path:
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    (folder / "env.py").write_text("from lightrag.storage.records import run_migrations\nrun_migrations()\n")
    for number, revision in enumerate(revisions, start=1):
        (folder / "versions" / f"{number:04d}.py").write_text(textwrap.dedent(revision))
    return folder


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server of its own on a free port of this machine."""
    binaries = next((Path(path).parent for path in sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))), None)
    if binaries is None:
        pytest.skip("no PostgreSQL is installed in /usr/lib/postgresql")
    psycopg = pytest.importorskip("psycopg")
    folder = tmp_path_factory.mktemp("postgres")
    user: list[str] = []
    if os.geteuid() == 0:  # the server refuses to run as root
        if shutil.which("setpriv") is None:
            pytest.skip("PostgreSQL does not run as root, and there is no setpriv")
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        os.chown(folder, 65534, 65534)
        for parent in [folder, *folder.parents][:4]:
            parent.chmod(parent.stat().st_mode | 0o011)
    data = folder / "data"
    initdb = [*user, str(binaries / "initdb"), "-D", str(data), "-U", "lrag", "--auth=trust", "-E", "UTF8", "--no-sync"]
    made = subprocess.run(initdb, capture_output=True, text=True, timeout=120, check=False, cwd=folder)
    if made.returncode:
        pytest.skip(f"PostgreSQL does not start here: {made.stderr.strip()[-300:]}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-p", str(port), "-k", str(folder), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
    server = subprocess.Popen(
        [*user, str(binaries / "postgres"), "-D", str(data), *options], stderr=subprocess.DEVNULL, cwd=folder
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:  # the port is open before the server takes requests
                psycopg.connect(f"postgresql://lrag@127.0.0.1:{port}/postgres", connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield f"postgresql://lrag:sesame@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # the fast shutdown, which does not wait for clients
        server.wait(timeout=30)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.services)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/sub/records.db"
        return
    server: str = request.getfixturevalue("postgres")
    yield server
    records = open_records(server)
    with records.session() as session:
        session.execute(sa.text("drop schema public cascade"))
        session.execute(sa.text("create schema public"))
    records.close()


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    return write_migrations(tmp_path / "100% migrations", FIRST, SECOND)


@pytest.fixture
def records(url: str, migrations: Path) -> Iterator[Records]:
    """A database with the tables of this test."""
    opened = open_records(url)
    opened.migrate("test", migrations)
    yield opened
    opened.close()


def insert(records: Records, *owners: str) -> None:
    with records.session() as session:
        session.execute(sa.insert(Owner), [{"name": owner} for owner in owners])


def names(records: Records) -> list[str]:
    with records.session(read_only=True) as session:
        return list(session.scalars(sa.select(Owner.name).order_by(Owner.name)))


class TestSessions:
    def test_a_session_is_one_transaction(self, records: Records) -> None:
        def fail() -> None:
            with records.session() as session:
                session.add(Owner(name="b"))
                session.flush()
                raise ZeroDivisionError

        insert(records, "a")
        with pytest.raises(ZeroDivisionError):
            fail()
        assert names(records) == ["a"]

    def test_rows_stay_usable_after_their_session(self, records: Records) -> None:
        with records.session() as session:
            owner = Owner(name="a")
            session.add(owner)
        assert owner.name == "a"

    def test_times_come_back_in_utc_whatever_zone_they_had(self, records: Records) -> None:
        at = datetime(2026, 3, 1, 12, tzinfo=timezone(timedelta(hours=5)))
        with records.session() as session:
            session.add(Owner(name="a"))
            session.flush()
            session.add_all([Note(id=1, owner="a", text="x", at=at), Note(id=2, owner="a", text="y", at=None)])
        with records.session(read_only=True) as session:
            found = list(session.scalars(sa.select(Note.at).order_by(Note.id)))
        assert found == [at, None]
        assert found[0] is not None
        assert found[0].tzinfo is UTC
        with pytest.raises(UsageError, match="has no zone"), records.session() as session:
            session.add(Note(id=3, owner="a", text="z", at=datetime(2026, 1, 1)))

    def test_a_read_only_session_cannot_write(self, records: Records) -> None:
        with pytest.raises(BackendError, match=r"read-?only"), records.session(read_only=True) as session:
            session.add(Owner(name="a"))
        with records.session() as session:
            session.add(Owner(name="b"))
        assert names(records) == ["b"]

    def test_readers_do_not_wait_for_a_writer(self, records: Records) -> None:
        with records.session() as session:
            session.add(Owner(name="a"))
            session.flush()
            assert names(records) == []

    def test_counting_up_in_threads_loses_nothing(self, records: Records) -> None:
        with records.session() as session:
            session.add(Owner(name="a"))
            session.flush()
            session.add(Note(id=0, owner="a", text="0"))

        def count_up() -> None:
            for _ in range(10):
                with records.session() as session:
                    note = session.scalars(sa.select(Note).with_for_update()).one()
                    note.text = str(int(note.text) + 1)

        threads = [threading.Thread(target=count_up) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with records.session(read_only=True) as session:
            assert session.scalars(sa.select(Note.text)).one() == "40"


class TestErrors:
    @pytest.mark.parametrize(
        "rows",
        [
            [Owner(name="a"), Owner(name="a")],
            [Note(id=1, owner="nobody", text="x")],
            [Owner(name="a"), Note(id=1, owner="a", text="x"), Note(id=2, owner="a", text="x")],
        ],
        ids=["primary key", "foreign key", "unique"],
    )
    @pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
    def test_rows_that_conflict_are_a_conflict(self, records: Records, rows: list[Base]) -> None:
        def store() -> None:
            with records.session() as session:
                for row in rows:
                    values = {column.key: getattr(row, column.key) for column in row.__table__.columns}
                    session.execute(sa.insert(type(row)).values(values))

        with pytest.raises(ConflictError, match="rows conflict"):
            store()
        assert names(records) == []

    def test_a_missing_table_is_a_failure_that_stays(self, url: str) -> None:
        with pytest.raises(BackendError, match="test_owner") as caught:
            names(open_records(url))
        assert not caught.value.retryable

    def test_a_server_that_is_not_there_may_be_tried_again_and_no_password_is_said(self) -> None:
        pytest.importorskip("psycopg")
        records = open_records("postgresql://lrag:sesame@127.0.0.1:9/x")
        with pytest.raises(BackendError, match=r"127\.0\.0\.1") as caught:
            names(records)
        assert caught.value.retryable
        assert "sesame" not in str(caught.value) + repr(records)

    def test_a_busy_sqlite_says_so_and_may_be_tried_again(self, tmp_path: Path, migrations: Path) -> None:
        records = open_records(f"sqlite:///{tmp_path}/records.db?timeout=0.1")
        records.migrate("test", migrations)
        with records.session() as session:
            session.add(Owner(name="a"))
            session.flush()
            with pytest.raises(BackendError, match="locked") as caught:
                insert(records, "b")
        assert caught.value.retryable

    def test_a_full_disk_says_so(self, tmp_path: Path, migrations: Path) -> None:
        records = open_records(f"sqlite:///{tmp_path}/records.db")
        records.migrate("test", migrations)
        with records.engine.connect() as connection:
            connection.execute(sa.text("pragma max_page_count = 1"))
        with pytest.raises(BackendError, match=r"disk is full; free space") as caught:
            insert(records, *("x" * 1000 + str(number) for number in range(100)))
        assert not caught.value.retryable
        assert names(records) == []

    @pytest.mark.parametrize("url", ["", "nonsense", "mysql://x/y", "sqlite"])
    def test_other_urls_are_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="records"):
            open_records(url)


class TestMigrations:
    def test_tables_are_made_once_and_equal_their_declarations(self, records: Records, migrations: Path) -> None:
        records.migrate("test", migrations)
        assert records.differences(Owner, Note) == []

    def test_a_forgotten_migration_is_found(self, url: str, tmp_path: Path) -> None:
        records = open_records(url)
        records.migrate("test", write_migrations(tmp_path / "m", FIRST))
        assert len(records.differences(Owner)) == 0
        assert "test_note" in records.differences(Owner, Note)[0]
        records.migrate("test", write_migrations(tmp_path / "m", FIRST, SECOND))
        assert records.differences(Owner, Note) == []

    def test_owners_do_not_see_each_other(self, records: Records, tmp_path: Path) -> None:
        other = FIRST.replace("test_owner", "other_owner")
        records.migrate("other", write_migrations(tmp_path / "other", other))
        records.migrate("test", tmp_path / "100% migrations")
        with pytest.raises(UsageError, match="owner"):
            records.migrate("Robert'); drop table", tmp_path / "other")

    def test_a_broken_migration_leaves_nothing_of_itself(self, records: Records, migrations: Path) -> None:
        write_migrations(migrations, FIRST, SECOND, BROKEN)
        with pytest.raises(BackendError, match="syntax error"):
            records.migrate("test", migrations)
        with pytest.raises(BackendError, match="half_done"), records.session() as session:
            session.execute(sa.text("select * from half_done"))
        assert names(records) == []

    def test_tables_of_a_later_release_are_refused(self, records: Records, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="a later release may have made them"):
            records.migrate("test", write_migrations(tmp_path / "old", FIRST))

    def test_processes_that_start_at_once_migrate_once(self, url: str, migrations: Path) -> None:
        code = """
            import sys
            import alembic.command
            from pathlib import Path
            from lightrag.storage.records import open_records
            records = open_records(sys.argv[1])
            print("ready", flush=True)
            sys.stdin.readline()
            records.migrate("test", Path(sys.argv[2]))
            print("done")
        """
        racers = {name: start(code, url, str(migrations)) for name in "abcd"}
        assert race(racers) == dict.fromkeys("abcd", "done\n")
        assert open_records(url).differences(Owner, Note) == []


def test_memory_is_one_database_for_all_threads() -> None:
    records = open_records("sqlite://")
    with records.session() as session:
        session.execute(sa.text("create table t (x integer)"))

    def insert() -> None:
        for _ in range(20):
            with records.session() as session:
                session.execute(sa.text("insert into t values (1)"))

    threads = [threading.Thread(target=insert) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with records.session(read_only=True) as session:
        assert session.execute(sa.text("select count(*) from t")).scalar_one() == 80
