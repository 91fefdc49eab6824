"""The migrations alone tell which revision a history has, and every history has its id from the start."""

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Drop the number that histories carried before there were migrations, and name those that nobody opened yet."""
    with op.batch_alter_table("conversation_store") as table:
        table.drop_column("schema_version")
    stores = sa.table("conversation_store", sa.column("store_id", sa.String))
    # Under the lock of the migrations, so that of two processes that begin a history only one names it.
    if op.get_bind().execute(sa.select(stores.c.store_id)).first() is None:
        op.bulk_insert(stores, [{"store_id": uuid4().hex}])
