"""The client against the real app."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest

from lightrag.api.app import create_app
from lightrag.client import AsyncClient, Client
from lightrag.client_blocking import Face
from lightrag.client_documents import AsyncDocuments, Documents
from lightrag.client_jobs import AsyncJobs, Jobs
from lightrag.client_memories import AsyncMemories, Memories
from lightrag.client_versions import AsyncVersions, Versions
from lightrag.config import load_settings
from lightrag.errors import BackendError, NotFoundError, UsageError
from lightrag.rag import AnswerText, Finished, QuestionPipeline, Stages
from lightrag.storage.objects import open_object_store
from lightrag.tenancy.service import Tenancy
from lightrag.types import Clue
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.test_rag import EVIDENCE, Compress, Generate, Recall, Retrieve


def transport(generate: Generate | None = None) -> httpx.ASGITransport:
    stages = Stages(Retrieve(), generate or Generate(), recall=Recall(), compress=Compress())
    return httpx.ASGITransport(create_app(QuestionPipeline(stages), OneCorpus(), tenant="acme"))


async def test_an_answer_comes_back_as_the_value_that_was_sent() -> None:
    async with AsyncClient("http://service", transport=transport()) as client:
        answer = await client.ask("Who signed?", corpus="reports")
        assert answer.text == "Ada did."
        assert answer.evidence == (EVIDENCE,)
        assert [info.corpus for info in await client.corpora()] == ["reports"]
        assert (await client.corpus("reports")).version == 3
        assert await client.healthy()


async def test_a_stream_gives_the_events_of_the_pipeline() -> None:
    async with AsyncClient("http://service", transport=transport()) as client:
        events = [event async for event in client.stream("Who?", corpus="reports")]
    assert "".join(event.text for event in events if isinstance(event, AnswerText)) == "Ada did."
    assert isinstance(events[-1], Finished)
    assert events[-1].answer.evidence == (EVIDENCE,)


async def test_each_stage_can_be_asked_alone() -> None:
    async with AsyncClient("http://service", transport=transport()) as client:
        assert (await client.recall("Who signed?", corpus="reports", version=3)).clues == (Clue("Ada signed"),)
        found = await client.retrieve("Who signed?", corpus="reports", top_k=3, filter={"language": "en"})
        assert (found.evidence, found.notes) == ((EVIDENCE,), ("searched",))
        fitted = await client.compress(["The lease was signed by Ada."], budget=8, query="Who signed?")
        assert (fitted.text, fitted.source_tokens) == ("Ada", 7)
        with pytest.raises(UsageError, match="top_k"):
            await client.retrieve("Who signed?", corpus="reports", top_k=0)
        with pytest.raises(NotFoundError, match="absent"):
            await client.recall("Who signed?", corpus="absent")


async def test_what_was_used_is_told_by_day(tmp_path: Path) -> None:
    settings = load_settings(None, home=tmp_path, tenant="acme")
    tenancy = Tenancy.open(settings, open_object_store(settings.storage_url))
    app = create_app(QuestionPipeline(Stages(Retrieve(), Generate())), OneCorpus(), tenant="acme", tenancy=tenancy)
    async with AsyncClient("http://service", transport=httpx.ASGITransport(app)) as client:
        await client.ask("Who?", corpus="reports")
        report = await client.usage()
        assert (report.tenant, [line.corpus for line in report.lines]) == ("acme", ["reports"])
        earlier = await client.usage(first=date(2020, 1, 1), last=date(2020, 1, 31))
        assert (earlier.first, earlier.last, earlier.lines) == ("2020-01-01", "2020-01-31", [])
        with pytest.raises(UsageError, match="from first to last"):
            await client.usage(first=date(2020, 2, 1), last=date(2020, 1, 1))
    await tenancy.close()


async def test_errors_come_back_as_the_branch_that_was_raised() -> None:
    async with AsyncClient("http://service", transport=transport()) as client:
        with pytest.raises(NotFoundError, match="absent"):
            await client.ask("Who?", corpus="absent")
        with pytest.raises(UsageError, match="empty"):
            await client.ask(" ", corpus="reports")
    async with AsyncClient("http://service", transport=transport(Generate(fail_after=1))) as client:
        with pytest.raises(BackendError, match="model is down") as caught:
            [event async for event in client.stream("Who?", corpus="reports")]
        assert caught.value.retryable


async def test_a_service_that_is_not_there_is_said_with_the_cure() -> None:
    async with AsyncClient("http://127.0.0.1:9") as client:
        assert not await client.healthy()
        with pytest.raises(BackendError, match="lightrag up"):
            await client.corpora()


def test_the_blocking_face_does_the_same() -> None:
    with Client("http://service", transport=transport()) as client:
        assert client.ask("Who?", corpus="reports").text == "Ada did."
        assert isinstance(list(client.stream("Who?", corpus="reports"))[-1], Finished)
        assert client.corpora()[0].corpus == "reports"
        assert client.corpus("reports").version == 3
        assert client.healthy()
        assert client.retrieve("Who?", corpus="reports").evidence == (EVIDENCE,)
        with pytest.raises(NotFoundError):
            client.recall("Who?", corpus="absent")


def test_a_stream_that_is_left_early_is_closed() -> None:
    with Client("http://service", transport=transport()) as client:
        events = client.stream("Who?", corpus="reports")
        next(events)
        events.close()
        assert client.healthy()


@pytest.mark.parametrize(
    ("behind", "face"),
    [
        (AsyncClient, Client),
        (AsyncDocuments, Documents),
        (AsyncJobs, Jobs),
        (AsyncMemories, Memories),
        (AsyncVersions, Versions),
    ],
)
def test_the_blocking_face_has_every_method(behind: type, face: type[Face[Any]]) -> None:
    names = {name for name in vars(behind) if not name.startswith("_")}
    assert names == {name for name in vars(face) if not name.startswith("_")}
    assert all(getattr(face, name).__doc__ for name in names)
