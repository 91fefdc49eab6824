"""Talk to a running service from Python. One implementation, asynchronous; :class:`Client` is its blocking face."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import date
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import httpx
from pydantic import TypeAdapter

from lightrag.api.events import ANSWER, RECOLLECTION
from lightrag.api.job_schemas import Removed
from lightrag.api.schemas import Compressed, CorpusInfo, CorpusPage
from lightrag.client_blocking import Face, blocking, iterating
from lightrag.client_documents import AsyncDocuments, Documents
from lightrag.client_jobs import AsyncJobs, Jobs
from lightrag.client_memories import AsyncMemories, Memories
from lightrag.client_transport import Channel, route
from lightrag.client_versions import AsyncVersions, Versions
from lightrag.config import CompressionMethod
from lightrag.errors import BackendError
from lightrag.memory.base import Recollection
from lightrag.rag import AnswerText, AskEvent, Finished, Recalled, Retrieved
from lightrag.retrieval.base import RetrievalResult
from lightrag.types import Answer, Evidence, Task

if TYPE_CHECKING:
    from lightrag.api.admin_schemas import UsageReport

_EVIDENCE = TypeAdapter(tuple[Evidence, ...])
_RETRIEVED = TypeAdapter(RetrievalResult)


class AsyncClient:
    """A service at a URL.

    Lost connections, overload and quotas that are free again soon are waited out: questions and other reads are sent
    again, and so are writes, each under a key of its own by which the service knows it and does it once. A stream is
    asked for again until its first event.

    Args:
        url: for example ``http://127.0.0.1:8700``.
        seconds: how long to wait for an answer, with all attempts.
        retries: further attempts, with growing pauses; a ``Retry-After`` of the service is kept to. 0: none.
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
        retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        key = os.environ.get("LRAG_API_KEY", "") if api_key is None else api_key
        self._channel = Channel(url, api_key=key, seconds=seconds, retries=retries, transport=transport)
        self.url = self._channel.url
        self.documents = AsyncDocuments(self._channel)
        """Documents of corpora."""
        self.jobs = AsyncJobs(self._channel)
        """Jobs that make versions of corpora."""
        self.memories = AsyncMemories(self._channel)
        """Memories of conversations."""
        self.versions = AsyncVersions(self._channel)
        """Versions of corpora, and their pins."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._channel.close()

    async def ask(self, /, question: str, *, corpus: str, task: Task = "memorag", **options: Any) -> Answer:
        """Ask a question; ``options`` are the further fields of the ask request.

        Raises:
            LightRAGError: the branch that the service reports, or BackendError where none answers.
        """
        body = {"question": question, "task": task, **options}
        return ANSWER.validate_json(await self._read(route("corpora", corpus, "ask"), body))

    async def stream(
        self, /, question: str, *, corpus: str, task: Task = "memorag", **options: Any
    ) -> AsyncGenerator[AskEvent, None]:
        """Ask a question and read the answer as it is written; the last event is :class:`lightrag.rag.Finished`."""
        body = {"question": question, "task": task, **options, "stream": True}
        events = self._channel.events("POST", route("corpora", corpus, "ask"), last="answer", json=body)
        async with aclosing(events):
            async for name, value in events:
                yield _event(name, value)

    async def recall(
        self, question: str, *, corpus: str, task: Task = "memorag", version: int | None = None, draft: bool = False
    ) -> Recollection:
        """Recall clues from the memory of a corpus, without an answer."""
        body = {"question": question, "task": task, "version": version, "draft": draft}
        return RECOLLECTION.validate_json(await self._read(route("corpora", corpus, "recall"), body))

    async def retrieve(
        self,
        question: str,
        *,
        corpus: str,
        version: int | None = None,
        mode: Literal["hybrid", "dense", "lexical"] = "hybrid",
        top_k: int | None = None,
        token_budget: int | None = None,
        order: Literal["score", "corpus"] | None = None,
        spread: bool | None = None,
        filter: Mapping[str, Any] | None = None,
    ) -> RetrievalResult:
        """Find evidence, without an answer. What is left out is as the service is configured."""
        body: dict[str, Any] = {"question": question, "version": version, "mode": mode, "top_k": top_k}
        body |= {"token_budget": token_budget, "order": order, "spread": spread, "filter": filter and dict(filter)}
        return _RETRIEVED.validate_json(await self._read(route("corpora", corpus, "retrieve"), body))

    async def compress(
        self, passages: Sequence[str], *, budget: int, query: str = "", method: CompressionMethod | None = None
    ) -> Compressed:
        """Fit passages into a budget of tokens, as text, the best one first."""
        body = {"passages": list(passages), "budget": budget, "query": query, "compress_method": method}
        return Compressed.model_validate_json(await self._read(route("compress"), body))

    async def corpora(self) -> list[CorpusInfo]:
        """List all corpora."""
        found: list[CorpusInfo] = []
        cursor: str | None = ""
        while cursor is not None:
            sent = await self._channel.send("GET", route("corpora"), params={"cursor": cursor, "limit": 1000})
            page = CorpusPage.model_validate_json(sent)
            found.extend(page.corpora)
            cursor = page.next
        return found

    async def corpus(self, corpus: str) -> CorpusInfo:
        """Describe one corpus."""
        return CorpusInfo.model_validate_json(await self._channel.send("GET", route("corpora", corpus)))

    async def delete_corpus(self, corpus: str) -> Removed:
        """Delete a corpus for good: every version, file and object of it."""
        return Removed.model_validate_json(await self._channel.send("DELETE", route("corpora", corpus)))

    async def usage(self, *, first: date | None = None, last: date | None = None) -> UsageReport:
        """What the tenant used per day, corpus and model, and its quotas.

        Args:
            first: day in UTC; the first of the month of the last one where left out.
            last: day in UTC, included; today where left out.
        """
        from lightrag.api.admin_schemas import UsageReport

        asked = {name: day.isoformat() for name, day in (("first", first), ("last", last)) if day}
        return UsageReport.model_validate_json(await self._channel.send("GET", route("usage"), params=asked))

    async def healthy(self) -> bool:
        """Whether a service answers here."""
        return await self._channel.answers("/healthz", seconds=2.0)

    async def _read(self, path: str, body: dict[str, Any]) -> bytes:
        return await self._channel.send("POST", path, reads=True, json=body)


class Client(Face[AsyncClient]):
    """The blocking face of :class:`AsyncClient`, with the same methods. Not for use inside an event loop."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        seconds: float = 120.0,
        retries: int = 2,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        behind = AsyncClient(url, api_key=api_key, seconds=seconds, retries=retries, transport=transport)
        super().__init__(behind, asyncio.Runner())
        self.url = behind.url
        self.documents = Documents(behind.documents, self._loop)
        """Documents of corpora."""
        self.jobs = Jobs(behind.jobs, self._loop)
        """Jobs that make versions of corpora."""
        self.memories = Memories(behind.memories, self._loop)
        """Memories of conversations."""
        self.versions = Versions(behind.versions, self._loop)
        """Versions of corpora, and their pins."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._loop.run(self._behind.close())
        self._loop.close()

    ask = blocking(AsyncClient.ask)
    stream = iterating(AsyncClient.stream)
    recall = blocking(AsyncClient.recall)
    retrieve = blocking(AsyncClient.retrieve)
    compress = blocking(AsyncClient.compress)
    corpora = blocking(AsyncClient.corpora)
    corpus = blocking(AsyncClient.corpus)
    delete_corpus = blocking(AsyncClient.delete_corpus)
    usage = blocking(AsyncClient.usage)
    healthy = blocking(AsyncClient.healthy)


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
        case _:
            raise BackendError(f"the service sent an event {name!r} that this client does not know")


__all__ = ["AsyncClient", "Client"]
