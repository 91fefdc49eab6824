"""The durable history of all conversations in one database: SQLite in a file, or a Postgres server.

It is the single truth: every index can be thrown away and derived from it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError

from lightrag.conversation.history import schema
from lightrag.conversation.history.batches import BatchQueue
from lightrag.conversation.history.entries import EntryLog
from lightrag.conversation.history.ledger import BUSY_SECONDS, Ledger
from lightrag.conversation.history.messages import MessageLog
from lightrag.conversation.history.pictures import PictureLog
from lightrag.conversation.history.queues import UpdateQueues
from lightrag.errors import ConfigurationError
from lightrag.storage.records import open_records


@dataclass(frozen=True, slots=True)
class History:
    """The parts of the history over one engine."""

    ledger: Ledger
    messages: MessageLog
    entries: EntryLog
    batches: BatchQueue
    queues: UpdateQueues
    pictures: PictureLog

    @classmethod
    def open(cls, location: str | Path) -> History:
        """Open or create a history.

        Args:
            location: a file, or a database URL (``postgresql://user@host/database``).

        Raises:
            ConfigurationError: the URL is not valid, its driver is not installed, or a later release wrote the history.
            BackendError: the database does not answer.
        """
        engine = _engine(str(location))
        _migrate(engine)
        ledger = Ledger(engine)
        entries = EntryLog(ledger)
        queues, pictures = UpdateQueues(ledger), PictureLog(ledger)
        return cls(ledger, MessageLog(ledger), entries, BatchQueue(ledger, entries), queues, pictures)

    def close(self) -> None:
        """Close all connections."""
        self.ledger.engine.dispose()


def _migrate(engine: Engine) -> None:
    """Bring the tables up to date, or make them, in one transaction of its own."""
    records = open_records(engine.url.render_as_string(hide_password=False))
    try:
        records.migrate(schema.OWNER, schema.MIGRATIONS)
    finally:
        records.close()


def _engine(location: str) -> Engine:
    if "://" not in location:
        location = f"sqlite:///{_file(location)}"
    if location.startswith(("postgresql://", "postgres://")):
        location = "postgresql+psycopg://" + location.partition("://")[2]
    try:
        url = make_url(location)
        options: dict[str, Any] = {"pool_pre_ping": True}
        if url.get_backend_name() == "sqlite":
            options = {"connect_args": {"timeout": BUSY_SECONDS}}
        engine = create_engine(url, **options)
    except (ArgumentError, ImportError) as error:
        raise ConfigurationError(
            f"history_db_path {location.split('@')[-1]!r} cannot be opened: {error}", subject="history_db_path"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _file(location: str) -> Path:
    path = Path(location).expanduser().absolute()
    cure = "set history_db_path, or the path of embedding_retriever, to a place that can be written to"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        message = f"the folder of the history {str(path)!r} cannot be made: {error.strerror}; {cure}"
        raise ConfigurationError(message, subject=str(path)) from error
    if path.is_dir():
        raise ConfigurationError(f"the history {str(path)!r} is a folder, not a file; {cure}", subject=str(path))
    return path


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


__all__ = ["History"]
