"""Versions of a corpus on every kind of store: what is seen, by whom, and what damage is refused."""

from __future__ import annotations

import json
import pickle

import pytest

from lightrag.errors import ArtifactError, ConflictError, NotFoundError, UsageError
from lightrag.storage.artifacts import Change, Commit, CorpusLog, delete_tenant, list_corpora
from lightrag.storage.commits import FORMAT
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.types import CorpusId
from tests.lightrag.storage.conftest import CORPUS


def commit_file(log: CorpusLog, base: Commit | None, name: str, data: bytes = b"data", **about: object) -> Commit:
    entry = log.write_file("chunks", name, data, rows=1)
    return log.commit(base, add=[entry], **about)  # type: ignore[arg-type]


class TestVersions:
    def test_a_corpus_begins_with_nothing(self, log: CorpusLog) -> None:
        assert log.latest() is None
        assert log.versions() == []
        assert list(log.history()) == []
        with pytest.raises(NotFoundError, match="acme/reports@1 does not exist"):
            log.read(1)

    def test_versions_count_up_and_old_ones_stay_as_they_were(self, log: CorpusLog) -> None:
        first = commit_file(log, None, "a", b"one", counts={"documents": 1}, fingerprints={"embedder": "x"})
        second = commit_file(log, first, "b", b"two", counts={"documents": 2}, message="more")
        third = log.commit(second, remove=[log.file(second, "chunks", "a").path], settings={"size": [1, None, 0.5]})
        assert [str(commit.id) for commit in (first, second, third)] == [f"acme/reports@{n}" for n in (1, 2, 3)]
        assert [entry.name for entry in log.files(second, "chunks")] == ["a", "b"]
        assert [entry.name for entry in log.files(third, "chunks")] == ["b"]
        assert [entry.version for entry in log.files(second, "chunks")] == [1, 2]
        assert log.read_file(log.file(log.read(1), "chunks", "a")) == b"one"
        assert (third.counts, third.fingerprints, third.parent) == ({"documents": 2}, {"embedder": "x"}, 2)
        assert third.settings == {"size": [1, None, 0.5]}
        assert (second.bytes, second.file_set("chunks").rows, second.file_set("gists").files) == (6, 2, 0)
        assert log.versions() == [1, 2, 3]
        assert list(log.history()) == [third, second, first]
        assert log.check_integrity(deep=True).problems == ()

    def test_what_is_written_but_not_committed_is_not_seen(self, log: CorpusLog) -> None:
        log.write_file("chunks", "a", b"data")
        assert log.latest() is None
        assert list_corpora(log.store, "acme") == []

    def test_a_log_elsewhere_sees_a_new_version_at_once(self, log: CorpusLog) -> None:
        other = CorpusLog(log.store, CORPUS)
        assert other.latest() is None
        first = commit_file(log, None, "a")
        assert other.latest() == first
        second = commit_file(log, first, "b")
        assert other.latest() == second

    def test_a_log_travels_with_its_store(self, tmp_path: object) -> None:
        log = CorpusLog(open_object_store(f"file://{tmp_path}"), CORPUS)
        first = commit_file(log, None, "a")
        assert pickle.loads(pickle.dumps(log)).latest() == first

    def test_the_newest_of_many_versions_is_found_without_listing_them(self, memory_log: CorpusLog) -> None:
        commit = commit_file(memory_log, None, "a")
        for _ in range(30):
            commit = memory_log.commit(commit)
        counting = CountingStore(memory_log.store)
        assert CorpusLog(counting, CORPUS).newest_version() == 31
        assert counting.listed == 1

    @pytest.mark.parametrize("hint", [b"", b"{}", b"[1]", b'{"version": 99}', b'{"version": "x"}', b'{"version": 1}'])
    def test_a_wrong_hint_changes_nothing(self, memory_log: CorpusLog, hint: bytes) -> None:
        first = commit_file(memory_log, None, "a")
        memory_log.commit(first)
        memory_log.store.put(memory_log.layout.newest, hint)
        assert CorpusLog(memory_log.store, CORPUS).newest_version() == 2

    def test_a_job_finds_out_that_it_had_committed(self, memory_log: CorpusLog) -> None:
        first = commit_file(memory_log, None, "a", job_id="job-1")
        commit_file(memory_log, first, "b", job_id="job-2")
        assert memory_log.find_job("job-1") == first
        assert memory_log.find_job("job-3") is None


