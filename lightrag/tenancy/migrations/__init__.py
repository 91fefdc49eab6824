"""Revisions of the tables of tenancy, run by Alembic."""
