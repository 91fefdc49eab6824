"""The HTTP face over a pipeline whose stages are small local objects."""

from __future__ import annotations

import httpx
import pytest

from lightrag.api.app import create_app
from lightrag.api.events import read_frame
from lightrag.api.schemas import CorpusInfo
from lightrag.errors import BackendError, NotFoundError
from lightrag.rag import QuestionPipeline, Stages
from lightrag.types import CorpusId, CorpusVersion
from tests.lightrag.test_rag import Compress, Generate, Recall, Retrieve

INFO = CorpusInfo(corpus="reports", version=3, committed_at="2026-01-01T00:00:00Z", counts={"documents": 1})


class OneCorpus:
    async def pin(self, corpus: CorpusId, version: int | None = None) -> CorpusVersion:
        if corpus != CorpusId("acme", "reports") or version not in (None, 3):
            raise NotFoundError(f"there is no corpus {corpus.corpus!r} in version {version}", subject=str(corpus))
        return corpus.at(3)

    async def corpora(self, tenant: str) -> list[CorpusInfo]:
        return [INFO] if tenant == "acme" else []

    async def describe(self, corpus: CorpusId) -> CorpusInfo:
        await self.pin(corpus)
        return INFO


def client(
    recall: Recall | None = None, retrieve: Retrieve | None = None, generate: Generate | None = None
) -> httpx.AsyncClient:
    stages = Stages(retrieve or Retrieve(), generate or Generate(), recall=recall or Recall(), compress=Compress())
    app = create_app(QuestionPipeline(stages), OneCorpus(), tenant="acme")
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")


async def test_an_answer_carries_its_evidence_with_offsets() -> None:
    async with client() as http:
        answer = (await http.post("/v1/corpora/reports/ask", json={"question": "Who signed?"})).json()
    assert answer["text"] == "Ada did."
    chunk = answer["evidence"][0]["chunk"]
    assert (chunk["start"], chunk["end"], chunk["text"]) == (0, 28, "The lease was signed by Ada.")
    assert answer["corpus"] == {"tenant": "acme", "corpus": "reports", "version": 3}


async def test_a_stream_ends_with_the_whole_answer() -> None:
    async with client() as http:
        response = await http.post("/v1/corpora/reports/ask", json={"question": "Who?", "stream": True})
    frames = [read_frame(frame) for frame in response.text.split("\n\n") if frame]
    assert [frame[0] for frame in frames if frame] == ["clues", "evidence", "text", "text", "answer"]
    assert frames[-1] is not None
    assert frames[-1][1]["text"] == "Ada did."


async def test_a_failure_in_the_middle_of_a_stream_is_an_error_event() -> None:
    async with client(generate=Generate(fail_after=1)) as http:
        response = await http.post("/v1/corpora/reports/ask", json={"question": "Who?", "stream": True})
    last = read_frame(response.text.strip().split("\n\n")[-1])
    assert last is not None
    assert (last[0], last[1]["status"]) == ("error", 503)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/v1/corpora/absent/ask", {"question": "Who?"}, 404, "absent"),
        ("/v1/corpora/reports/ask", {"question": "Who?", "version": 9}, 404, "9"),
        ("/v1/corpora/reports/ask", {"question": " "}, 422, "empty"),
        ("/v1/corpora/reports/ask", {"question": " ", "stream": True}, 422, "empty"),
        ("/v1/corpora/reports/ask", {"question": "x" * 100_001}, 422, "question"),
        ("/v1/corpora/reports/ask", {"questoin": "Who?"}, 422, "questoin"),  # codespell:ignore
        ("/v1/corpora/no%20such/ask", {"question": "Who?"}, 422, "not a valid name"),
        ("/v1/nothing", {}, 404, "Not Found"),
    ],
)
async def test_errors_are_problem_documents(path: str, body: dict[str, object], status: int, words: str) -> None:
    async with client() as http:
        response = await http.post(path, json=body)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert words in response.json()["detail"]


async def test_a_retryable_failure_says_when_to_come_back() -> None:
    async with client(retrieve=Retrieve(error=BackendError("index is loading", retryable=True))) as http:
        response = await http.post("/v1/corpora/reports/ask", json={"question": "Who?"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")


async def test_corpora_are_listed_and_described() -> None:
    async with client() as http:
        assert (await http.get("/v1/corpora")).json()["corpora"][0]["corpus"] == "reports"
        assert (await http.get("/v1/corpora/reports")).json()["counts"] == {"documents": 1}
        assert (await http.get("/healthz")).json() == {"status": "ok"}


async def test_stages_can_be_asked_alone() -> None:
    async with client() as http:
        found = (await http.post("/v1/corpora/reports/retrieve", json={"question": "Who?", "top_k": 3})).json()
        recalled = (await http.post("/v1/corpora/reports/recall", json={"question": "Who?"})).json()
        body = {"passages": ["Ada signed the lease.", "It rained."], "budget": 5, "query": "Who?"}
        compressed = (await http.post("/v1/compress", json=body)).json()
    assert found["evidence"][0]["chunk"]["chunk_id"] == "c1"
    assert recalled["clues"][0]["text"] == "Ada signed"
    assert (compressed["text"], compressed["tokens"]) == ("Ada", 1)