class CountingStore:
    """Counts what listings yield."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.listed = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def list(self, prefix: str = "", *, after: str = "") -> object:
        for info in self._store.list(prefix, after=after):
            self.listed += 1
            yield info


class TestFiles:
    def test_one_name_written_twice_is_two_files(self, log: CorpusLog) -> None:
        one, two = (log.write_file("index", "7f/faiss.tar.gz", data) for data in (b"1", b"2"))
        assert one.path != two.path
        assert (log.read_file(one), log.read_file(two)) == (b"1", b"2")
        assert one.path.startswith("index/7f/faiss.")
        assert one.path.endswith(".tar.gz")

    def test_a_name_that_says_too_little_is_refused(self, memory_log: CorpusLog) -> None:
        commit = memory_log.commit(None, add=[memory_log.write_file("index", "a", b"") for _ in range(2)])
        with pytest.raises(ArtifactError, match="2 index files 'a'"):
            memory_log.file(commit, "index", "a")
        with pytest.raises(NotFoundError, match="no index file 'b'"):
            memory_log.file(commit, "index", "b")

    def test_files_can_be_chosen_by_prefix(self, memory_log: CorpusLog) -> None:
        names = ["new/a", "new/b", "old/a"]
        commit = memory_log.commit(None, add=[memory_log.write_file("index", name, b"") for name in names])
        assert [entry.name for entry in memory_log.files(commit, "index", "new/")] == ["new/a", "new/b"]

    @pytest.mark.parametrize("name", ["", "../a", "a/../b", "/a", "a//b", "a b", "a\n", ".hidden", "x" * 600, "a#1"])
    def test_names_are_plain(self, memory_log: CorpusLog, name: str) -> None:
        with pytest.raises(UsageError, match="cannot be called"):
            memory_log.write_file("index", name, b"")
        with pytest.raises(UsageError, match="cannot be called"):
            memory_log.write_file("elsewhere", "a", b"")  # type: ignore[arg-type]

    def test_missing_files_are_told(self, log: CorpusLog) -> None:
        here, gone = log.write_file("index", "a", b"1"), log.write_file("index", "b", b"2")
        log.store.delete([log.layout.file(gone.path)])
        assert log.missing([here, gone]) == [gone]


class TestRefusedCommits:
    def test_a_lost_race_names_the_winner_and_changes_nothing(self, log: CorpusLog) -> None:
        first = commit_file(log, None, "a")
        second = commit_file(log, first, "b")
        for base in (None, first):
            with pytest.raises(ConflictError, match="acme/reports@2 came before") as caught:
                commit_file(CorpusLog(log.store, CORPUS), base, "c")
            assert caught.value.winner == second
        assert log.versions() == [1, 2]

    def test_an_old_base_is_refused_also_where_the_number_after_it_is_free_again(self, memory_log: CorpusLog) -> None:
        first = commit_file(memory_log, None, "a")
        memory_log.pin(1, "keep")
        second = memory_log.commit(first)
        newest = memory_log.commit(second)
        memory_log.vacuum(retain=1, grace_seconds=0)
        assert memory_log.versions() == [1, 3]
        with pytest.raises(ConflictError) as caught:
            memory_log.commit(first)
        assert caught.value.winner == newest
        assert memory_log.versions() == [1, 3]

    def test_a_file_that_is_not_stored_cannot_be_committed(self, log: CorpusLog) -> None:
        entry = log.write_file("chunks", "a", b"data")
        log.store.delete([log.layout.file(entry.path)])
        with pytest.raises(ArtifactError, match="1 files to commit to acme/reports are not in storage"):
            log.commit(None, add=[entry])
        assert log.versions() == []

    def test_adding_twice_or_removing_what_is_not_there_is_refused(self, memory_log: CorpusLog) -> None:
        entry = memory_log.write_file("chunks", "a", b"data")
        with pytest.raises(UsageError, match="already in this version"):
            memory_log.commit(None, add=[entry, entry])
        for path in ["chunks/none", "nonsense", "log/1"]:
            with pytest.raises(UsageError, match="not in this version"):
                memory_log.commit(None, add=[entry], remove=[path])
        assert memory_log.versions() == []

    def test_a_version_of_another_corpus_is_no_base(self, memory_log: CorpusLog) -> None:
        commit_file(memory_log, None, "a")
        foreign = commit_file(CorpusLog(memory_log.store, CorpusId("evil", "reports")), None, "b")
        with pytest.raises(UsageError, match="cannot start from evil/reports@1"):
            memory_log.commit(foreign)

    @pytest.mark.parametrize("about", [{"counts": {"a": 0.5}}, {"settings": {"a": {1, 2}}}, {"fingerprints": {"a": 1}}])
    def test_what_json_cannot_say_is_refused(self, memory_log: CorpusLog, about: dict[str, object]) -> None:
        with pytest.raises(UsageError, match="a commit cannot say this"):
            memory_log.commit(None, **about)  # type: ignore[arg-type]

    def test_rebasing_starts_from_each_winner_and_gives_up_in_the_end(self, memory_log: CorpusLog) -> None:
        bases: list[int] = []

        def change(base: Commit | None) -> Change:
            bases.append(base.version if base else 0)
            if len(bases) < 4:
                CorpusLog(memory_log.store, CORPUS).commit(base)
            return Change(message="mine")

        assert memory_log.commit_rebasing(change).version == 4
        assert bases == [0, 1, 2, 3]
        bases[:] = []
        with pytest.raises(ConflictError):
            memory_log.commit_rebasing(change, attempts=2)
        assert len(bases) == 2
        with pytest.raises(UsageError, match="attempts"):
            memory_log.commit_rebasing(change, attempts=0)


class TestDamagedCommits:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (b'"documents": 7', b'"documents": 8', "does not match its own checksum"),
            (f'"format": {FORMAT}'.encode(), b'"format": 999', "use a later release"),
            (b'"commit": {', b'"extra": 1, "commit": {', "extra: Extra inputs"),
            (b'"tenant": "acme"', b'"tenant": "evil"', "checksum"),
        ],
    )
    def test_a_changed_commit_is_refused(self, log: CorpusLog, old: bytes, new: bytes, message: str) -> None:
        commit_file(log, None, "a", counts={"documents": 7})
        path = log.layout.commit(1)
        data = log.store.get(path)
        assert old in data
        log.store.put(path, data.replace(old, new))
        with pytest.raises(ArtifactError, match=message) as caught:
            CorpusLog(log.store, CORPUS).latest()
        assert caught.value.subject == "acme/reports@1"
        assert message in log.check_integrity().problems[0]

    @pytest.mark.parametrize("keep", [0, 1, 100, -1, -2])
    def test_a_torn_commit_is_refused(self, memory_log: CorpusLog, keep: int) -> None:
        commit_file(memory_log, None, "a")
        path = memory_log.layout.commit(1)
        memory_log.store.put(path, memory_log.store.get(path)[:keep])
        with pytest.raises(ArtifactError, match="is not a commit"):
            memory_log.read(1)

    @pytest.mark.parametrize("data", [b"\xff\xfe", b"null", b"[]", b'{"version": 1}', b"<html>", b"[" * 100_000])
    def test_a_foreign_file_is_refused(self, memory_log: CorpusLog, data: bytes) -> None:
        memory_log.store.put(memory_log.layout.commit(1), data)
        with pytest.raises(ArtifactError, match="is not a commit"):
            memory_log.read(1)

    def test_a_commit_of_another_corpus_or_place_is_refused(self, memory_log: CorpusLog) -> None:
        commit_file(memory_log, None, "a")
        other = CorpusLog(memory_log.store, CorpusId("acme", "other"))
        data = memory_log.store.get(memory_log.layout.commit(1))
        other.store.put(other.layout.commit(1), data)
        with pytest.raises(ArtifactError, match="belongs to acme/reports@1"):
            other.read(1)
        memory_log.store.put(memory_log.layout.commit(2), data)
        with pytest.raises(ArtifactError, match="belongs to acme/reports@1"):
            memory_log.read(2)

    def test_a_commit_cannot_reach_outside_its_corpus(self, memory_log: CorpusLog) -> None:
        commit = commit_file(memory_log, None, "a")
        body = json.loads(commit.model_dump_json())
        for path in ["../../other/log/x", "/etc/passwd", "chunks/../../x", "chunks/a\x00"]:
            body["files"]["chunks"]["entries"][0]["path"] = path
            with pytest.raises(ValueError, match="path"):
                Commit.model_validate_json(json.dumps(body))

    def test_foreign_files_beside_the_log_are_passed_over_and_reported(self, memory_log: CorpusLog) -> None:
        commit_file(memory_log, None, "a")
        memory_log.store.put(f"{memory_log.layout.log}/.DS_Store", b"")
        assert memory_log.versions() == [1]
        assert "is no commit" in memory_log.check_integrity().problems[0]


class TestIntegrity:
    def test_missing_and_damaged_files_are_all_reported(self, log: CorpusLog) -> None:
        entries = [log.write_file("chunks", name, b"data" + name.encode()) for name in "abc"]
        log.commit(None, add=entries)
        log.store.delete([log.layout.file(entries[0].path)])
        log.store.put(log.layout.file(entries[1].path), b"atadb")
        shallow, deep = log.check_integrity(), log.check_integrity(deep=True)
        assert (shallow.versions, shallow.files, len(shallow.problems)) == (1, 3, 1)
        assert len(deep.problems) == 2
        with pytest.raises(ArtifactError, match=r"chunks/a.* is not in storage.*chunks/b.* is damaged"):
            deep.raise_if_damaged()


class TestTenants:
    def test_corpora_are_listed_by_tenant_and_only_with_a_version(self, store: ObjectStore) -> None:
        for tenant, corpus in [("a", "x"), ("a", "y"), ("ab", "z"), ("b", "x")]:
            CorpusLog(store, CorpusId(tenant, corpus)).commit(None)
        CorpusLog(store, CorpusId("a", "unborn")).write_file("chunks", "a", b"")
        assert list_corpora(store, "a") == [CorpusId("a", "x"), CorpusId("a", "y")]
        assert list_corpora(store, "none") == []

    @pytest.mark.parametrize("tenant", ["", ".", "..", "a/b", "../a", ".deleted"])
    def test_nothing_is_read_or_deleted_without_a_proper_tenant(self, tenant: str) -> None:
        store = open_object_store("memory://")
        for action in (list_corpora, delete_tenant):
            with pytest.raises(UsageError, match="is not a valid name"):
                action(store, tenant)
