"""Which version of a corpus is served while a newer one is made ready."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lightrag.api.catalogue import StoredCatalogue
from lightrag.errors import ArtifactError, NotFoundError
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import open_object_store
from lightrag.types import CorpusId, CorpusVersion

CORPUS = CorpusId("acme", "reports")


class Replicas:
    """Load versions when they are told to."""

    def __init__(self) -> None:
        self.asked: list[CorpusVersion] = []
        self.loaded = asyncio.Event()
        self.damaged = False

    async def warm(self, version: CorpusVersion) -> None:
        self.asked.append(version)
        await self.loaded.wait()
        if self.damaged:
            raise ArtifactError("a file is damaged")


@pytest.fixture
def log(tmp_path: Path) -> CorpusLog:
    store = open_object_store(tmp_path.as_uri(), {})
    log = CorpusLog(store, CORPUS)
    log.commit(None)
    return log


@pytest.fixture
def replicas() -> Replicas:
    return Replicas()


@pytest.fixture
def catalogue(log: CorpusLog, replicas: Replicas) -> StoredCatalogue:
    return StoredCatalogue(log.store, refresh_seconds=0, warm=replicas.warm)


async def served_becomes(catalogue: StoredCatalogue, version: int) -> None:
    async with asyncio.timeout(30):
        while (await catalogue.pin(CORPUS)).version != version:  # noqa: ASYNC110  # each look is what makes it happen
            await asyncio.sleep(0.001)


async def test_the_version_before_is_served_until_the_new_one_is_warm(
    log: CorpusLog, replicas: Replicas, catalogue: StoredCatalogue
) -> None:
    assert await catalogue.pin(CORPUS) == CORPUS.at(1)
    assert replicas.asked == []
    log.commit(log.latest())
    for _ in range(5):
        assert await catalogue.pin(CORPUS) == CORPUS.at(1)
    assert (await catalogue.describe(CORPUS)).version == 1
    assert replicas.asked == [CORPUS.at(2)]
    replicas.loaded.set()
    await served_becomes(catalogue, 2)


async def test_one_that_cannot_be_loaded_never_takes_over_and_the_next_one_may(
    log: CorpusLog, replicas: Replicas, catalogue: StoredCatalogue
) -> None:
    assert await catalogue.pin(CORPUS) == CORPUS.at(1)
    log.commit(log.latest())
    replicas.damaged = True
    replicas.loaded.set()
    while len(replicas.asked) < 3:
        assert await catalogue.pin(CORPUS) == CORPUS.at(1)
        await asyncio.sleep(0)
    log.commit(log.latest())
    replicas.damaged = False
    await served_becomes(catalogue, 3)


async def test_who_names_a_version_gets_it_while_it_is_made_ready(
    log: CorpusLog, replicas: Replicas, catalogue: StoredCatalogue
) -> None:
    await catalogue.pin(CORPUS)
    log.commit(log.latest())
    await catalogue.pin(CORPUS)
    assert await catalogue.pin(CORPUS, 2) == CORPUS.at(2)


async def test_a_deleted_corpus_is_gone_at_once_and_a_new_one_of_its_name_is_there_at_once(
    log: CorpusLog, replicas: Replicas, catalogue: StoredCatalogue
) -> None:
    log.commit(log.latest())
    assert await catalogue.pin(CORPUS) == CORPUS.at(2)
    log.delete()
    with pytest.raises(NotFoundError):
        await catalogue.pin(CORPUS)
    log.commit(None)
    assert await catalogue.pin(CORPUS) == CORPUS.at(3)
    log.delete()
    log.commit(None)
    assert await catalogue.pin(CORPUS) == CORPUS.at(4)
    assert replicas.asked == []
