"""Versions and pins through the client, over a real log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from lightrag.api.app import create_app
from lightrag.api.jobs import JobAccess
from lightrag.api.version_schemas import PinInfo
from lightrag.client import AsyncClient, Client
from lightrag.config import load_settings
from lightrag.errors import NotFoundError, UsageError
from lightrag.jobs.service import JobService
from lightrag.rag import QuestionPipeline, Stages
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import open_object_store
from lightrag.types import CorpusId
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.test_rag import Generate, Retrieve


@pytest.fixture
def network(tmp_path: Path) -> Iterator[httpx.ASGITransport]:
    """A service with a corpus of 120 versions."""
    settings = load_settings(None, home=tmp_path)
    store = open_object_store("memory://")
    log = CorpusLog(store, CorpusId("acme", "reports"))
    for _ in range(120):
        log.commit(log.latest(), counts={"documents": 1})
    jobs = JobService(settings)
    access = JobAccess(jobs, store, settings)
    pipeline = QuestionPipeline(Stages(Retrieve(), Generate()))
    yield httpx.ASGITransport(create_app(pipeline, OneCorpus(), tenant="acme", jobs=access))
    jobs.close()


async def test_all_versions_are_listed_page_by_page(network: httpx.ASGITransport) -> None:
    async with AsyncClient("http://service", transport=network) as client:
        assert [each.version async for each in client.versions.all("reports")] == list(range(120, 0, -1))
        page = await client.versions.page("reports", limit=2)
        assert ([each.version for each in page.versions], page.next) == ([120, 119], "119")
        assert page.versions[0].counts == {"documents": 1}
        with pytest.raises(NotFoundError, match="absent"):
            await client.versions.page("absent")
        with pytest.raises(UsageError, match="cursor"):
            await client.versions.page("reports", cursor="newest")


async def test_pins_are_set_moved_listed_and_removed(network: httpx.ASGITransport) -> None:
    async with AsyncClient("http://service", transport=network) as client:
        assert await client.versions.pin("reports", "audit", 3) == PinInfo(name="audit", version=3)
        await client.versions.pin("reports", "audit", 119)
        assert await client.versions.pins("reports") == [PinInfo(name="audit", version=119)]
        pins = [each.pins for each in (await client.versions.page("reports", limit=2)).versions]
        assert pins == [[], ["audit"]]
        with pytest.raises(NotFoundError, match="acme/reports@500 does not exist"):
            await client.versions.pin("reports", "audit", 500)
        await client.versions.unpin("reports", "audit")
        assert await client.versions.pins("reports") == []
        with pytest.raises(NotFoundError, match="no pin 'audit'"):
            await client.versions.unpin("reports", "audit")


@pytest.mark.parametrize("name", ["", "..", "a b", "a..b", "a/", "../x", "x" * 64])
async def test_a_name_that_is_none_is_refused(network: httpx.ASGITransport, name: str) -> None:
    async with AsyncClient("http://service", transport=network) as client:
        with pytest.raises(UsageError):
            await client.versions.pin("reports", name, 1)
        assert await client.versions.pins("reports") == []


def test_the_blocking_face_pins_too(network: httpx.ASGITransport) -> None:
    with Client("http://service", transport=network) as client:
        client.versions.pin("reports", "audit", 120)
        assert next(client.versions.all("reports")).pins == ["audit"]
        client.versions.unpin("reports", "audit")
        assert client.versions.pins("reports") == []
