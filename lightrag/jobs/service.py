"""Jobs as whoever asks for them sees them: the command, the service, a program. It never waits for one to end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lightrag.config import Settings
from lightrag.errors import NotFoundError
from lightrag.ingestion.report import IngestReport
from lightrag.ingestion.spec import IngestSpec
from lightrag.jobs.alone import only_one
from lightrag.jobs.environment import process_environment, refuse_secrets
from lightrag.jobs.opening import open_runner, open_store
from lightrag.jobs.store import JobStore, new_job_id
from lightrag.jobs.types import Job, JobPage, JobState
from lightrag.types import CorpusId

_DETACHED: Final = 'log="$1"; shift; "$@" </dev/null >>"$log" 2>&1 &'
"""The shell ends at once, so that the supervisor is nobody's child and outlives whoever asked for it."""
_START_SECONDS: Final = 5.0
"""How long a supervisor may take to say that it is there."""


class JobService:
    """Submits jobs and tells about them. Safe to share between threads; every call takes milliseconds.

    Example::

        jobs = JobService(load_settings())
        job = jobs.submit(IngestSpec(corpus="reports", source=SourceSpec(location="reports/")))
        print(jobs.get("default", job.job_id).state)
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = settings.home.expanduser().absolute() / "jobs"
        self._store: JobStore | None = None
        self._started = float("-inf")

    @property
    def store(self) -> JobStore:
        """The records, opened on first use."""
        self._store = self._store or open_store(self._settings)
        return self._store

    def close(self) -> None:
        """Close the records; jobs go on."""
        if self._store is not None:
            self._store.close()

    def submit(self, spec: IngestSpec, *, priority: int = 0, job_id: str = "") -> Job:
        """Queue an ingest job, and see to it that somebody starts it.

        Args:
            spec: what to ingest.
            priority: jobs of higher ones start first.
            job_id: from :func:`lightrag.jobs.store.new_job_id`; empty: a new one.

        Raises:
            UsageError: the spec holds a secret.
            BackendError: the records cannot be reached.
        """
        refuse_secrets(spec.settings)
        plain: dict[str, Any] = spec.model_dump(mode="json", exclude_defaults=True) | {"tenant": spec.tenant}
        plain["source"] = _absolute(plain["source"])
        job = self.store.add(
            spec.tenant, spec.corpus, plain, kind="ingest", priority=priority, job_id=job_id or new_job_id()
        )
        self.ensure_supervisor()
        return job

    def remove(self, corpus: CorpusId, documents: Sequence[str]) -> Job:
        """Queue a job that takes documents out of a corpus, by their ids; see :meth:`submit`."""
        return self.submit(IngestSpec.removal(corpus, documents))

    def get(self, tenant: str, job_id: str) -> Job:
        """One job.

        Raises:
            NotFoundError: this tenant has no such job.
        """
        job = self.store.get(tenant, job_id)
        if not job.is_over:
            self.ensure_supervisor()
        return job

    def page(
        self,
        tenant: str,
        *,
        cursor: str | None = None,
        limit: int = 50,
        state: JobState | None = None,
        corpus: str = "",
    ) -> JobPage:
        """Some jobs, newest first; see :meth:`JobStore.page`."""
        page = self.store.page(tenant, cursor=cursor, limit=limit, state=state, corpus=corpus)
        if any(not job.is_over for job in page.jobs):
            self.ensure_supervisor()
        return page

    def cancel(self, tenant: str, job_id: str) -> Job:
        """Stop a job; what it has finished stays for a retry. See :meth:`JobStore.request_cancel`."""
        job = self.store.request_cancel(tenant, job_id)
        self.ensure_supervisor()
        return job

    def retry(self, tenant: str, job_id: str) -> Job:
        """Queue an ended job again; see :meth:`JobStore.retry`."""
        job = self.store.retry(tenant, job_id)
        self.ensure_supervisor()
        return job

    def log(self, tenant: str, job_id: str) -> str:
        """What the last attempt wrote for people."""
        return open_runner(self._settings).log(self.store.get(tenant, job_id))

    def report(self, tenant: str, job_id: str) -> IngestReport:
        """The report of the last attempt.

        Raises:
            NotFoundError: there is no such job, or it has not ended.
        """
        plain: Mapping[str, Any] = self.store.report(tenant, job_id)
        if not plain:
            raise NotFoundError(f"job {job_id} has no report until it has run to an end", subject=job_id)
        return IngestReport.from_plain(plain)

    def ensure_supervisor(self) -> None:
        """Start a supervisor of this home, unless there is one."""
        if time.monotonic() - self._started < _START_SECONDS:
            return  # one is on its way
        with only_one(self._home, patience=0) as nobody:
            pass
        if nobody:
            self._started = time.monotonic()
            command = [sys.executable, "-m", "lightrag.jobs.supervisor"]
            subprocess.run(  # noqa: S603  # our own module
                ["/bin/sh", "-c", _DETACHED, "sh", str(self._home / "supervisor.log"), *command],
                env=process_environment(self._settings),
                cwd=Path.cwd(),
                start_new_session=True,
                check=True,
            )


def _absolute(source: dict[str, Any]) -> dict[str, Any]:
    """A path means the same wherever the job runs."""
    location = source["location"]
    return (
        source
        if "://" in location or source.get("format") == "none"
        else source | {"location": os.path.abspath(os.path.expanduser(location))}
    )


__all__ = ["JobService"]
