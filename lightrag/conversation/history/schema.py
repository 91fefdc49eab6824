"""Tables of the conversation history: the single truth from which every index can be derived again.

Every table but ``scopes`` carries its scope, and every index begins with it. A change here needs a revision in
``migrations`` beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()
OWNER: Final = "conversation"
MIGRATIONS: Final = Path(__file__).with_name("migrations")

_Seq = BigInteger().with_variant(Integer, "sqlite")
"""SQLite only numbers INTEGER keys by itself."""


def _scope() -> Column[int]:
    return Column("scope_id", _Seq, ForeignKey("conversation_scopes.scope_id", ondelete="CASCADE"), nullable=False)


stores = Table(
    "conversation_store",
    metadata,
    Column("store_id", String(32), primary_key=True),
)

scopes = Table(
    "conversation_scopes",
    metadata,
    Column("scope_id", _Seq, primary_key=True, autoincrement=True),
    Column("tenant", String(63), nullable=False),
    Column("user_name", String(256), nullable=False),
    Column("revision", BigInteger, nullable=False, default=0),
    Column("consolidated_revision", BigInteger, nullable=False, default=0),
    UniqueConstraint("tenant", "user_name"),
)

requests = Table(
    "conversation_requests",
    metadata,
    _scope(),
    Column("request_id", String(256), nullable=False),
    Column("payload_hash", String(64), nullable=False),
    Column("accepted", JSON, nullable=False),
    PrimaryKeyConstraint("scope_id", "request_id"),
)

messages = Table(
    "conversation_messages",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    _scope(),
    Column("conversation", String(256), nullable=False),
    Column("role", String(16), nullable=False),
    Column("content", Text, nullable=False),
    Column("compressed", Text),
    Column("said", String(40), nullable=False),
    Column("moment", BigInteger, nullable=False),
    Column("speaker", Text, nullable=False),
    Column("speaker_id", Text, nullable=False),
    Column("images", JSON(none_as_null=True)),
    Column("tags", JSON(none_as_null=True)),
    Column("segment_id", _Seq),
    Column("extracted", Boolean, nullable=False, default=False),
    Column("revision", BigInteger, nullable=False),
    Index("conversation_messages_revision", "scope_id", "revision"),
    Index("conversation_messages_buffer", "scope_id", "conversation", "segment_id"),
    sqlite_autoincrement=True,
)

pictures = Table(
    "conversation_pictures",
    metadata,
    _scope(),
    Column("message_seq", _Seq, nullable=False),
    Column("position", Integer, nullable=False),
    Column("reference", Text, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("scope_id", "message_seq", "position"),
)

batches = Table(
    "conversation_batches",
    metadata,
    Column("batch_id", _Seq, primary_key=True, autoincrement=True),
    _scope(),
    Column("conversation", String(256), nullable=False),
    Column("done", Boolean, nullable=False, default=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("claim", String(32)),
    Column("claimed_until", Float, nullable=False, default=0.0),
    Column("not_before", Float, nullable=False, default=0.0),
    Column("error", Text),
    Index("conversation_batches_open", "scope_id", "done"),
    sqlite_autoincrement=True,
)

segments = Table(
    "conversation_segments",
    metadata,
    Column("segment_id", _Seq, primary_key=True, autoincrement=True),
    _scope(),
    Column("conversation", String(256), nullable=False),
    Column("batch_id", _Seq),
    Column("tokens", Integer, nullable=False),
    Index("conversation_segments_open", "scope_id", "conversation", "batch_id"),
    sqlite_autoincrement=True,
)

entries = Table(
    "conversation_entries",
    metadata,
    Column("seq", _Seq, primary_key=True, autoincrement=True),
    _scope(),
    Column("kind", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("live_key", String(32)),
    Column("text", Text, nullable=False),
    Column("said", String(40), nullable=False),
    Column("moment", BigInteger, nullable=False),
    Column("valid_to", String(40)),
    Column("superseded_by", _Seq),
    Column("speaker", Text, nullable=False),
    Column("speaker_id", Text, nullable=False),
    Column("conversation", String(256), nullable=False),
    Column("topic", _Seq),
    Column("method", String(16), nullable=False),
    Column("occurrences", Integer, nullable=False, default=1),
    Column("importance", Float, nullable=False, default=1.0),
    Column("details", JSON(none_as_null=True)),
    Column("revision", BigInteger, nullable=False),
    # A fact holds once: the key is empty for entries that no longer hold, and empty keys never collide.
    UniqueConstraint("scope_id", "live_key"),
    Index("conversation_entries_revision", "scope_id", "revision"),
    sqlite_autoincrement=True,
)

sources = Table(
    "conversation_sources",
    metadata,
    Column("entry_seq", _Seq, ForeignKey("conversation_entries.seq", ondelete="CASCADE"), nullable=False),
    Column("message_seq", _Seq, nullable=False),
    PrimaryKeyConstraint("entry_seq", "message_seq"),
    sqlite_with_rowid=False,
)

changes = Table(
    "conversation_changes",
    metadata,
    Column("change_id", _Seq, primary_key=True, autoincrement=True),
    _scope(),
    Column("operation", String(32), nullable=False),
    Column("action", String(16), nullable=False),
    Column("entry_seq", _Seq, nullable=False),
    Column("before", JSON, nullable=False),
    Column("after", JSON, nullable=False),
    Column("reason", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("undone", Boolean, nullable=False, default=False),
    Index("conversation_changes_operation", "scope_id", "operation"),
    Index("conversation_changes_entry", "scope_id", "entry_seq"),
    sqlite_autoincrement=True,
)

queues = Table(
    "conversation_queues",
    metadata,
    _scope(),
    Column("source_seq", _Seq, nullable=False),
    Column("targets", Text, nullable=False),
    PrimaryKeyConstraint("scope_id", "source_seq"),
    sqlite_with_rowid=False,
)
"""Per entry the older entries it may update, best first, as JSON rows ``[entry, score]``."""

decisions = Table(
    "conversation_decisions",
    metadata,
    _scope(),
    Column("target_seq", _Seq, nullable=False),
    Column("source_seq", _Seq, nullable=False),
    PrimaryKeyConstraint("scope_id", "target_seq", "source_seq"),
    sqlite_with_rowid=False,
)
"""Pairs that reconciliation has judged; a judged pair is never asked about again."""

consolidations = Table(
    "conversation_consolidations",
    metadata,
    _scope(),
    Column("revision", BigInteger, nullable=False),
    Column("options", String(64), nullable=False),
    PrimaryKeyConstraint("scope_id"),
    sqlite_with_rowid=False,
)
"""Up to which revision a scope is consolidated with which options, so that unchanged scopes are passed over."""

__all__ = [
    "MIGRATIONS",
    "OWNER",
    "batches",
    "changes",
    "consolidations",
    "decisions",
    "entries",
    "messages",
    "metadata",
    "pictures",
    "queues",
    "requests",
    "scopes",
    "segments",
    "sources",
    "stores",
]
