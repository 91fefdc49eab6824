"""Pins, holds and vacuum: what nobody needs goes, and nothing else, whoever works at the same time."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, NotFoundError, UsageError
from lightrag.storage import keeping, manifests
from lightrag.storage.artifacts import Change, Commit, CorpusLog
from lightrag.storage.objects import PART_BYTES, ObjectInfo, ObjectStore, open_object_store
from tests.lightrag.storage.conftest import CORPUS


class Aged:
    """A store whose clock the test moves: what was put before is older afterwards."""

    def __init__(self) -> None:
        self._store = open_object_store("memory://")
        self._put: dict[str, datetime] = {}
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put(self, path: str, data: bytes, *, if_absent: bool = False) -> None:
        self._store.put(path, data, if_absent=if_absent)
        self._put[path] = self.now

    def put_parts(self, path: str, *arguments: object, **options: object) -> None:
        self._store.put_parts(path, *arguments, **options)  # type: ignore[arg-type]
        self._put[path] = self.now

    def head(self, path: str) -> ObjectInfo:
        info = self._store.head(path)
        return ObjectInfo(info.path, info.size, self._put[path])

    def list(self, prefix: str = "", *, after: str = "") -> object:
        return (
            ObjectInfo(info.path, info.size, self._put[info.path]) for info in self._store.list(prefix, after=after)
        )

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def aged() -> Aged:
    return Aged()


@pytest.fixture
def aged_log(aged: Aged) -> CorpusLog:
    return CorpusLog(aged, CORPUS)  # type: ignore[arg-type]


def add(log: CorpusLog, base: Commit | None, *, size: int = 4) -> Commit:
    """A version that replaces the file of its base."""
    old = [entry.path for entry in log.files(base, "chunks")] if base else []
    return log.commit(base, add=[log.write_file("chunks", "part", b"x" * size)], remove=old)


class TestVacuum:
    def test_old_versions_and_their_files_go_and_the_newest_stay(self, aged: Aged, aged_log: CorpusLog) -> None:
        commit = None
        for _ in range(6):
            commit = add(aged_log, commit)
            aged.wait(100)
        report = aged_log.vacuum(retain=2, grace_seconds=50)
        assert (report.versions_removed, report.versions_kept) == ((1, 2, 3, 4), (5, 6))
        assert (report.files_removed, report.bytes_removed, report.unreferenced_kept) == (4, 16, 0)
        assert aged_log.versions() == [5, 6]
        assert aged_log.check_integrity(deep=True).problems == ()
        with pytest.raises(NotFoundError):
            aged_log.read(4)
        assert aged_log.vacuum(retain=2, grace_seconds=50).files_removed == 0
        assert add(aged_log, commit).version == 7

    def test_a_version_that_was_the_newest_within_the_grace_period_stays(self, aged: Aged, aged_log: CorpusLog) -> None:
        first = add(aged_log, None)
        aged.wait(1000)
        add(aged_log, first)
        aged.wait(49)
        assert aged_log.vacuum(retain=1, grace_seconds=50).versions_kept == (1, 2)
        aged.wait(2)
        assert aged_log.vacuum(retain=1, grace_seconds=50).versions_kept == (2,)

    def test_files_that_wait_for_their_commit_stay_for_the_grace_period(self, aged: Aged, aged_log: CorpusLog) -> None:
        entry = aged_log.write_file("chunks", "late", b"x" * (PART_BYTES + 1))
        aged.wait(49)
        report = aged_log.vacuum(retain=1, grace_seconds=50)
        assert (report.files_removed, report.unreferenced_kept) == (0, 2)
        aged.wait(2)
        assert aged_log.vacuum(retain=1, grace_seconds=50).files_removed == 2
        with pytest.raises(ArtifactError, match=r"need CorpusLog.hold\(\)"):
            aged_log.commit(None, add=[entry])

    def test_a_damaged_version_stops_vacuum_before_anything_of_it_is_lost(
        self, aged: Aged, aged_log: CorpusLog
    ) -> None:
        first = add(aged_log, None)
        path = aged_log.layout.commit(1)
        data = aged.get(path)  # type: ignore[operator]
        aged.put(path, data[:-20])
        aged.wait(1000)
        with pytest.raises(ArtifactError, match="is not a commit"):
            aged_log.vacuum(retain=1, grace_seconds=1)
        aged.put(path, data)
        assert aged_log.missing(aged_log.files(first, "chunks")) == []

    @pytest.mark.parametrize(("retain", "grace"), [(0, 1), (-1, 1), (1, -1)])
    def test_senseless_arguments_are_refused(self, memory_log: CorpusLog, retain: int, grace: float) -> None:
        with pytest.raises(UsageError, match="vacuum needs"):
            memory_log.vacuum(retain=retain, grace_seconds=grace)

    def test_an_empty_corpus_has_nothing_to_remove(self, log: CorpusLog) -> None:
        report = log.vacuum(retain=1, grace_seconds=0)
        assert report == keeping.VacuumReport((), 0, 0, (), 0)
        assert list(log.store.list()) == []

    def test_every_kind_of_store_can_be_vacuumed(self, log: CorpusLog) -> None:
        commit = None
        for _ in range(3):
            commit = add(log, commit, size=PART_BYTES + 1)
        log.write_file("index", "never-committed", b"")
        time.sleep(1.1)  # S3 tells time in whole seconds
        report = log.vacuum(retain=1, grace_seconds=0)
        assert report.versions_removed == (1, 2)
        assert report.files_removed == 5
        assert log.check_integrity(deep=True).problems == ()


class TestPins:
    def test_a_pinned_version_stays_whole_until_it_is_unpinned(self, aged: Aged, aged_log: CorpusLog) -> None:
        commit = None
        for _ in range(5):
            commit = add(aged_log, commit)
            aged.wait(100)
        aged_log.pin(2, "audit")
        aged_log.pin(1, "release")
        aged_log.pin(3, "release")
        assert aged_log.pins() == {"audit": 2, "release": 3}
        assert aged_log.vacuum(retain=1, grace_seconds=1).versions_kept == (2, 3, 5)
        assert aged_log.check_integrity(deep=True).problems == ()
        assert aged_log.unpin("audit")
        assert not aged_log.unpin("audit")
        assert aged_log.vacuum(retain=1, grace_seconds=1).versions_kept == (3, 5)
        assert aged_log.newest_version() == 5

    def test_a_version_that_does_not_exist_cannot_be_pinned(self, log: CorpusLog) -> None:
        with pytest.raises(NotFoundError):
            log.pin(1, "audit")
        assert log.pins() == {}
        with pytest.raises(UsageError, match=r"pin '\.\./x' is not a valid name"):
            log.unpin("../x")

    def test_a_damaged_pin_is_not_taken_for_no_pin(self, memory_log: CorpusLog) -> None:
        add(memory_log, None)
        memory_log.pin(1, "audit")
        memory_log.store.put(memory_log.layout.pin("audit"), b"")
        with pytest.raises(ArtifactError, match="pin 'audit' of acme/reports is damaged"):
            memory_log.vacuum(retain=1, grace_seconds=0)

    @pytest.mark.parametrize("moment", ["before", "after"])
    def test_a_pin_that_passes_vacuum_by_keeps_its_version_or_fails(
        self, aged: Aged, aged_log: CorpusLog, moment: str
    ) -> None:
        commit = None
        for _ in range(3):
            commit = add(aged_log, commit)
            aged.wait(100)
        pinner = CorpusLog(aged, CORPUS)  # type: ignore[arg-type]
        original, outcome = aged._store.delete, list[str]()

        def delete(paths: object) -> None:
            paths = list(paths)  # type: ignore[call-overload]
            mine = aged_log.layout.commit(1) in paths
            if mine and moment == "after":
                original(paths)
            if mine:
                try:
                    pinner.pin(1, "audit")
                    outcome.append("pinned")
                except NotFoundError:
                    outcome.append("refused")
            if not (mine and moment == "after"):
                original(paths)

        aged.delete = delete  # type: ignore[attr-defined]
        aged_log.vacuum(retain=1, grace_seconds=1)
        if moment == "before":
            assert outcome == ["pinned"]
            assert aged_log.versions() == [1, 3]
        else:
            assert outcome == ["refused"]
            assert (aged_log.versions(), aged_log.pins()) == ([3], {})
        assert aged_log.check_integrity(deep=True).problems == ()

    @pytest.mark.parametrize("before", [{}, {"audit": 2}], ids=["new", "moved"])
    def test_a_version_that_goes_while_it_is_being_pinned_is_not_pinned(
        self, aged: Aged, aged_log: CorpusLog, before: dict[str, int]
    ) -> None:
        add(aged_log, add(aged_log, None))
        for name, version in before.items():
            aged_log.pin(version, name)
        original = aged.put

        def put(path: str, data: bytes, *, if_absent: bool = False) -> None:
            if path.startswith(aged_log.layout.pins):
                aged.delete([aged_log.layout.commit(1)])  # type: ignore[operator]
            original(path, data, if_absent=if_absent)

        aged.put = put  # type: ignore[method-assign]
        with pytest.raises(NotFoundError):
            aged_log.pin(1, "audit")
        assert aged_log.pins() == before


class TestHolds:
    def test_a_holding_job_keeps_its_base_and_its_files_for_as_long_as_it_lives(
        self, aged: Aged, aged_log: CorpusLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(keeping, "HOLD_SECONDS", 1e9)
        base = add(aged_log, None)
        with aged_log.hold("job-1"):
            aged.wait(10)
            entry = aged_log.write_file("chunks", "mine", b"data")
            other = add(CorpusLog(aged, CORPUS), base)  # type: ignore[arg-type]
            aged.wait(5000)
            report = aged_log.vacuum(retain=1, grace_seconds=50)
            assert (report.versions_removed, report.files_removed) == ((), 0)
            assert aged_log.missing(aged_log.files(base, "chunks")) == []
            aged_log.commit(other, add=[entry])
        assert list(aged.list(aged_log.layout.holds)) == []  # type: ignore[call-overload]
        aged.wait(100)
        assert aged_log.vacuum(retain=1, grace_seconds=50).versions_removed == (1, 2)
        assert aged_log.check_integrity(deep=True).problems == ()

    def test_the_hold_of_a_killed_job_ends_and_a_resumed_one_goes_on(self, aged: Aged, aged_log: CorpusLog) -> None:
        since = keeping._begin(aged_log, "job-1")  # what a process leaves that is killed now
        entry = aged_log.write_file("chunks", "mine", b"data")
        aged.wait(keeping.HOLD_SECONDS - 1)
        assert keeping._begin(aged_log, "job-1") == since
        aged.wait(keeping.HOLD_SECONDS - 1)
        assert aged_log.vacuum(retain=1, grace_seconds=50).files_removed == 0
        aged.wait(2)
        assert aged_log.vacuum(retain=1, grace_seconds=50).files_removed == 1
        assert aged_log.missing([entry]) == [entry]
        assert list(aged.list(aged_log.layout.holds)) == []  # type: ignore[call-overload]

    def test_a_hold_is_renewed_while_the_job_works(self, log: CorpusLog, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(keeping, "HEARTBEAT_SECONDS", 0.05)
        path = log.layout.hold("job-1")
        with log.hold("job-1"):
            before = log.store.head(path).modified
            for _ in range(60):
                time.sleep(0.05)
                if log.store.head(path).modified > before:
                    break
            assert log.store.head(path).modified > before

    def test_a_job_without_a_proper_name_cannot_hold(self, memory_log: CorpusLog) -> None:
        with pytest.raises(UsageError, match="job"), memory_log.hold("../x"):
            pass


ACTIONS = st.lists(st.sampled_from(["commit", "replace", "write", "pin", "unpin", "vacuum", "wait"]), max_size=30)


@settings(max_examples=60, deadline=None)
@given(ACTIONS, st.integers(1, 3), st.sampled_from([0.0, 150.0]))
def test_whatever_happened_every_version_that_can_be_read_has_all_its_files(
    actions: list[str], retain: int, grace: float
) -> None:
    limits = (manifests.INLINE, manifests.LEAF)
    manifests.INLINE, manifests.LEAF = 2, 3  # so that manifests are shared, too
    try:
        aged = Aged()
        log = CorpusLog(aged, CORPUS)  # type: ignore[arg-type]
        pinned: int | None = None
        for number, action in enumerate(actions):
            latest = log.latest()
            if action == "commit":
                entry = log.write_file("chunks", f"{number}", str(number).encode())
                log.commit_rebasing(lambda base, entry=entry: Change([entry]))  # type: ignore[misc]
            elif action == "replace" and latest:
                log.commit(latest, remove=[entry.path for entry in log.files(latest, "chunks")[:2]])
            elif action == "write":
                log.write_file("index", "unused", b"")
            elif action == "pin" and latest:
                pinned = log.versions()[0]
                log.pin(pinned, "p")
            elif action == "unpin":
                pinned = None
                log.unpin("p")
            elif action == "vacuum":
                log.vacuum(retain=retain, grace_seconds=grace)
            aged.wait(100)
        before = log.versions()
        log.vacuum(retain=retain, grace_seconds=0)
        assert log.check_integrity(deep=True).problems == ()
        assert log.versions() == sorted({*before[-retain:], *([pinned] if pinned else [])})
        referenced = {entry.path for commit in log.history() for entry in log.files(commit, "chunks")}
        stored = {info.path.removeprefix(f"{log.layout.root}/") for info in log.store.list(log.layout.root)}
        assert {path for path in stored if path.startswith(("chunks/", "index/"))} == referenced
    finally:
        manifests.INLINE, manifests.LEAF = limits


def _replace_all(log: CorpusLog, name: str) -> bool:
    """Commit one file in the place of all others; false if it took too long and vacuum had removed it."""
    entry = log.write_file("chunks", name, b"data")
    try:
        log.commit_rebasing(
            lambda base: Change([entry], [old.path for old in log.files(base, "chunks")] if base else []), attempts=100
        )
    except ArtifactError as error:
        if "not in storage" not in str(error):
            raise
        return False
    return True


def test_vacuum_beside_writers_and_readers_breaks_nobody(store: ObjectStore) -> None:
    stop, problems = threading.Event(), list[str]()

    def guarded(work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except Exception as error:
            problems.append(repr(error))
            stop.set()

    def write() -> None:
        log = CorpusLog(store, CORPUS)
        for number in range(15):
            while not _replace_all(log, f"{number}"):
                pass  # slower than the grace period: refused, and written again

    def read() -> None:
        log = CorpusLog(store, CORPUS)
        while not stop.is_set():
            commit = log.latest()
            for entry in log.files(commit, "chunks") if commit else []:
                log.read_file(entry)

    def clean() -> None:
        while not stop.is_set():
            CorpusLog(store, CORPUS).vacuum(retain=1, grace_seconds=2)

    writers = [threading.Thread(target=guarded, args=(write,)) for _ in range(2)]
    others = [threading.Thread(target=guarded, args=(work,)) for work in (read, clean)]
    for thread in [*writers, *others]:
        thread.start()
    for thread in writers:
        thread.join(60)
    stop.set()
    for thread in others:
        thread.join(60)
    assert problems == []
    log = CorpusLog(store, CORPUS)
    assert log.newest_version() == 30
    assert log.check_integrity(deep=True).problems == ()
