"""The MCP server: the published memory tools, and questions to corpora.

``lightrag mcp`` runs it, over stdio or HTTP; so does ``fastmcp run lightrag/mcp/server.py:mcp``. Settings come from the
environment and the file that ``LRAG_CONFIG`` names.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.server.dependencies import get_http_headers
from pydantic import Field

import lightrag
from lightrag.config import Settings, load_settings
from lightrag.errors import LightRAGError, UsageError
from lightrag.mcp.access import Access, open_access
from lightrag.types import Answer, Evidence, Task

DEFAULT_USER = "default"
USER_HEADER = "x-lightrag-user"
"""Names the user of an HTTP connection, who then cannot be another one."""
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
INSTRUCTIONS = (
    "Long-term memory. Before answering, call retrieve_memory with what you want to know about the user. After an "
    "exchange that is worth keeping, call add_memory. Use ask for questions about ingested documents."
)

User = Annotated[str | None, Field(description="Whose memory, where this server serves several users.")]
Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Options:
    """What a server serves."""

    settings: Settings
    url: str = ""
    """Service to use; empty: the one that runs from this home folder, or none."""


class _Session:
    """What the tools of one server share; opened by the first call, so that a server starts at once."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._access: Access | None = None

    @property
    def access(self) -> Access:
        if self._access is None:
            self._access = open_access(self.options.settings, self.options.url)
        return self._access

    def user(self, named: str | None) -> str:
        """Whose memory a call is about.

        Raises:
            UsageError: the call names another user than the one whom the server or the connection is for.
        """
        connection = get_http_headers().get(USER_HEADER, "")
        bound = self.options.settings.conversation.user or connection
        for other in (connection, named or ""):
            if bound and other and other != bound:
                raise UsageError(f"this connection is for user {bound!r} only, not for {other!r}", subject=other)
        return bound or named or DEFAULT_USER

    async def close(self) -> None:
        if self._access is not None:
            await self._access.close()
            self._access = None


def build_server(options: Options | None = None) -> FastMCP[Any]:
    """Build a server; nothing is opened until it runs.

    Args:
        options: what it serves; ``None`` reads the settings when it starts.
    """

    @asynccontextmanager
    async def lifespan(server: FastMCP[Any]) -> AsyncIterator[dict[str, _Session]]:
        session = _Session(options or Options(load_settings()))
        try:
            yield {"session": session}
        finally:
            await session.close()

    server: FastMCP[Any] = FastMCP(
        "lightrag",
        instructions=INSTRUCTIONS,
        version=lightrag.__version__,
        lifespan=lifespan,
        # What we have to say is said by ToolError; anything else is a bug, whose details are for the log.
        mask_error_details=True,
    )
    for tool in TOOLS:
        server.tool(tool)
    return server


def serve(
    options: Options,
    *,
    transport: Literal["stdio", "http"] = "stdio",
    host: str = "127.0.0.1",
    port: int = 8701,
    token: str = "",
) -> None:
    """Run a server until it is told to stop.

    Args:
        options: what it serves.
        transport: ``stdio`` or ``http`` (streamable, at ``/mcp``).
        host: address to listen on.
        port: to listen on.
        token: that clients over HTTP must send as bearer; needed on any address but loopback.

    Raises:
        UsageError: the address is open to others and there is no token.
    """
    server = build_server(options)
    if transport == "stdio":
        server.run(transport="stdio", show_banner=False, log_level="WARNING")
        return
    if not token and host not in LOOPBACK:
        raise UsageError(
            f"on {host!r} everybody in reach could read every memory: give a token (--token or LRAG_MCP_TOKEN), or "
            "listen on 127.0.0.1",
            subject=host,
        )
    if token:
        from fastmcp.server.auth.providers.jwt import StaticTokenVerifier

        server.auth = StaticTokenVerifier({token: {"client_id": "lightrag", "scopes": []}})
    server.run(transport="http", host=host, port=port, show_banner=False, log_level="WARNING")


# --- Tools ------------------------------------------------------------------------------------------------------------


async def get_timestamp() -> Result:
    """The current local time, for the ``timestamp`` of add_memory."""
    return _success(_now())


async def add_memory(
    context: Context,
    user_input: Annotated[str, Field(description="What the user said.")],
    assistant_reply: Annotated[str, Field(description="What the assistant answered.")] = "",
    timestamp: Annotated[str | None, Field(description="When it was said (ISO 8601). Default: now.")] = None,
    force_segment: Annotated[bool, Field(description="The topic ends here.")] = False,
    force_extract: Annotated[bool, Field(description="Extract memories now instead of with later messages.")] = False,
    user: User = None,
) -> Result:
    """Remember one exchange. It is durable and found by retrieve_memory when this returns."""
    time = timestamp or _now()
    spoken = (("user", user_input), ("assistant", assistant_reply))
    messages = [{"role": role, "content": text, "time_stamp": time} for role, text in spoken if text.strip()]
    with _refusing():
        if not messages:
            raise UsageError("user_input and assistant_reply are empty: there is nothing to remember")
        session = _session(context)
        report = await session.access.add(
            session.user(user), messages, force_segment=force_segment, force_extract=force_extract
        )
    details = {
        "accepted": list(report.accepted),
        "entries": list(report.entries),
        "buffered": report.buffered,
        "queued": report.queued,
        "api_call_nums": report.usage.calls,
        "problems": [f"{problem.stage}: {problem.reason}" for problem in report.problems],
        "notes": list(report.notes),
    }
    waits = report.buffered or report.queued
    return _success("stored; memories will be extracted with later messages" if waits else "stored", details)


