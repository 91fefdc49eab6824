"""Deleting corpora and tenants: all of it, only it, with a report, and no way back into old names."""

from __future__ import annotations

import threading

import pytest

from lightrag.errors import ArtifactError, ConflictError
from lightrag.storage.artifacts import CorpusLog, DeletionReport, delete_tenant, list_corpora
from lightrag.storage.objects import PART_BYTES, ObjectStore
from lightrag.types import CorpusId
from tests.lightrag.storage.conftest import CORPUS


def fill(store: ObjectStore, corpus: CorpusId) -> CorpusLog:
    log = CorpusLog(store, corpus)
    first = log.commit(None, add=[log.write_file("chunks", "a", b"data")])
    log.commit(first, add=[log.write_file("index", "b", b"x" * (PART_BYTES + 1))])
    log.write_file("chunks", "never-committed", b"data")
    log.pin(1, "keep")
    return log


def everything(store: ObjectStore) -> list[str]:
    return sorted(info.path for info in store.list())


def test_a_deleted_corpus_is_gone_and_its_neighbours_are_not(log: CorpusLog) -> None:
    fill(log.store, CorpusId("acme", "reports-2"))
    before = everything(log.store)
    fill(log.store, CORPUS)
    objects = [info for info in log.store.list() if info.path not in before]
    report = log.delete()
    assert report == DeletionReport(2, len(objects), sum(info.size for info in objects))
    assert log.latest() is None
    assert [path for path in everything(log.store) if not path.startswith(".deleted/")] == before
    assert not any("reports" in path for path in everything(log.store) if path.startswith(".deleted/"))
    assert list_corpora(log.store, "acme") == [CorpusId("acme", "reports-2")]


def test_deleting_nothing_leaves_no_trace(memory_log: CorpusLog) -> None:
    assert memory_log.delete() == DeletionReport(0, 0, 0)
    assert everything(memory_log.store) == []


def test_versions_of_a_corpus_made_again_never_repeat_old_names(log: CorpusLog) -> None:
    fill(log.store, CORPUS)
    reader = CorpusLog(log.store, CORPUS)
    reader.latest()
    log.delete()
    again = log.commit(None)
    assert again.version == 3
    assert reader.latest() == again
    log.delete()
    assert CorpusLog(log.store, CORPUS).commit(None).version == 4


def test_a_deleted_tenant_is_gone_and_others_are_not(store: ObjectStore) -> None:
    fill(store, CorpusId("acme2", "reports"))
    before = everything(store)
    fill(store, CorpusId("acme", "a"))
    fill(store, CorpusId("acme", "b"))
    store.put("acme/exports/x.zip", b"123")
    report = delete_tenant(store, "acme")
    assert {name: item.versions for name, item in report.items()} == {"a": 2, "b": 2, "": 0}
    assert report[""] == DeletionReport(0, 1, 3)
    assert [path for path in everything(store) if not path.startswith(".deleted/")] == before
    assert not any("acme/" in path for path in everything(store) if path not in before)


def test_commits_that_meet_a_deletion_fail_and_leave_nothing(memory_log: CorpusLog) -> None:
    base = fill(memory_log.store, CORPUS).latest()
    writer = CorpusLog(memory_log.store, CORPUS)
    entry = writer.write_file("chunks", "late", b"data")
    memory_log.delete()
    with pytest.raises(ConflictError, match="deletion of acme/reports came before"):
        writer.commit(base)
    with pytest.raises(ArtifactError, match="not in storage"):
        writer.commit(None, add=[entry])
    assert memory_log.latest() is None


class DeletesDuringPut:
    """A store on which somebody deletes the corpus just before a commit arrives."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put(self, path: str, data: bytes, *, if_absent: bool = False) -> None:
        if if_absent:
            CorpusLog(self._store, CORPUS).delete()
        self._store.put(path, data, if_absent=if_absent)


@pytest.mark.parametrize("first", [True, False])
def test_a_deletion_between_check_and_put_withdraws_the_commit(memory_log: CorpusLog, first: bool) -> None:
    base = None if first else memory_log.commit(None)
    if first:
        memory_log.commit(None)
        memory_log.delete()
        memory_log.commit(None)
        memory_log.delete()
    writer = CorpusLog(DeletesDuringPut(memory_log.store), CORPUS)  # type: ignore[arg-type]
    if first:
        # Nothing is there to delete, so the commit stands.
        assert writer.commit(base).version == 3
    else:
        with pytest.raises(ConflictError, match="was deleted during a commit"):
            writer.commit(base)
        assert memory_log.versions() == []


def test_a_damaged_tombstone_stops_new_versions_from_taking_old_names(memory_log: CorpusLog) -> None:
    memory_log.commit(None)
    memory_log.delete()
    memory_log.store.put(memory_log.layout.tombstone, b"{}")
    with pytest.raises(ArtifactError, match="tombstone"):
        memory_log.commit(None)


def test_readers_during_a_deletion_see_the_newest_version_or_none(log: CorpusLog) -> None:
    commit = None
    for number in range(12):
        commit = log.commit(commit, add=[log.write_file("chunks", "a", str(number).encode())])
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            latest = CorpusLog(log.store, CORPUS).latest()
            seen.append(latest.version if latest else 0)

    reader = threading.Thread(target=read)
    reader.start()
    log.delete()
    stop.set()
    reader.join()
    assert set(seen) <= {12, 0}
    assert seen == sorted(seen, reverse=True)
