"""Routes of conversation memory. The tenant comes from the request's key, the user from the request itself."""

# Annotations are evaluated here: FastAPI reads them, and the tenant dependency is a local name.
import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from lightrag.api import problems
from lightrag.api.memory_schemas import (
    ADD_REPORT,
    CHANGES,
    ENTRY,
    LARGEST_PAGE,
    SEARCH_RESULT,
    UPDATE_REPORT,
    AddBody,
    AskMemoryBody,
    ConsolidateBody,
    ContextBody,
    EditBody,
    EditedMemory,
    Ended,
    Forgotten,
    MemoryPage,
    MemoryText,
    SearchBody,
    UndoBody,
    Undone,
)
from lightrag.config import DeadlineSettings
from lightrag.conversation.service import PAGE, Addition, Consolidation, Memories, PageRequest, Question
from lightrag.conversation.types import AddReport, Change, MemoryEntry, Scope, SearchResult, UpdateReport
from lightrag.errors import ConflictError, DeadlineExceeded, UsageError

_JSON = "application/json"
_ETAG = re.compile(r'(?:W/)?"?(\d+)"?\Z')
_EXTRACTION_SHARE = 0.8
"""Of the time for adding. After it the messages wait, and the answer still arrives within the deadline."""
_READING = frozenset({"search", "context", "listing", "get", "history"})
_DOUBT = {
    "add": "; what was accepted is kept: repeat the call with the same request_id, which stores nothing twice",
    "consolidate": "; what was decided by then stays: call again to go on",
}
"""What may have come of a call, by the name of its route."""

User = Annotated[str, Query(description="Whose memory.")]
IfMatch = Annotated[str | None, Header(alias="If-Match", description="ETag that the entry must still have.")]


def memory_routes(memories: Memories, Tenant: Any, deadlines: DeadlineSettings | None = None) -> APIRouter:
    """Build the routes.

    Args:
        memories: answers them.
        Tenant: annotation that resolves to the request's tenant.
        deadlines: seconds per request.
    """
    deadlines = deadlines or DeadlineSettings()
    routes = APIRouter(prefix="/v1/memories", tags=["memories"], route_class=_timed(deadlines))
    _add_collection(routes, memories, Tenant, deadlines.request * _EXTRACTION_SHARE)
    _add_questions(routes, memories, Tenant)
    _add_upkeep(routes, memories, Tenant)
    _add_entries(routes, memories, Tenant)
    return routes


