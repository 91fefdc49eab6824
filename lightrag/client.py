"""Talk to a running service from Python. One implementation, asynchronous; :class:`Client` is its blocking face."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import TypeAdapter

from lightrag.api.events import ANSWER, RECOLLECTION, read_frame
from lightrag.api.schemas import CorpusInfo, CorpusPage
from lightrag.client_memories import AsyncMemories, Memories
from lightrag.errors import (
    AuthenticationError,
    BackendError,
    ConflictError,
    DataError,
    DeadlineExceeded,
    LightRAGError,
    LimitError,
    NotFoundError,
    PermissionDenied,
    QuotaExceeded,
    UsageError,
)
from lightrag.rag import AnswerText, AskEvent, Finished, Recalled, Retrieved
from lightrag.types import Answer, Evidence, Task

_EVIDENCE = TypeAdapter(tuple[Evidence, ...])
_KINDS: dict[str, type[LightRAGError]] = {
    "usage": UsageError,
    "authentication": AuthenticationError,
    "permission": PermissionDenied,
    "data": DataError,
    "not-found": NotFoundError,
    "conflict": ConflictError,
    "deadline": DeadlineExceeded,
    "quota": QuotaExceeded,
    "limit": LimitError,
}


class AsyncClient:
    """A service at a URL.

    Args:
        url: for example ``http://127.0.0.1:8700``.
        seconds: how long to wait for an answer.
        api_key: of a service that asks for one; left out: ``LRAG_API_KEY`` of the environment.
        transport: replaces the network, for tests.

    Example::

        async with AsyncClient("http://127.0.0.1:8700") as client:
            answer = await client.ask("Who signed the lease?", corpus="contracts")
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.url = url.rstrip("/")
        key = os.environ.get("LRAG_API_KEY", "") if api_key is None else api_key
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(seconds, connect=5.0),
            transport=transport,
            trust_env=False,
        )
        self.memories = AsyncMemories(self._send)
        """Memories of conversations."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, question: str, *, corpus: str, task: Task = "memorag", **options: Any) -> Answer:
        """Ask a question; ``options`` are the further fields of the ask request.

        Raises:
            LightRAGError: the branch that the service reports, or BackendError where none answers.
        """
        body = {"question": question, "task": task, **options}
        return ANSWER.validate_json(await self._send("POST", f"/v1/corpora/{corpus}/ask", json=body))

    async def stream(
        self, question: str, *, corpus: str, task: Task = "memorag", **options: Any
    ) -> AsyncGenerator[AskEvent, None]:
        """Ask a question and read the answer as it is written; the last event is :class:`lightrag.rag.Finished`."""
        body = {"question": question, "task": task, **options, "stream": True}
        try:
            async with self._http.stream("POST", f"/v1/corpora/{corpus}/ask", json=body) as response:
                if response.status_code >= 400:
                    await response.aread()
                    raise _failure(response)
                async for frame in _frames(response):
                    yield _event(*frame)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    async def corpora(self) -> list[CorpusInfo]:
        """List all corpora."""
        found: list[CorpusInfo] = []
        cursor: str | None = ""
        while cursor is not None:
            sent = await self._send("GET", "/v1/corpora", params={"cursor": cursor, "limit": 1000})
            page = CorpusPage.model_validate_json(sent)
            found.extend(page.corpora)
            cursor = page.next
        return found

    async def corpus(self, corpus: str) -> CorpusInfo:
        """Describe one corpus."""
        return CorpusInfo.model_validate_json(await self._send("GET", f"/v1/corpora/{corpus}"))

    async def healthy(self) -> bool:
        """Whether a service answers here."""
        try:
            return (await self._http.get("/healthz", timeout=2.0)).status_code == 200
        except httpx.HTTPError:
            return False

    async def _send(self, method: str, path: str, **options: Any) -> bytes:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error
        if response.status_code >= 400:
            raise _failure(response)
        return response.content

    def _unreachable(self, error: httpx.HTTPError) -> LightRAGError:
        if isinstance(error, httpx.ReadTimeout):
            return DeadlineExceeded(f"the service at {self.url} did not answer in time", subject=self.url)
        return BackendError(
            f"no service answers at {self.url} ({type(error).__name__}): start it with `lightrag up`",
            subject=self.url,
            retryable=True,
        )


class Client:
    """The blocking face of :class:`AsyncClient`, with the same methods. Not for use inside an event loop."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        seconds: float = 120.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._loop = asyncio.Runner()
        self._client = AsyncClient(url, api_key=api_key, seconds=seconds, transport=transport)
        self.url = self._client.url
        self.memories = Memories(self._client.memories, self._loop)
        """Memories of conversations."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._loop.run(self._client.close())
        self._loop.close()

    def ask(self, question: str, *, corpus: str, task: Task = "memorag", **options: Any) -> Answer:
        """See :meth:`AsyncClient.ask`."""
        return self._loop.run(self._client.ask(question, corpus=corpus, task=task, **options))

    def stream(self, question: str, *, corpus: str, task: Task = "memorag", **options: Any) -> Iterator[AskEvent]:
        """See :meth:`AsyncClient.stream`."""
        events = self._client.stream(question, corpus=corpus, task=task, **options)
        try:
            while True:
                try:
                    yield self._loop.run(_next(events))
                except StopAsyncIteration:
                    return
        finally:
            self._loop.run(events.aclose())

    def corpora(self) -> list[CorpusInfo]:
        """See :meth:`AsyncClient.corpora`."""
        return self._loop.run(self._client.corpora())

    def corpus(self, corpus: str) -> CorpusInfo:
        """See :meth:`AsyncClient.corpus`."""
        return self._loop.run(self._client.corpus(corpus))

    def healthy(self) -> bool:
        """See :meth:`AsyncClient.healthy`."""
        return self._loop.run(self._client.healthy())


async def _next(events: AsyncGenerator[AskEvent, None]) -> AskEvent:
    return await anext(events)


async def _frames(response: httpx.Response) -> AsyncGenerator[tuple[str, Any], None]:
    waiting = ""
    async with aclosing(response.aiter_text()) as pieces:  # type: ignore[type-var]  # httpx types it as an iterator
        async for piece in pieces:
            *frames, waiting = (waiting + piece).split("\n\n")
            for frame in frames:
                decoded = read_frame(frame)
                if decoded:
                    yield decoded


def _event(name: str, value: Any) -> AskEvent:
    match name:
        case "clues":
            return Recalled(RECOLLECTION.validate_python(value))
        case "evidence":
            return Retrieved(_EVIDENCE.validate_python(value))
        case "text":
            return AnswerText(value)
        case "answer":
            return Finished(ANSWER.validate_python(value))
        case "error":
            raise _error(value, int(value.get("status", 500)), None)
        case _:
            raise BackendError(f"the service sent an event {name!r} that this client does not know")


def _failure(response: httpx.Response) -> LightRAGError:
    try:
        document = response.json()
    except ValueError:
        document = {}
    if not isinstance(document, dict):
        document = {}
    document.setdefault("detail", f"the service answered {response.status_code} {response.reason_phrase}")
    return _error(document, response.status_code, response.headers.get("retry-after"))


def _error(document: dict[str, Any], status: int, retry_after: str | None) -> LightRAGError:
    kind = _KINDS.get(str(document.get("type", "")).rsplit(":", 1)[-1])
    detail = str(document["detail"])
    if kind is QuotaExceeded:
        return QuotaExceeded(detail, retry_after=float(retry_after) if retry_after else None)
    if kind is not None:
        return kind(detail)
    return BackendError(detail, retryable=status in (429, 503))


__all__ = ["AsyncClient", "Client"]
