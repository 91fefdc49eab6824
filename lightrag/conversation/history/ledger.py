"""Transactions on the history, one scope at a time, and the numbers that order them.

A write begins by raising the scope's revision, which locks the scope in Postgres and the file in SQLite: writers of one
scope queue up, and a reader that knows a revision can ask for everything later.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError

from lightrag.conversation.history import schema
from lightrag.conversation.types import EntryDraft, MemoryEntry, Message, Scope, StoredMessage, comparable
from lightrag.errors import BackendError

_EPOCH = datetime(1970, 1, 1)
BUSY_SECONDS = 60
"""How long a writer waits for another one before it reports a retryable failure."""
CHUNK = 500
"""Values per ``IN`` list, well below every database's limit."""

_RAISE = update(schema.scopes).where(schema.scopes.c.scope_id == bindparam("scope"))
_RAISE = _RAISE.values(revision=schema.scopes.c.revision + 1).returning(schema.scopes.c.revision)
"""Built once: to build a statement takes longer than SQLite needs for it."""


@dataclass(frozen=True, slots=True)
class Write:
    """An open write transaction on one scope."""

    connection: Connection
    scope_id: int
    revision: int


class Ledger:
    """Opens transactions in a migrated database. Safe to share between threads; the engine is the caller's to close."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._scope_ids: dict[Scope, int] = {}
        self._writing = threading.Lock()
        with guard(engine.url.render_as_string(hide_password=True)), engine.connect() as connection:
            self.store_id = str(connection.execute(select(schema.stores.c.store_id)).scalar_one())

    @contextmanager
    def write(self, scope: Scope) -> Iterator[Write]:
        """Run a transaction that sees and makes the newest state of the scope; it commits unless an error leaves it."""
        scope_id = self.scope_id(scope)
        with guard(str(scope)), self._turn(scope), self.engine.begin() as connection:
            found = connection.execute(_RAISE, {"scope": scope_id}).first()
            if found is None:
                # The scope was forgotten meanwhile; its number must not be used again.
                self._scope_ids.pop(scope, None)
                raise BackendError(f"the memory of {scope} was deleted during this call", subject=str(scope))
            yield Write(connection, scope_id, int(found.revision))

    @contextmanager
    def _turn(self, scope: Scope) -> Iterator[None]:
        # SQLite has one writer, and those who wait for it sleep and look again: among threads a lock wakes the next.
        if self.engine.dialect.name != "sqlite":
            yield
            return
        if not self._writing.acquire(timeout=BUSY_SECONDS):
            message = f"the conversation history did not take the call for {scope}: it is busy; try again"
            raise BackendError(message, subject=str(scope), retryable=True)
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def read(self, subject: str = "history") -> Iterator[Connection]:
        """Run reads that see one state."""
        with guard(subject), self.engine.connect() as connection:
            yield connection

    def revision(self, scope: Scope) -> int:
        """The newest revision of a scope; 0 for one that was never written to."""
        where = (schema.scopes.c.tenant == scope.tenant) & (schema.scopes.c.user_name == scope.user)
        with self.read(str(scope)) as connection:
            return int(connection.execute(select(schema.scopes.c.revision).where(where)).scalar() or 0)

    def scope_id(self, scope: Scope) -> int:
        """The number of a scope, created on first use."""
        known = self._scope_ids.get(scope)
        if known is None:
            with guard(str(scope)):
                known = self._scope_ids[scope] = self._find_scope(scope) or self._create_scope(scope)
        return known

    def _find_scope(self, scope: Scope) -> int | None:
        where = (schema.scopes.c.tenant == scope.tenant) & (schema.scopes.c.user_name == scope.user)
        with self.engine.connect() as connection:
            found = connection.execute(select(schema.scopes.c.scope_id).where(where)).scalar()
        return None if found is None else int(found)

    def _create_scope(self, scope: Scope) -> int:
        values = {"tenant": scope.tenant, "user_name": scope.user, "revision": 0, "consolidated_revision": 0}
        try:
            with self.engine.begin() as connection:
                result = connection.execute(insert(schema.scopes).values(**values).returning(schema.scopes.c.scope_id))
                return int(result.scalar_one())
        except IntegrityError:
            # Another worker created it first.
            found = self._find_scope(scope)
            if found is None:
                raise
            return found

    def scopes(self, tenant: str | None = None) -> list[Scope]:
        """All scopes, or those of one tenant."""
        query = select(schema.scopes.c.tenant, schema.scopes.c.user_name)
        if tenant is not None:
            query = query.where(schema.scopes.c.tenant == tenant)
        with self.read() as connection:
            return sorted(Scope(row.tenant, row.user_name) for row in connection.execute(query))

    def forget(self, scope: Scope) -> int:
        """Delete a scope with everything in it, for good. Returns the number of rows deleted."""
        scope_id = self.scope_id(scope)
        deleted = 0
        with self.write(scope) as tx:
            mine = select(schema.entries.c.seq).where(schema.entries.c.scope_id == scope_id)
            gone = tx.connection.execute(delete(schema.sources).where(schema.sources.c.entry_seq.in_(mine)))
            deleted += gone.rowcount
            for table in reversed(schema.metadata.sorted_tables):
                if "scope_id" in table.c:
                    deleted += tx.connection.execute(delete(table).where(table.c.scope_id == scope_id)).rowcount
        self._scope_ids.pop(scope, None)
        return deleted

    def disk_bytes(self) -> int:
        """Size of a SQLite history on disk; 0 for servers."""
        if self.engine.dialect.name != "sqlite":
            return 0
        with self.read() as connection:
            pages = connection.execute(text("PRAGMA page_count")).scalar_one()
            size = connection.execute(text("PRAGMA page_size")).scalar_one()
        return int(pages) * int(size)


@contextmanager
def guard(subject: str) -> Iterator[None]:
    """Turn errors of the database into ours, in one place."""
    try:
        yield
    except (OperationalError, sqlite3.OperationalError) as error:
        raise BackendError(
            f"the conversation history did not take the call for {subject}: {_cause(error)}",
            subject=subject,
            retryable=True,
        ) from error
    except SQLAlchemyError as error:
        raise BackendError(
            f"the conversation history failed for {subject}: {_cause(error)}", subject=subject
        ) from error


def _cause(error: Exception) -> str:
    # SQLAlchemy's own text repeats the statement and its values, which are users' messages.
    said = str(getattr(error, "orig", None) or error.__class__.__name__)
    full = any(sign in said for sign in ("disk is full", "No space left", "disk I/O error", "could not extend file"))
    if "database is locked" in said:
        return f"{said} by another process; try again once that is done"
    return f"{said}; free space and try again" if full else said


# --- Rows and values --------------------------------------------------------------------------------------------------


def moment(time: datetime) -> int:
    """Microseconds since 1970 of a time; naive times count as UTC, so that no machine's zone matters."""
    return (comparable(time) - _EPOCH) // timedelta(microseconds=1)


