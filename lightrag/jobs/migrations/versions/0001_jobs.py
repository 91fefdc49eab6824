"""The table of jobs."""

import sqlalchemy as sa
from alembic import op

from lightrag.storage.records import UtcDateTime

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make it."""
    texts = ("spec", "progress", "summary", "usage", "report", "error")
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.String(40), nullable=False),
        sa.Column("tenant", sa.String(63), nullable=False),
        sa.Column("corpus", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(31), nullable=False),
        sa.Column("state", sa.String(15), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        *(sa.Column(name, sa.Text, nullable=False) for name in texts),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("place", sa.String(255), nullable=False),
        sa.Column("created", UtcDateTime, nullable=False),
        *(sa.Column(name, UtcDateTime) for name in ("started", "ended")),
        sa.PrimaryKeyConstraint("job_id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_tenant_job", "jobs", ["tenant", "job_id"])
    op.create_index("ix_jobs_state", "jobs", ["state"])
