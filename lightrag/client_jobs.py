"""Jobs through a running service: the ``jobs`` of a client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, closing
from typing import Any, Final

from lightrag.api.job_schemas import JobInfo, JobList, SourceBody
from lightrag.client_blocking import Face, blocking, iterating
from lightrag.client_transport import Channel, route
from lightrag.errors import BackendError, DeadlineExceeded
from lightrag.jobs.types import JobState

SILENCE: Final = 60.0
"""Seconds without a word from a service that is followed, which says every 15 that it is still there."""


class AsyncJobs:
    """Jobs of one tenant. Every method raises the branch that the service reports.

    Example::

        async with AsyncClient("http://127.0.0.1:8700") as client:
            job = await client.jobs.submit("s3://bucket/contracts", corpus="contracts")
            async for state in client.jobs.follow(job):
                print(state.state, [f"{stage.stage}: {stage.done} of {stage.total}" for stage in state.progress])
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def submit(
        self,
        source: str | SourceBody,
        *,
        corpus: str,
        keep_missing: bool = False,
        retry_failed: bool = False,
        priority: int = 0,
    ) -> JobInfo:
        """Queue a job that reads documents into a corpus.

        Args:
            source: a location that the service may read, or one with its options.
            corpus: what to read them into.
            keep_missing: keep documents that this source delivered before and does not list any more.
            retry_failed: try documents again that failed before.
            priority: higher ones start first.
        """
        described = {"location": source} if isinstance(source, str) else source.model_dump(exclude_unset=True)
        body = {"corpus": corpus, "source": described, "priority": priority}
        body |= {"keep_missing": keep_missing, "retry_failed": retry_failed}
        return JobInfo.model_validate_json(await self._channel.send("POST", route("jobs"), json=body))

    async def page(
        self, *, corpus: str = "", state: JobState | None = None, cursor: str | None = None, limit: int = 50
    ) -> JobList:
        """Some jobs, newest first; :meth:`all` reads all of them."""
        asked: dict[str, str | int] = {"limit": limit, "corpus": corpus}
        asked |= {} if state is None else {"state": state}
        asked |= {} if cursor is None else {"cursor": cursor}
        return JobList.model_validate_json(await self._channel.send("GET", route("jobs"), params=asked))

    async def all(self, *, corpus: str = "", state: JobState | None = None) -> AsyncGenerator[JobInfo, None]:
        """All jobs, newest first, page by page."""
        page = await self.page(corpus=corpus, state=state)
        while True:
            for job in page.jobs:
                yield job
            if page.next is None:
                return
            page = await self.page(corpus=corpus, state=state, cursor=page.next)

    async def get(self, job: str | JobInfo) -> JobInfo:
        """One job as it is now."""
        return JobInfo.model_validate_json(await self._channel.send("GET", _place(job)))

    async def cancel(self, job: str | JobInfo) -> JobInfo:
        """Ask a job to stop; what it has finished stays for a retry."""
        return JobInfo.model_validate_json(await self._channel.send("POST", _place(job, "cancel")))

    async def retry(self, job: str | JobInfo) -> JobInfo:
        """Run an ended job again, from where it ended; after a success, the documents that failed."""
        return JobInfo.model_validate_json(await self._channel.send("POST", _place(job, "retry")))

    async def logs(self, job: str | JobInfo) -> str:
        """What the last attempt wrote for people."""
        return (await self._channel.send("GET", _place(job, "logs"))).decode()

    async def report(self, job: str | JobInfo) -> dict[str, Any]:
        """What the last attempt did and where its time went."""
        found: dict[str, Any] = json.loads(await self._channel.send("GET", _place(job, "report")))
        return found

    async def follow(self, job: str | JobInfo, *, seconds: float | None = None) -> AsyncGenerator[JobInfo, None]:
        """The states of a job: as it is, at every change, and as it ended. Leaving does not stop it.

        A lost connection is opened again, as often as it takes and ``retries`` of the client allow in a row.

        Args:
            job: the job, or its id.
            seconds: how long to follow it; ``None``: to its end.

        Raises:
            BackendError: it failed or was cancelled; its last state came before.
            DeadlineExceeded: it has not ended in time.
        """
        ends = None if seconds is None else time.monotonic() + seconds
        shown: JobInfo | None = None
        events = self._channel.events("GET", _place(job, "events"), last="end", resumes=True, silence=SILENCE)
        async with aclosing(events):
            while True:
                try:
                    # One event at a time: a limit around a yield would also count what the caller does.
                    async with asyncio.timeout(None if ends is None else max(0.0, ends - time.monotonic())):
                        name, value = await anext(events)
                except TimeoutError:
                    raise DeadlineExceeded(f"{_named(job)} has not ended within {seconds:g} s") from None
                info = JobInfo.model_validate(value)
                if info != shown or name == "end":
                    yield info
                shown = info
                if name == "end":
                    break
        _require_success(info)

    async def wait(
        self,
        job: str | JobInfo,
        *,
        on_progress: Callable[[JobInfo], object] | None = None,
        seconds: float | None = None,
    ) -> JobInfo:
        """Wait until a job has succeeded, and return it.

        Args:
            job: the job, or its id.
            on_progress: called with every state that :meth:`follow` gives.
            seconds: how long to wait; ``None``: to its end.

        Raises:
            BackendError: it failed or was cancelled.
            DeadlineExceeded: it has not ended in time.
        """
        async with aclosing(self.follow(job, seconds=seconds)) as states:
            async for state in states:
                if on_progress:
                    on_progress(state)
        return state


class Jobs(Face[AsyncJobs]):
    """The blocking face of :class:`AsyncJobs`, with the same methods."""

    submit = blocking(AsyncJobs.submit)
    page = blocking(AsyncJobs.page)
    all = iterating(AsyncJobs.all)
    get = blocking(AsyncJobs.get)
    cancel = blocking(AsyncJobs.cancel)
    retry = blocking(AsyncJobs.retry)
    logs = blocking(AsyncJobs.logs)
    report = blocking(AsyncJobs.report)
    follow = iterating(AsyncJobs.follow)

    def wait(
        self,
        job: str | JobInfo,
        *,
        on_progress: Callable[[JobInfo], object] | None = None,
        seconds: float | None = None,
    ) -> JobInfo:
        """See :meth:`AsyncJobs.wait`. ``on_progress`` runs outside the loop and may use this client."""
        with closing(self.follow(job, seconds=seconds)) as states:
            for state in states:
                if on_progress:
                    on_progress(state)
        return state


def _place(job: str | JobInfo, *more: str) -> str:
    return route("jobs", job if isinstance(job, str) else job.job_id, *more)


def _named(job: str | JobInfo) -> str:
    return f"job {job!r}" if isinstance(job, str) else f"job {job.job_id!r} of corpus {job.corpus!r}"


def _require_success(job: JobInfo) -> None:
    if job.state != "succeeded":
        said = f"{_named(job)} {'was cancelled' if job.state == 'cancelled' else 'failed'}"
        raise BackendError(f"{said}: {job.error}" if job.error else said, subject=job.job_id)


__all__ = ["AsyncJobs", "Jobs"]
