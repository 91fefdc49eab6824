"""Rates that replicas share, and answers to repeated writes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "tenancy_buckets",
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("level", sa.Double(), nullable=False),
        sa.Column("moment", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_tenancy_buckets"),
    )
    op.create_table(
        "tenancy_replays",
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("replay_key", sa.String(255), nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("media_type", sa.String(100), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "replay_key", name="pk_tenancy_replays"),
    )
    op.create_index("ix_tenancy_replays_created", "tenancy_replays", ["created"])
