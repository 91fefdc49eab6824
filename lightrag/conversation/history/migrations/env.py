"""Alembic's entry point for the history of conversations."""

from lightrag.storage.records import run_migrations

run_migrations()
