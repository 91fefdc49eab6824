"""Revisions of the tables of the history, run by Alembic."""