async def retrieve_memory(
    context: Context,
    query: Annotated[str, Field(description="What you want to know.")],
    limit: Annotated[int, Field(ge=1, le=1000, description="Memories at most.")] = 10,
    filters: Annotated[
        dict[str, Any] | None, Field(description='For example {"time": {"gte": "2024-01-01"}, "speaker": "Ada"}.')
    ] = None,
    user: User = None,
) -> Result:
    """Find memories about a question, best first: time, weekday, memory."""
    with _refusing():
        session = _session(context)
        found = await session.access.search(session.user(user), query, limit, filters or None)
    return _success(f"{len(found.entries)} memories found", [hit.entry.line for hit in found.entries])


async def offline_update(
    context: Context,
    top_k: Annotated[int, Field(ge=1, le=1000, description="Neighbours looked at per memory.")] = 20,
    keep_top_n: Annotated[int, Field(ge=1, le=1000, description="Of these, how many are kept.")] = 10,
    score_threshold: Annotated[float, Field(ge=0, le=1, description="Least similarity.")] = 0.8,
    user: User = None,
) -> Result:
    """Extract what waits, and let later memories update, merge or end earlier ones. Every change can be undone."""
    with _refusing():
        session = _session(context)
        report = await session.access.consolidate(
            session.user(user), top_k=top_k, keep_top_n=keep_top_n, score_threshold=score_threshold
        )
    counts = {name: getattr(report, name) for name in ("examined", "updated", "merged", "deleted", "ignored")}
    problems = [f"{problem.stage}: {problem.reason}" for problem in report.problems]
    details = {**counts, "operations": list(report.operations), "problems": problems}
    return _success(f"{len(report.operations)} changes", {**details, "api_call_nums": report.usage.calls})


async def show_lightmem_instance(context: Context) -> Result:
    """What the memory is made of: models, stores, options. Holds no secrets."""
    with _refusing():
        session = _session(context)
        details = await session.access.describe()
    return _success("lightrag", {"tenant": session.options.settings.tenant, **details})


async def list_memories(
    context: Context,
    cursor: Annotated[str | None, Field(description="'next' of the page before.")] = None,
    limit: Annotated[int, Field(ge=1, le=1000)] = 50,
    user: User = None,
) -> Result:
    """List everything that is remembered, in order of time, page by page."""
    with _refusing():
        session = _session(context)
        entries, following = await session.access.page(session.user(user), cursor, limit)
    listed = [{"entry_id": entry.entry_id, "memory": entry.line, "kind": entry.kind} for entry in entries]
    return _success(f"{len(listed)} memories", {"entries": listed, "next": following})


async def delete_memory(
    context: Context,
    entry_id: Annotated[str, Field(description="As list_memories shows it.")],
    user: User = None,
) -> Result:
    """End a memory, so that it is not found any more."""
    with _refusing():
        session = _session(context)
        operation = await session.access.delete(session.user(user), entry_id)
    return _success(f"{entry_id} is not remembered any more", {"operation": operation})


async def undo(
    context: Context,
    operation: Annotated[str, Field(description="As delete_memory and offline_update name it.")],
    user: User = None,
) -> Result:
    """Take back a deletion or a change of offline_update."""
    with _refusing():
        session = _session(context)
        touched = await session.access.undo(session.user(user), operation)
    return _success(f"{', '.join(touched)} as before", {"entries": list(touched)})


async def ask(
    context: Context,
    question: str,
    corpus: Annotated[str | None, Field(description="As list_corpora shows it; may be left out if only one.")] = None,
    task: Annotated[Task, Field(description="memorag follows clues from the corpus's memory.")] = "memorag",
) -> Result:
    """Ask a question about ingested documents; the answer comes with the passages it rests on."""
    with _refusing():
        access = _session(context).access
        answer = await access.ask(question, corpus or await _only_corpus(access), task)
    return _success(answer.text, _grounds(answer))


async def list_corpora(context: Context) -> Result:
    """The corpora that ask can be asked about."""
    with _refusing():
        found = await _session(context).access.corpora()
    return _success(f"{len(found)} corpora", [corpus.model_dump() for corpus in found])


async def _only_corpus(access: Access) -> str:
    names = [corpus.corpus for corpus in await access.corpora()]
    if len(names) == 1:
        return names[0]
    there = f"there are {', '.join(names)}" if names else "there is none yet: ingest documents first"
    raise UsageError(f"name a corpus: {there}", subject="corpus")


def _grounds(answer: Answer) -> Result:
    return {
        "corpus": str(answer.corpus),
        "kind": answer.kind,
        "evidence": [_passage(item) for item in answer.evidence],
        "fallbacks": [f"{each.stage} was replaced by {each.used}: {each.reason}" for each in answer.fallbacks],
        "notes": list(answer.notes),
    }


def _passage(item: Evidence) -> Result:
    chunk = item.chunk
    return {"source": chunk.source or chunk.title, "heading": chunk.heading, "page": chunk.page, "text": chunk.text}


def _session(context: Context) -> _Session:
    session: _Session = context.lifespan_context["session"]
    return session


@contextmanager
def _refusing() -> Iterator[None]:
    """Say deliberate errors to the agent, without a trace."""
    try:
        yield
    except LightRAGError as error:
        raise ToolError(str(error)) from None


def _success(message: str, details: Any = None) -> Result:
    return {"status": "success", "message": message, **({} if details is None else {"details": details})}


def _now() -> str:
    return datetime.now().isoformat(timespec="milliseconds")


TOOLS: tuple[Callable[..., Awaitable[Result]], ...] = (
    get_timestamp,
    add_memory,
    retrieve_memory,
    offline_update,
    show_lightmem_instance,
    list_memories,
    delete_memory,
    undo,
    ask,
    list_corpora,
)

mcp = build_server()
"""For ``fastmcp run``."""

__all__ = ["Options", "build_server", "mcp", "serve"]
