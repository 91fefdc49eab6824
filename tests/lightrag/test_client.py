"""The client against the real app."""

from __future__ import annotations

import httpx
import pytest

from lightrag.api.app import create_app
from lightrag.client import AsyncClient, Client
from lightrag.errors import BackendError, NotFoundError, UsageError
from lightrag.rag import AnswerText, Finished, QuestionPipeline, Stages
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.test_rag import EVIDENCE, Generate, Recall, Retrieve


def transport(generate: Generate | None = None) -> httpx.ASGITransport:
    stages = Stages(Retrieve(), generate or Generate(), recall=Recall())
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
