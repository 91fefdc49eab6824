"""The history of conversations.

Histories that are older than these migrations have some or all of the tables, in this very form: those are kept as they
are, with every row.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_LISTS = sa.JSON(none_as_null=True)


def upgrade() -> None:
    """Make what is missing."""
    _create(
        "conversation_store",
        sa.Column("store_id", sa.String(32), primary_key=True),
        sa.Column("schema_version", sa.Integer(), nullable=False),
    )
    _create(
        "conversation_scopes",
        sa.Column("scope_id", _SEQ, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("user_name", sa.String(256), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("consolidated_revision", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("tenant", "user_name"),
    )
    _intake()
    _create_entries()
    _consolidation()


def _intake() -> None:
    _create(
        "conversation_requests",
        _scope(),
        sa.Column("request_id", sa.String(256), nullable=False),
        sa.Column("payload_hash", sa.String(64), nullable=False),
        sa.Column("accepted", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("scope_id", "request_id"),
    )
    _create(
        "conversation_messages",
        _number("seq"),
        _scope(),
        sa.Column("conversation", sa.String(256), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("compressed", sa.Text()),
        sa.Column("said", sa.String(40), nullable=False),
        sa.Column("moment", sa.BigInteger(), nullable=False),
        sa.Column("speaker", sa.Text(), nullable=False),
        sa.Column("speaker_id", sa.Text(), nullable=False),
        sa.Column("images", _LISTS),
        sa.Column("tags", _LISTS),
        sa.Column("segment_id", _SEQ),
        sa.Column("extracted", sa.Boolean(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Index("conversation_messages_revision", "scope_id", "revision"),
        sa.Index("conversation_messages_buffer", "scope_id", "conversation", "segment_id"),
        sqlite_autoincrement=True,
    )
    _create(
        "conversation_pictures",
        _scope(),
        sa.Column("message_seq", _SEQ, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("reference", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("scope_id", "message_seq", "position"),
    )
    _create(
        "conversation_batches",
        _number("batch_id"),
        _scope(),
        sa.Column("conversation", sa.String(256), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claim", sa.String(32)),
        sa.Column("claimed_until", sa.Float(), nullable=False),
        sa.Column("not_before", sa.Float(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Index("conversation_batches_open", "scope_id", "done"),
        sqlite_autoincrement=True,
    )
    _create(
        "conversation_segments",
        _number("segment_id"),
        _scope(),
        sa.Column("conversation", sa.String(256), nullable=False),
        sa.Column("batch_id", _SEQ),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Index("conversation_segments_open", "scope_id", "conversation", "batch_id"),
        sqlite_autoincrement=True,
    )


def _create_entries() -> None:
    _create(
        "conversation_entries",
        _number("seq"),
        _scope(),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("live_key", sa.String(32)),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("said", sa.String(40), nullable=False),
        sa.Column("moment", sa.BigInteger(), nullable=False),
        sa.Column("valid_to", sa.String(40)),
        sa.Column("superseded_by", _SEQ),
        sa.Column("speaker", sa.Text(), nullable=False),
        sa.Column("speaker_id", sa.Text(), nullable=False),
        sa.Column("conversation", sa.String(256), nullable=False),
        sa.Column("topic", _SEQ),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("importance", sa.Float(), nullable=False),
        sa.Column("details", _LISTS),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.UniqueConstraint("scope_id", "live_key"),
        sa.Index("conversation_entries_revision", "scope_id", "revision"),
        sqlite_autoincrement=True,
    )
    entry = sa.ForeignKey("conversation_entries.seq", ondelete="CASCADE")
    _create(
        "conversation_sources",
        sa.Column("entry_seq", _SEQ, entry, nullable=False),
        sa.Column("message_seq", _SEQ, nullable=False),
        sa.PrimaryKeyConstraint("entry_seq", "message_seq"),
        sqlite_with_rowid=False,
    )


def _consolidation() -> None:
    _create(
        "conversation_changes",
        _number("change_id"),
        _scope(),
        sa.Column("operation", sa.String(32), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("entry_seq", _SEQ, nullable=False),
        sa.Column("before", sa.JSON(), nullable=False),
        sa.Column("after", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("undone", sa.Boolean(), nullable=False),
        sa.Index("conversation_changes_operation", "scope_id", "operation"),
        sa.Index("conversation_changes_entry", "scope_id", "entry_seq"),
        sqlite_autoincrement=True,
    )
    _create(
        "conversation_queues",
        _scope(),
        sa.Column("source_seq", _SEQ, nullable=False),
        sa.Column("targets", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scope_id", "source_seq"),
        sqlite_with_rowid=False,
    )
    _create(
        "conversation_decisions",
        _scope(),
        sa.Column("target_seq", _SEQ, nullable=False),
        sa.Column("source_seq", _SEQ, nullable=False),
        sa.PrimaryKeyConstraint("scope_id", "target_seq", "source_seq"),
        sqlite_with_rowid=False,
    )
    _create(
        "conversation_consolidations",
        _scope(),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("options", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("scope_id"),
        sqlite_with_rowid=False,
    )


def _scope() -> sa.Column[int]:
    scope = sa.ForeignKey("conversation_scopes.scope_id", ondelete="CASCADE")
    return sa.Column("scope_id", _SEQ, scope, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, _SEQ, primary_key=True, autoincrement=True)


def _create(name: str, *parts: Any, **options: Any) -> None:
    if not sa.inspect(op.get_bind()).has_table(name):
        op.create_table(name, *parts, **options)
