"""Routes of the service as a FastAPI app over a pipeline and a catalogue of corpora."""

# Annotations are evaluated here: FastAPI reads them, and the dependencies below are local names.
from collections.abc import Mapping
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import TypeAdapter

import lightrag
from lightrag.api import problems
from lightrag.api.documents import document_routes
from lightrag.api.events import ANSWER, RECOLLECTION, server_sent
from lightrag.api.jobs import JobAccess, job_routes
from lightrag.api.memories import memory_routes
from lightrag.api.openai import openai_routes
from lightrag.api.operations import Check, Report, install, lifespan
from lightrag.api.schemas import (
    AskBody,
    CompressBody,
    Compressed,
    CorpusInfo,
    CorpusPage,
    Health,
    RecallBody,
    RetrieveBody,
    VersionInfo,
)
from lightrag.api.security import current_tenant
from lightrag.api.versions import version_routes
from lightrag.assistants import Assistants
from lightrag.config import AssistantSettings, DeadlineSettings
from lightrag.conversation.service import Memories
from lightrag.errors import UsageError
from lightrag.memory.base import Recollection
from lightrag.models.text_embedding import TextEmbedder
from lightrag.rag import QuestionPipeline
from lightrag.retrieval.base import RetrievalResult
from lightrag.tenancy.service import Tenancy
from lightrag.types import Answer, CorpusId, CorpusVersion

_RETRIEVAL_RESULT = TypeAdapter(RetrievalResult)


class Catalogue(Protocol):
    """What corpora exist and in which versions."""

    async def pin(self, corpus: CorpusId, version: int | None = None) -> CorpusVersion:
        """Return the newest version, or check that the given one exists.

        Raises:
            NotFoundError: there is no such corpus or version.
        """
        ...

    async def corpora(self, tenant: str) -> list[CorpusInfo]:
        """List the tenant's corpora with their newest versions."""
        ...

    async def describe(self, corpus: CorpusId) -> CorpusInfo:
        """Describe one corpus.

        Raises:
            NotFoundError: there is no such corpus.
        """
        ...


def create_app(
    pipeline: QuestionPipeline,
    catalogue: Catalogue,
    *,
    tenant: str,
    memories: Memories | None = None,
    deadlines: DeadlineSettings | None = None,
    assistants: Mapping[str, AssistantSettings] | None = None,
    embedder: TextEmbedder | None = None,
    embedding_model: str = "",
    jobs: JobAccess | None = None,
    tenancy: Tenancy | None = None,
    checks: Mapping[str, Check] | None = None,
    reports: Mapping[str, Report] | None = None,
    echo_request_id: bool = True,
) -> FastAPI:
    """Build the app.

    Args:
        pipeline: answers questions.
        catalogue: knows the corpora.
        tenant: whom requests belong to.
        memories: of conversations; ``None``: the service offers none.
        deadlines: of calls about memories; the pipeline has its own.
        assistants: models of the OpenAI-compatible routes, beside the corpora.
        embedder: embeds texts for those routes; ``None``: the service offers no embeddings.
        embedding_model: what clients call it.
        jobs: ingest documents; ``None``: the service only reads.
        tenancy: says whose requests pass; ``None``: all do, and belong to ``tenant``, without quotas or metrics.
        checks: what has to work before the service is ready, beside what tenancy needs.
        reports: what the replicas of each stage say about themselves, for metrics.
        echo_request_id: put ``X-Request-ID`` on responses, where no proxy does.
    """
    app = FastAPI(
        title="LightRAG", version=lightrag.__version__, docs_url="/docs", redoc_url=None, lifespan=lifespan(tenancy)
    )
    problems.install(app)

    def only_tenant() -> str:
        return tenant

    Tenant = Annotated[str, Depends(only_tenant if tenancy is None else current_tenant)]

    app.include_router(_service_routes())
    app.include_router(_corpus_routes(pipeline, catalogue, Tenant))
    app.include_router(_stage_routes(pipeline, catalogue, Tenant))
    if memories is not None:
        app.include_router(memory_routes(memories, Tenant, deadlines))
    if jobs is not None:
        app.include_router(job_routes(jobs, Tenant))
        app.include_router(document_routes(jobs, Tenant))
        app.include_router(version_routes(jobs.store, Tenant, max_pins=jobs.settings.storage.max_pins))
    chats = Assistants(pipeline, catalogue.pin, assistants or {}, memories)

    async def corpus_names(tenant: str) -> list[str]:
        return [info.corpus for info in await catalogue.corpora(tenant)]

    app.include_router(openai_routes(chats, corpus_names, embedder, embedding_model, Tenant))
    if tenancy is not None:
        install(
            app,
            tenancy,
            pipeline,
            memories=memories,
            checks=checks,
            reports=reports,
            echo_request_id=echo_request_id,
        )
    return app


