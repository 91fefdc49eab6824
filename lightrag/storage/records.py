"""Rows that change: one database for jobs, tenants, usage and history, SQLite when embedded, PostgreSQL in a cluster.

It knows no table. Whoever owns tables declares them on :class:`Base` and keeps their migrations beside them, in the
layout of Alembic::

    lightrag/<owner>/migrations/env.py                 from lightrag.storage.records import run_migrations
                                                       run_migrations()
                               /versions/0001_….py     ordinary Alembic revisions, upgrade only

and calls ``records.migrate("<owner>", folder)`` when it opens. Every owner has its own version table, so owners do not
wait for each other's revisions, and any number of processes may migrate at once: a lock in the database lets one do it.

Example:
    >>> from sqlalchemy import text
    >>> records = open_records("sqlite://")
    >>> with records.session() as session:
    ...     session.execute(text("select 1")).scalar_one()
    1
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from blake3 import blake3
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import QueuePool
from sqlalchemy.types import TypeDecorator

from lightrag.errors import BackendError, ConfigurationError, ConflictError, LightRAGError, UsageError

BUSY_SECONDS = 30
"""How long a SQLite writer waits for another one."""
_OWNER = re.compile(r"[a-z][a-z_]{0,30}\Z")
_READ_ONLY = "lightrag_read_only"


class Base(DeclarativeBase):
    """Base of every table; constraints have predictable names, so that migrations can refer to them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class UtcDateTime(TypeDecorator[datetime]):
    """A moment in UTC, the same from every database; naive times are refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """Convert to UTC on the way in."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise UsageError(f"time {value.isoformat()} has no zone")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        """SQLite forgets the zone; it was UTC."""
        return value if value is None else value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Records:
    """One database. Safe to share between threads; forked or remote workers open their own."""

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def __repr__(self) -> str:
        return f"open_records({self.engine.url.render_as_string(hide_password=True)!r})"

    @contextmanager
    def session(self, *, read_only: bool = False) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back by an exception.

        SQLite lets one transaction write at a time, and the others wait. PostgreSQL lets them run side by side, so what
        is read in order to be changed has to be selected ``with_for_update``.

        Args:
            read_only: writing is refused, and reading waits for nobody.

        Raises:
            ConflictError: a row with these keys exists, or one that is referred to does not.
            BackendError: the database failed; ``retryable`` where it was busy or unreachable.
        """
        engine = self.engine.execution_options(**{_READ_ONLY: read_only})
        with translated(self.engine.url), Session(engine, expire_on_commit=False) as session, session.begin():
            yield session

    def migrate(self, owner: str, folder: Path) -> None:
        """Bring an owner's tables up to date; waits while another process does.

        Args:
            owner: lower-case letters and ``_``; names the version table ``alembic_version_<owner>``.
            folder: with ``env.py`` and ``versions``.

        Raises:
            BackendError: a migration failed; nothing of it remains.
            ConfigurationError: the tables are of a later release.
        """
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError

        if not _OWNER.match(owner):
            raise UsageError(f"owner {owner!r} must be lower-case letters and '_'", subject=owner)
        config = Config(attributes={"owner": owner})
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        with translated(self.engine.url), self.engine.begin() as connection:
            _lock(connection, owner)
            config.attributes["connection"] = connection
            try:
                command.upgrade(config, "head")
            except CommandError as error:
                message = f"the tables of {owner!r} cannot be migrated, a later release may have made them: {error}"
                raise ConfigurationError(message, subject=owner) from error

    def differences(self, *tables: type[Base]) -> list[str]:
        """What the database has differently from these declarations; a test of every owner's migrations."""
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        names = {table.__tablename__ for table in tables}
        with self.engine.connect() as connection:
            context = MigrationContext.configure(
                connection,
                opts={
                    "compare_type": True,
                    "include_name": lambda name, kind, parents: (
                        kind == "schema" or parents.get("table_name", name) in names
                    ),
                },
            )
            wanted = sa.MetaData(naming_convention=Base.metadata.naming_convention)
            for table in tables:
                table.metadata.tables[table.__tablename__].to_metadata(wanted)
            return [str(difference) for difference in compare_metadata(context, wanted)]

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()