def at(seconds: float) -> datetime:
    """The aware time of a stored clock reading."""
    return datetime.fromtimestamp(seconds, UTC)


def message_row(message: Message) -> dict[str, Any]:
    """Columns of a message."""
    return {
        "role": message.role,
        "content": message.content,
        "said": message.time.isoformat(),
        "moment": moment(message.time),
        "speaker": message.speaker,
        "speaker_id": message.speaker_id,
        "images": list(message.images) or None,
        "tags": list(message.tags) or None,
    }


def message_value(row: Any) -> StoredMessage:
    """The message of a row."""
    message = Message(
        row.role,
        row.content,
        datetime.fromisoformat(row.said),
        speaker=row.speaker,
        speaker_id=row.speaker_id,
        images=tuple(row.images or ()),
        tags=tuple(row.tags or ()),
    )
    return StoredMessage(
        f"m{row.seq}",
        row.seq,
        row.conversation,
        message,
        row.compressed,
        row.segment_id,
        bool(row.extracted),
        row.revision,
    )


_DETAILS = ("category", "keywords", "entities", "event_time", "tags", "images", "covers")


def draft_row(draft: EntryDraft) -> dict[str, Any]:
    """Columns of a new entry."""
    details = {name: getattr(draft, name) for name in _DETAILS if getattr(draft, name)}
    return {
        "kind": draft.kind,
        "state": "current",
        "live_key": draft.live_key,
        "text": draft.text,
        "said": draft.time.isoformat(),
        "moment": moment(draft.time),
        "speaker": draft.speaker,
        "speaker_id": draft.speaker_id,
        "conversation": draft.conversation,
        "topic": draft.topic,
        "method": draft.method,
        "importance": draft.importance,
        "details": details or None,
    }


def entry_value(row: Any, sources: tuple[str, ...]) -> MemoryEntry:
    """The entry of a row."""
    details = row.details or {}
    return MemoryEntry(
        f"e{row.seq}",
        row.text,
        datetime.fromisoformat(row.said),
        kind=row.kind,
        state=row.state,
        valid_to=datetime.fromisoformat(row.valid_to) if row.valid_to else None,
        superseded_by=f"e{row.superseded_by}" if row.superseded_by else None,
        speaker=row.speaker,
        speaker_id=row.speaker_id,
        conversation=row.conversation,
        topic=row.topic,
        sources=sources,
        occurrences=row.occurrences,
        method=row.method,
        category=details.get("category", ""),
        importance=row.importance,
        keywords=tuple(details.get("keywords", ())),
        entities=tuple(details.get("entities", ())),
        event_time=details.get("event_time", ""),
        tags=tuple(details.get("tags", ())),
        images=tuple(details.get("images", ())),
        covers=tuple(details.get("covers", ())),
        revision=row.revision,
    )


__all__ = [
    "BUSY_SECONDS",
    "CHUNK",
    "Ledger",
    "Write",
    "at",
    "draft_row",
    "entry_value",
    "guard",
    "message_row",
    "message_value",
    "moment",
]