def _service_routes() -> APIRouter:
    routes = APIRouter()

    @routes.get("/healthz")
    async def healthz() -> Health:
        """Whether the process answers."""
        return Health(status="ok")

    @routes.get("/version")
    async def version() -> VersionInfo:
        """What runs."""
        return VersionInfo(name="lightrag", version=lightrag.__version__)

    return routes


def _corpus_routes(pipeline: QuestionPipeline, catalogue: Catalogue, Tenant: Any) -> APIRouter:
    routes = APIRouter(prefix="/v1/corpora")

    @routes.get("")
    async def corpora(
        tenant: Tenant, cursor: str = "", limit: Annotated[int, Query(ge=1, le=1000)] = 100
    ) -> CorpusPage:
        """List the tenant's corpora, in order of name."""
        found = sorted(await catalogue.corpora(tenant), key=lambda info: info.corpus)
        page = [info for info in found if info.corpus > cursor][: limit + 1]
        return CorpusPage(corpora=page[:limit], next=page[limit - 1].corpus if len(page) > limit else None)

    @routes.get("/{corpus}", response_model=CorpusInfo, responses={304: {}})
    async def describe(corpus: str, tenant: Tenant, if_none_match: Annotated[str, Header()] = "") -> Response:
        """Describe one corpus; its ETag is its newest version. 304 where ``If-None-Match`` names that."""
        info = await catalogue.describe(CorpusId(tenant, corpus))
        etag = f'"{info.version}"'
        known = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
        if etag in known or "*" in known:
            return Response(status_code=304, headers={"ETag": etag})
        return Response(info.model_dump_json(), media_type="application/json", headers={"ETag": etag})

    @routes.post("/{corpus}/ask", response_model=Answer)
    async def ask(corpus: str, body: AskBody, tenant: Tenant) -> Response:
        """Ask a question; with ``stream`` the answer comes as server-sent events."""
        pinned = await catalogue.pin(CorpusId(tenant, corpus), body.version)
        request = body.request(pinned)
        if body.stream:
            return StreamingResponse(server_sent(pipeline.stream(request)), media_type="text/event-stream")
        return Response(ANSWER.dump_json(await pipeline.ask(request)), media_type="application/json")

    return routes


def _stage_routes(pipeline: QuestionPipeline, catalogue: Catalogue, Tenant: Any) -> APIRouter:
    """One stage alone, for callers that compose their own answers."""
    routes = APIRouter(prefix="/v1")

    @routes.post("/corpora/{corpus}/retrieve", response_model=RetrievalResult)
    async def retrieve(corpus: str, body: RetrieveBody, tenant: Tenant) -> Response:
        """Find evidence."""
        pinned = await catalogue.pin(CorpusId(tenant, corpus), body.version)
        result = await pipeline.retrieve(body.request(pinned))
        return Response(_RETRIEVAL_RESULT.dump_json(result), media_type="application/json")

    @routes.post("/corpora/{corpus}/recall", response_model=Recollection)
    async def recall(corpus: str, body: RecallBody, tenant: Tenant) -> Response:
        """Recall clues from the memory."""
        pinned = await catalogue.pin(CorpusId(tenant, corpus), body.version)
        result = await pipeline.recall(body.request(pinned))
        return Response(RECOLLECTION.dump_json(result), media_type="application/json")

    @routes.post("/compress")
    async def compress(body: CompressBody, tenant: Tenant) -> Compressed:
        """Fit passages into a budget, as text."""
        context = await pipeline.compress(body.request())
        text = [part for part in context.parts if isinstance(part, str)]
        if len(text) < len(context.parts):
            raise UsageError("this service compresses to latents, which only its own generator reads: use ask")
        return Compressed(
            text="".join(text),
            tokens=context.tokens,
            source_tokens=context.source_tokens,
            method=context.method,
            allocation=list(context.allocation),
            notes=list(context.notes),
        )

    return routes


__all__ = ["Catalogue", "create_app"]
