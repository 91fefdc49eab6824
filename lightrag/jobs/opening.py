"""Stores, runners and limits as the settings describe them."""

from __future__ import annotations

from lightrag.config import Settings
from lightrag.jobs.process_runner import ProcessRunner
from lightrag.jobs.ray_runner import RayRunner
from lightrag.jobs.runners import Runner
from lightrag.jobs.store import JobStore, Limits


def records_url(settings: Settings) -> str:
    """Database of the records, with the embedded default filled in."""
    given = settings.jobs.records_url.get_secret_value()
    if given and "://" not in given:
        return f"sqlite:///{given}"
    return given or f"sqlite:///{settings.home.expanduser().absolute() / 'records.db'}"


def open_store(settings: Settings) -> JobStore:
    """Open the records.

    Raises:
        ConfigurationError: the URL is not understood.
        BackendError: the database does not answer.
    """
    return JobStore.open(records_url(settings))


def open_runner(settings: Settings) -> Runner:
    """What runs jobs here."""
    return RayRunner(settings) if settings.jobs.runner == "ray" else ProcessRunner(settings)


def limits(settings: Settings) -> Limits:
    """How many jobs may run."""
    return Limits(settings.jobs.at_once, settings.jobs.per_tenant)


__all__ = ["limits", "open_runner", "open_store", "records_url"]