def _timed(deadlines: DeadlineSettings) -> type[APIRoute]:
    """Routes that end with the time allowed. A class of routes, so that none can be added without."""

    class Timed(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()
            setting = "consolidate" if self.name == "consolidate" else "request"
            seconds: float = getattr(deadlines, setting)
            doubt = "" if self.name in _READING else "; it may have been done all the same: look, then try again"
            message = (
                f"the request took longer than its {seconds:g} s (deadlines.{setting}){_DOUBT.get(self.name, doubt)}"
            )

            async def timed(request: Request) -> Response:
                try:
                    async with asyncio.timeout(seconds) as timer:
                        return await handle(request)
                except TimeoutError as error:
                    if not timer.expired():
                        raise
                    raise DeadlineExceeded(message) from error

            return timed

    return Timed


def _add_collection(routes: APIRouter, memories: Memories, Tenant: Any, extract_seconds: float) -> None:
    @routes.post("", response_model=AddReport, status_code=201, responses={202: {"model": AddReport}})
    async def add(body: AddBody, tenant: Tenant) -> Response:
        """Accept messages. 201: entries were made of them; 202: they are durable and found, and wait for extraction."""
        addition = Addition(
            body.listed(),
            conversation=body.conversation,
            request_id=body.request_id,
            force_segment=body.force_segment,
            force_extract=body.force_extract,
            tags=body.tags,
            extract_seconds=extract_seconds,
        )
        report = await memories.add(Scope(tenant, body.user), addition)
        waiting = bool(report.buffered or report.queued)
        return Response(ADD_REPORT.dump_json(report), status_code=202 if waiting else 201, media_type=_JSON)

    @routes.get("")
    async def listing(
        tenant: Tenant,
        user: User,
        cursor: str | None = None,
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = PAGE,
        include_superseded: bool = False,
    ) -> MemoryPage:
        """List everything that is remembered of a user, in order of time."""
        page = await memories.page(Scope(tenant, user), PageRequest(cursor, limit, include_superseded))
        return MemoryPage(entries=list(page.entries), next=page.next)

    @routes.delete("")
    async def forget(tenant: Tenant, user: User) -> Forgotten:
        """Delete everything of a user for good: messages, entries, history and vectors."""
        return Forgotten(rows=await memories.forget(Scope(tenant, user)))


def _add_questions(routes: APIRouter, memories: Memories, Tenant: Any) -> None:
    @routes.post("/search", response_model=SearchResult)
    async def search(body: SearchBody, tenant: Tenant) -> Response:
        """Find entries, with scores and reasons."""
        found = await memories.search(Scope(tenant, body.user), _question(body), body.limit, body.strategy)
        return Response(SEARCH_RESULT.dump_json(found), media_type=_JSON)

    @routes.post("/context")
    async def context(body: ContextBody, tenant: Tenant) -> MemoryText:
        """The best memory text for a budget, ready for a prompt."""
        return MemoryText(text=await memories.context(Scope(tenant, body.user), _question(body), body.max_tokens))


def _add_upkeep(routes: APIRouter, memories: Memories, Tenant: Any) -> None:
    @routes.post("/consolidate", response_model=UpdateReport)
    async def consolidate(body: ConsolidateBody, tenant: Tenant) -> Response:
        """Let later entries update, merge or end earlier ones. Unchanged memories cost nothing."""
        options = Consolidation(**body.model_dump(exclude={"user"}))
        report = await memories.consolidate(Scope(tenant, body.user), options)
        return Response(UPDATE_REPORT.dump_json(report), media_type=_JSON)

    @routes.post("/undo")
    async def undo(body: UndoBody, tenant: Tenant) -> Undone:
        """Take back an edit, a deletion or a decision of a consolidation."""
        return Undone(entries=list(await memories.undo(Scope(tenant, body.user), body.operation)))


def _add_entries(routes: APIRouter, memories: Memories, Tenant: Any) -> None:
    @routes.get("/{entry_id}", response_model=MemoryEntry)
    async def get(entry_id: str, tenant: Tenant, user: User) -> Response:
        """One entry; its ETag is its revision."""
        return _entry(await memories.get(Scope(tenant, user), entry_id))

    @routes.get("/{entry_id}/history", response_model=list[Change])
    async def history(entry_id: str, tenant: Tenant, user: User) -> Response:
        """Everything that was ever decided about an entry, oldest first."""
        changes = await memories.history(Scope(tenant, user), entry_id)
        return Response(CHANGES.dump_json(changes), media_type=_JSON)

    @routes.patch("/{entry_id}", response_model=EditedMemory)
    async def edit(entry_id: str, body: EditBody, tenant: Tenant, if_match: IfMatch = None) -> Response:
        """Give an entry another text: a new entry takes its place. With ``If-Match``, only if it is unchanged."""
        scope = Scope(tenant, body.user)
        try:
            done = await memories.edit(scope, entry_id, body.text, _revision(if_match))
        except ConflictError as error:
            return _conflict(error, if_match)
        edited = EditedMemory(entry=await memories.get(scope, done.entry_id), operation=done.operation)
        return Response(edited.model_dump_json(), media_type=_JSON, headers={"ETag": f'"{edited.entry.revision}"'})

    @routes.delete("/{entry_id}", response_model=Ended)
    async def delete(entry_id: str, tenant: Tenant, user: User, if_match: IfMatch = None) -> Response:
        """End an entry; it is not found any more. The operation can be undone."""
        try:
            operation = await memories.delete(Scope(tenant, user), entry_id, _revision(if_match))
        except ConflictError as error:
            return _conflict(error, if_match)
        return Response(Ended(operation=operation).model_dump_json(), media_type=_JSON)


def _question(body: AskMemoryBody) -> Question:
    return Question(body.query, filter=body.filter, as_of=body.as_of, tags=body.tags)


def _entry(entry: MemoryEntry) -> Response:
    return Response(ENTRY.dump_json(entry), media_type=_JSON, headers={"ETag": f'"{entry.revision}"'})


def _revision(etag: str | None) -> int | None:
    if etag is None or etag.strip() == "*":
        return None
    found = _ETAG.match(etag.strip())
    if found is None:
        raise UsageError(f"If-Match {etag[:40]!r} is no ETag of a memory entry", subject="If-Match")
    return int(found.group(1))


def _conflict(error: ConflictError, if_match: str | None) -> Response:
    """A failed precondition has a status of its own."""
    if if_match is None:
        raise error
    _, document, _ = problems.problem(error)
    return JSONResponse({**document, "status": 412}, 412, media_type=problems.MEDIA_TYPE)


__all__ = ["memory_routes"]
