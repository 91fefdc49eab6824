"""Groups of versions that are read once, whoever asks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from lightrag.errors import ArtifactError, NotFoundError
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import FileEntry
from lightrag.storage.group_catalogue import GroupCatalogue
from lightrag.storage.groups import GROUP_FILE, DocumentGroup, StoredGroup
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.types import CorpusId, CorpusVersion

CORPUS = CorpusId("acme", "notes")


class Shelf:
    """A corpus with groups, and a catalogue of it that counts what it arranges."""

    def __init__(self, root: Path, **options: int) -> None:
        self.store: ObjectStore = open_object_store(root.as_uri())
        self.log = CorpusLog(self.store, CORPUS)
        self.arranged = 0
        self.catalogue = GroupCatalogue(self.store, "memory", self.arrange, **options)

    def arrange(self, log: CorpusLog, groups: Sequence[StoredGroup]) -> list[DocumentGroup]:
        self.arranged += 1
        return [stored.group for stored in groups]

    def add(self, *keys: str) -> CorpusVersion:
        return self.log.commit(self.log.latest(), add=[self.described(key) for key in keys]).id

    def described(self, key: str) -> FileEntry:
        return self.log.write_file("memory", f"{key}/{GROUP_FILE}", DocumentGroup(key, {key: "k"}, 1, "en").to_json())


async def test_those_who_ask_at_once_share_one_reading(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    version = shelf.add("a", "b")
    first, *others = await asyncio.gather(*(shelf.catalogue.of(version) for _ in range(5)))
    assert [group.key for group in first] == ["a", "b"]
    assert all(other is first for other in others)
    assert (await shelf.catalogue.of(version)) is first
    assert shelf.arranged == 1


async def test_a_new_version_reads_only_what_is_new(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    before = await shelf.catalogue.of(shelf.add("a", "b"))
    after = await shelf.catalogue.of(shelf.add("c"))
    assert [group.key for group in after] == ["a", "b", "c"]
    assert after[:2] == before
    assert all(one is other for one, other in zip(before, after, strict=False))


async def test_the_versions_asked_about_last_are_remembered(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, versions=2)
    versions = [shelf.add(key) for key in "abc"]
    for version in versions:
        await shelf.catalogue.of(version)
    await shelf.catalogue.of(versions[2])
    assert shelf.arranged == 3
    await shelf.catalogue.of(versions[0])
    assert shelf.arranged == 4


async def test_a_failure_is_not_remembered(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    missing = CORPUS.at(1)
    with pytest.raises(NotFoundError):
        await shelf.catalogue.of(missing)
    assert shelf.add("a") == missing
    assert len(await shelf.catalogue.of(missing)) == 1
    broken = shelf.log.commit(shelf.log.latest(), add=[shelf.log.write_file("memory", f"b/{GROUP_FILE}", b"[]")]).id
    with pytest.raises(ArtifactError):
        await shelf.catalogue.of(broken)


async def test_who_gives_up_does_not_stop_the_reading(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    version = shelf.add("a")
    impatient = asyncio.create_task(shelf.catalogue.of(version))
    await asyncio.sleep(0)
    impatient.cancel()
    assert len(await shelf.catalogue.of(version)) == 1
    assert shelf.arranged == 1


def test_one_catalogue_serves_one_event_loop_after_the_other(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    version = shelf.add("a")

    async def leave_at_once() -> None:
        asyncio.get_running_loop().create_task(shelf.catalogue.of(version))
        await asyncio.sleep(0)

    asyncio.run(leave_at_once())
    assert len(asyncio.run(shelf.catalogue.of(version))) == 1