def open_records(url: str) -> Records:
    """Open a database; a SQLite file and its folder are created.

    Args:
        url: ``sqlite:////folder/records.db``, ``sqlite://`` (in memory, for tests) or ``postgresql://…``.

    Raises:
        ConfigurationError: the URL is not understood, or its driver is not installed.
    """
    try:
        parsed = make_url(url)
    except exc.ArgumentError as error:
        raise ConfigurationError("the records URL must look like sqlite:////folder/file or postgresql://…") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        return Records(_sqlite(parsed))
    if backend == "postgresql":
        return Records(_postgres(parsed))
    raise ConfigurationError(f"records can be kept in sqlite or postgresql, not {backend!r}", subject=backend)


def run_migrations() -> None:
    """Run inside an owner's ``env.py``."""
    from alembic import context

    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"],
        version_table=f"alembic_version_{attributes['owner']}",
        render_as_batch=True,
        transactional_ddl=True,
    )
    context.run_migrations()


def _sqlite(url: URL) -> sa.Engine:
    arguments: dict[str, Any] = {"connect_args": {} if "timeout" in url.query else {"timeout": BUSY_SECONDS}}
    if url.database in (None, "", ":memory:"):
        # Every connection would be a database of its own, so that there may be only one.
        arguments = {"poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
        arguments["connect_args"] = {"check_same_thread": False}
    else:
        try:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"the folder of {url.database!r} cannot be made: {error.strerror}"
            raise BackendError(message, subject=url.database) from error
    engine = sa.create_engine(url, hide_parameters=True, **arguments)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        # The driver would begin transactions late and not at all for DDL; we say when, below.
        connection.isolation_level = None
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        # A transaction that reads first and writes later would fail, not wait, if another one wrote in between.
        read_only = connection.get_execution_options().get(_READ_ONLY, False)
        connection.exec_driver_sql(f"PRAGMA query_only={int(read_only)}")
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _postgres(url: URL) -> sa.Engine:
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    try:
        engine = sa.create_engine(url, hide_parameters=True, pool_pre_ping=True, pool_size=5, max_overflow=10)
    except ModuleNotFoundError as error:
        raise ConfigurationError("PostgreSQL needs the extra 'postgres': pip install lightrag-ray[postgres]") from error

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get(_READ_ONLY, False):
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")

    return engine


def _lock(connection: sa.Connection, owner: str) -> None:
    # SQLite is locked by BEGIN IMMEDIATE already. Both locks end with the transaction, also when the process is killed.
    if connection.dialect.name == "postgresql":
        number = int.from_bytes(blake3(f"lightrag migrations {owner}".encode()).digest()[:8], "big", signed=True)
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(number)))


_FULL = re.compile("disk is full|No space left|disk I/O error|could not extend file")
_LATER = re.compile(
    "locked|busy|deadlock|could not serialize|connection|timeout|timed out|terminat|starting up|shutdown"
)


@contextmanager
def translated(url: URL) -> Iterator[None]:
    """Raise errors of our own tree for whatever the database raises inside; the password stays out."""
    try:
        yield
    except LightRAGError:
        raise
    except exc.IntegrityError as error:
        raise ConflictError(f"the rows conflict with others: {_said(error)}") from error
    except (exc.StatementError, exc.TimeoutError) as error:
        if isinstance(error, exc.StatementError) and isinstance(error.orig, LightRAGError):
            raise error.orig from None  # one of our own column types refused a value
        said = _said(error)
        full = bool(_FULL.search(said))
        cure = "; free space" if full else ""
        raise BackendError(
            f"records at {url.render_as_string(hide_password=True)} failed: {said}{cure}",
            subject=url.get_backend_name(),
            retryable=not full and bool(_LATER.search(said)),
        ) from error


def _said(error: exc.SQLAlchemyError) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).strip().split("\n", 1)[0]


__all__ = ["Base", "Records", "UtcDateTime", "open_records", "run_migrations", "translated"]
