"""Run by Alembic."""

from lightrag.storage.records import run_migrations

run_migrations()
