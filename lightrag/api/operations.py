"""What every service has beside its own routes: the gate, request ids, metrics, readiness, administration."""

# Annotations are evaluated here: FastAPI reads them.
import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Literal

from fastapi import APIRouter, FastAPI, Response
from pydantic import BaseModel

from lightrag.api.admin import admin_routes
from lightrag.api.context import CURRENT
from lightrag.api.metrics import CONTENT_TYPE, Metrics
from lightrag.api.middleware import RequestLayer
from lightrag.api.replaying import ReplayLayer
from lightrag.api.security import Gate
from lightrag.conversation.service import Memories
from lightrag.rag import QuestionPipeline
from lightrag.tenancy.service import Tenancy
from lightrag.types import Answer
from lightrag.workload import StageReport

_LOG = logging.getLogger(__name__)
_CHECK_SECONDS = 3.0

Check = Callable[[], Awaitable[object]]
"""Returns if something works, and raises if not."""
Report = Callable[[], Awaitable[Sequence[StageReport]]]
"""Returns how the replicas of a stage are."""


class Readiness(BaseModel):
    """Whether requests should be sent here, and what is missing."""

    status: Literal["ready", "not ready"]
    checks: dict[str, Literal["ok", "failed"]]


def install(
    app: FastAPI,
    tenancy: Tenancy,
    pipeline: QuestionPipeline,
    *,
    memories: Memories | None = None,
    checks: Mapping[str, Check] | None = None,
    reports: Mapping[str, Report] | None = None,
    echo_request_id: bool = True,
) -> None:
    """Put the layers around an app and add the routes of operation.

    Args:
        app: with its own routes.
        tenancy: whose requests pass, and how many.
        pipeline: whose answers are counted.
        memories: deleted with their tenant.
        checks: what has to work before the service is ready, beside its records and its storage.
        reports: what the replicas of each stage say about themselves, for metrics.
        echo_request_id: put ``X-Request-ID`` on responses; Ray Serve does that by itself.
    """
    metrics = Metrics()

    def count(answer: Answer) -> None:
        tenancy.note_answer(answer)
        context = CURRENT.get()
        if context is not None:
            context.metered = True
        principal = context.principal if context else None
        metrics.answer(answer, principal.tenant_class if principal else "none")

    pipeline.observe(count)
    app.include_router(_readiness({**_own_checks(tenancy), **(checks or {})}))
    app.include_router(_metrics(tenancy, metrics, reports or {}))
    app.include_router(admin_routes(tenancy, memories))
    # The last one added is the outermost.
    app.add_middleware(ReplayLayer, tenancy=tenancy)
    app.add_middleware(Gate, tenancy=tenancy, metrics=metrics)
    app.add_middleware(RequestLayer, metrics=metrics, echo=echo_request_id)


def lifespan(tenancy: Tenancy | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The app's life: what was counted is written when it ends."""

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        if tenancy is None:
            yield
            return
        tenancy.keep_flushing()
        try:
            yield
        finally:
            await tenancy.close()

    return alive


def _own_checks(tenancy: Tenancy) -> dict[str, Check]:
    async def records() -> None:
        await asyncio.to_thread(tenancy.tenants.page, "", 1)

    async def storage() -> None:
        await asyncio.to_thread(tenancy.store.folders, "")

    return {"records": records, "storage": storage}


def _readiness(checks: Mapping[str, Check]) -> APIRouter:
    routes = APIRouter()

    @routes.get("/readyz", responses={503: {"model": Readiness}})
    async def readyz() -> Response:
        """Whether everything that answers need can be reached. 503 where not."""
        results = await asyncio.gather(*(_works(name, check) for name, check in checks.items()))
        found: dict[str, Literal["ok", "failed"]] = {
            name: "ok" if works else "failed" for name, works in zip(checks, results, strict=True)
        }
        ready = all(results)
        body = Readiness(status="ready" if ready else "not ready", checks=found)
        return Response(body.model_dump_json(), 200 if ready else 503, media_type="application/json")

    return routes


def _metrics(tenancy: Tenancy, metrics: Metrics, reports: Mapping[str, Report]) -> APIRouter:
    routes = APIRouter()

    @routes.get("/metrics", response_class=Response)
    async def prometheus() -> Response:
        """Metrics of this replica of the ingress and of all replicas of the stages, in Prometheus' text format."""
        said = await asyncio.gather(*(_said(stage, report) for stage, report in reports.items()))
        admission = tenancy.admission
        text = metrics.text(
            running=admission.running, waiting=admission.waiting, stages=dict(zip(reports, said, strict=True))
        )
        return Response(text, headers={"content-type": CONTENT_TYPE})

    return routes


async def _said(stage: str, report: Report) -> Sequence[StageReport]:
    try:
        return await report()
    except Exception as error:
        # The others are worth having; the number of replicas that answered says that these are missing.
        _LOG.warning("no metrics of %s: %s", stage, str(error) or type(error).__name__)
        return ()


async def _works(name: str, check: Check) -> bool:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            await check()
    except Exception as error:
        # Whatever a probe raises, the answer is no; why is for the log, since everybody may ask.
        _LOG.warning("not ready: %s failed: %s", name, str(error) or type(error).__name__)
        return False
    return True


__all__ = ["Check", "Readiness", "install", "lifespan"]
