"""Routes of jobs. Records are read in threads; nothing here waits for a job but a stream of events."""

# Annotations are evaluated here: FastAPI reads them, and the tenant dependency is a local name.
import asyncio
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, NamedTuple
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse

from lightrag.api.job_schemas import JobBody, JobInfo, JobList
from lightrag.config import Settings
from lightrag.jobs.access import require_allowed
from lightrag.jobs.service import JobService
from lightrag.jobs.store import LARGEST_PAGE
from lightrag.jobs.types import JobState
from lightrag.storage.objects import ObjectStore

LOOK_SECONDS: Final = 0.5
"""Between two looks of a stream at its job."""
COMMENT_SECONDS: Final = 15.0
"""Silence after which a stream sends a comment, so that proxies do not end it."""
PAGE: Final = 50


class JobAccess(NamedTuple):
    """What the routes of jobs and documents work with."""

    jobs: JobService
    store: ObjectStore
    """Holds the corpora."""
    settings: Settings
    """Say what jobs may read, and how large uploads may be."""


def job_routes(access: JobAccess, Tenant: Any) -> APIRouter:
    """Build the routes.

    Args:
        access: to the records.
        Tenant: annotation that resolves to the request's tenant.
    """
    jobs, _, settings = access
    routes = APIRouter(prefix="/v1/jobs", tags=["jobs"])
    _add_collection(routes, jobs, settings, Tenant)
    _add_job(routes, jobs, Tenant)
    _add_outputs(routes, jobs, Tenant)
    return routes


def location_of(job_id: str) -> dict[str, str]:
    """The header that says where an accepted job is."""
    return {"Location": f"/v1/jobs/{quote(job_id, safe='')}"}


def _add_collection(routes: APIRouter, jobs: JobService, settings: Settings, Tenant: Any) -> None:
    @routes.post("", status_code=202)
    async def submit(body: JobBody, tenant: Tenant, response: Response) -> JobInfo:
        """Queue a job that reads documents into a corpus."""
        spec = body.spec(tenant)
        require_allowed(spec.source.location, settings.jobs.sources)
        job = await asyncio.to_thread(jobs.submit, spec, priority=body.priority)
        response.headers.update(location_of(job.job_id))
        return JobInfo.of(job)

    @routes.get("")
    async def listing(
        tenant: Tenant,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = PAGE,
        state: JobState | None = None,
        corpus: str = "",
    ) -> JobList:
        """List jobs, newest first."""
        page = await asyncio.to_thread(jobs.page, tenant, cursor=cursor, limit=limit, state=state, corpus=corpus)
        return JobList(jobs=[JobInfo.of(job) for job in page.jobs], next=page.next)


def _add_job(routes: APIRouter, jobs: JobService, Tenant: Any) -> None:
    @routes.get("/{job_id}")
    async def get(job_id: str, tenant: Tenant) -> JobInfo:
        """One job: its state, its progress, what it did."""
        return JobInfo.of(await asyncio.to_thread(jobs.get, tenant, job_id))

    @routes.post("/{job_id}/cancel", status_code=202)
    async def cancel(job_id: str, tenant: Tenant, response: Response) -> JobInfo:
        """Ask a job to stop; what it has finished stays for a retry."""
        response.headers.update(location_of(job_id))
        return JobInfo.of(await asyncio.to_thread(jobs.cancel, tenant, job_id))

    @routes.post("/{job_id}/retry", status_code=202)
    async def retry(job_id: str, tenant: Tenant, response: Response) -> JobInfo:
        """Run an ended job again, from where it ended; after a success, the documents that failed."""
        response.headers.update(location_of(job_id))
        return JobInfo.of(await asyncio.to_thread(jobs.retry, tenant, job_id))


def _add_outputs(routes: APIRouter, jobs: JobService, Tenant: Any) -> None:
    @routes.get("/{job_id}/events", response_class=StreamingResponse)
    async def events(job_id: str, tenant: Tenant) -> StreamingResponse:
        """Follow a job as server-sent events: ``progress`` at every change, and ``end``."""
        first = JobInfo.of(await asyncio.to_thread(jobs.get, tenant, job_id))
        return StreamingResponse(_follow(jobs, tenant, first), media_type="text/event-stream")

    @routes.get("/{job_id}/logs", response_class=PlainTextResponse)
    async def logs(job_id: str, tenant: Tenant) -> PlainTextResponse:
        """What the last attempt wrote for people."""
        return PlainTextResponse(await asyncio.to_thread(jobs.log, tenant, job_id))

    @routes.get("/{job_id}/report", response_model=dict[str, Any], responses={200: {"content": {"text/html": {}}}})
    async def report(job_id: str, tenant: Tenant, accept: Annotated[str, Header()] = "") -> Response:
        """What the last attempt did and where its time went: JSON, or a page for whoever accepts HTML."""
        found = await asyncio.to_thread(jobs.report, tenant, job_id)
        if "text/html" in accept:
            return HTMLResponse(found.to_html(), headers={"Content-Security-Policy": _POLICY, "Vary": "Accept"})
        return Response(found.to_json(), media_type="application/json", headers={"Vary": "Accept"})


_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


async def _follow(jobs: JobService, tenant: str, info: JobInfo) -> AsyncIterator[str]:
    shown: JobInfo | None = None
    spoken = time.monotonic()
    while True:
        over = info.ended is not None
        if over or info != shown:
            # JSON has no raw line breaks, so one data line is enough.
            yield f"event: {'end' if over else 'progress'}\ndata: {info.model_dump_json()}\n\n"
            shown, spoken = info, time.monotonic()
        elif time.monotonic() - spoken > COMMENT_SECONDS:
            yield ": still here\n\n"
            spoken = time.monotonic()
        if over:
            return
        await asyncio.sleep(LOOK_SECONDS)
        info = JobInfo.of(await asyncio.to_thread(jobs.get, tenant, info.job_id))


__all__ = ["JobAccess", "job_routes", "location_of"]
