"""Alembic's entry point for the table of jobs."""

from lightrag.storage.records import run_migrations

run_migrations()
