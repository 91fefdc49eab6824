"""Racing and dying writers: nothing lost, nothing twice, nothing half visible."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import BackendError, ConflictError
from lightrag.storage.artifacts import Change, Commit, CorpusLog
from lightrag.storage.objects import ObjectStore, open_object_store
from tests.lightrag.storage.conftest import CORPUS, S3Server
from tests.lightrag.storage.processes import race, start


def versions_of(racers: dict[str, subprocess.Popen[str]]) -> dict[str, list[int]]:
    return {name: [int(line) for line in output.split()] for name, output in race(racers).items()}


WRITER = """
    import sys
    from lightrag.storage.artifacts import Change, CorpusLog
    from lightrag.storage.objects import open_object_store
    from lightrag.types import CorpusId
    url, name, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    options = dict(item.split("=", 1) for item in sys.argv[4:])
    log = CorpusLog(open_object_store(url, options), CorpusId("acme", "reports"))
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(rounds):
        entry = log.write_file("chunks", f"{name}-{number}", f"{name} {number}".encode() * 1000, rows=1)
        mine = lambda base: Change([entry], counts={"total": (base.counts["total"] if base else 0) + 1}, job_id=name)
        print(log.commit_rebasing(mine, attempts=200).version, flush=True)
"""


def check_race(log: CorpusLog, wins: dict[str, list[int]], rounds: int) -> None:
    total = rounds * len(wins)
    assert sorted(version for won in wins.values() for version in won) == list(range(1, total + 1))
    latest = log.latest()
    assert latest is not None
    assert latest.counts == {"total": total}
    names = [entry.name for entry in log.files(latest, "chunks")]
    assert sorted(names) == sorted(f"{name}-{number}" for name in wins for number in range(rounds))
    for commit in log.history():
        assert commit.version in wins[commit.job_id]
        assert commit.file_set("chunks").files == commit.version
    assert log.check_integrity(deep=True).problems == ()


class TestRaces:
    def test_processes_on_one_folder_lose_nothing(self, fast_log: Callable[[], CorpusLog]) -> None:
        log = fast_log()
        racers = {name: start(WRITER, log.store.url, name, "25") for name in "abc"}
        check_race(log, versions_of(racers), 25)

    def test_processes_on_one_bucket_lose_nothing(self, s3: S3Server) -> None:
        options = [f"{name}={value}" for name, value in s3.options.items()]
        racers = {name: start(WRITER, "s3://lake/race", name, "6", *options) for name in "ab"}
        check_race(CorpusLog(open_object_store("s3://lake/race", s3.options), CORPUS), versions_of(racers), 6)

    def test_readers_beside_writers_see_whole_versions_that_only_grow(self, log: CorpusLog) -> None:
        stop, failures, seen = threading.Event(), list[str](), list[int]()

        def read() -> None:
            reader = CorpusLog(log.store, CORPUS)
            while not stop.is_set():
                commit = reader.latest()
                if commit is None:
                    continue
                seen.append(commit.version)
                for entry in reader.files(commit, "chunks"):
                    if reader.read_file(entry) != entry.name.encode():
                        failures.append(entry.path)

        def write(name: str) -> None:
            writer = CorpusLog(log.store, CORPUS)
            for number in range(8):
                entry = writer.write_file("chunks", f"{name}{number}", f"{name}{number}".encode())
                writer.commit_rebasing(lambda base, entry=entry: Change([entry]), attempts=100)  # type: ignore[misc]

        reader = threading.Thread(target=read)
        writers = [threading.Thread(target=write, args=(name,)) for name in "xy"]
        for thread in [reader, *writers]:
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        reader.join()
        assert failures == []
        assert seen == sorted(seen)
        assert log.versions() == list(range(1, 17))


class Step:
    """Two writers that run one store call at a time, in an order that the test chooses."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.turn = threading.Semaphore(0)
        self.done = threading.Semaphore(0)

    def __getattr__(self, name: str) -> object:
        method = getattr(self._store, name)

        def stepped(*arguments: object, **options: object) -> object:
            self.turn.acquire()
            try:
                result = method(*arguments, **options)
                return list(result) if name == "list" else result
            finally:
                self.done.release()

        return stepped if callable(method) else method


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=0, max_size=40), st.booleans())
def test_in_every_interleaving_of_two_commits_one_wins_and_the_loser_learns_of_it(
    order: list[bool], first: bool
) -> None:
    store = open_object_store("memory://")
    log = CorpusLog(store, CORPUS)
    base = log.commit(None) if first else None
    entries = [log.write_file("chunks", name, b"data") for name in "ab"]
    steps = [Step(store), Step(store)]
    results: list[Commit | ConflictError | None] = [None, None]

    def write(number: int) -> None:
        try:
            results[number] = CorpusLog(steps[number], CORPUS).commit(base, add=[entries[number]])  # type: ignore[arg-type]
        except ConflictError as error:
            results[number] = error
        finally:
            steps[number].done.release()

    threads = [threading.Thread(target=write, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for chosen in [*order, *[True, False] * 60]:
        step = steps[chosen]
        if threads[chosen].is_alive():
            step.turn.release()
            step.done.acquire(timeout=10)
    for step, thread in zip(steps, threads, strict=True):
        step.turn.release(1000)
        thread.join(10)
    winners = [result for result in results if isinstance(result, Commit)]
    losers = [result for result in results if isinstance(result, ConflictError)]
    assert (len(winners), len(losers)) == (1, 1)
    assert losers[0].winner == winners[0] == log.latest()
    assert log.check_integrity(deep=True).problems == ()


class LosesAnswers:
    """A store whose answers to conditional puts get lost, after or before the put took place."""

    def __init__(self, store: ObjectStore, error: Exception, *, arrives: bool) -> None:
        self._store, self._error, self._arrives = store, error, arrives

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def put(self, path: str, data: bytes, *, if_absent: bool = False) -> None:
        if not if_absent:
            self._store.put(path, data)
            return
        if self._arrives:
            self._store.put(path, data, if_absent=True)
        raise self._error


class TestLostAnswers:
    @pytest.mark.parametrize("error", [ConflictError("asked twice"), BackendError("timed out", retryable=True)])
    def test_a_commit_that_arrived_is_recognised(self, memory_log: CorpusLog, error: Exception) -> None:
        store = LosesAnswers(memory_log.store, error, arrives=True)
        made = CorpusLog(store, CORPUS).commit(None, job_id="mine")  # type: ignore[arg-type]
        assert memory_log.latest() == made

    def test_a_commit_that_did_not_arrive_is_an_error(self, memory_log: CorpusLog) -> None:
        store = LosesAnswers(memory_log.store, BackendError("timed out", retryable=True), arrives=False)
        with pytest.raises(BackendError, match="timed out"):
            CorpusLog(store, CORPUS).commit(None)  # type: ignore[arg-type]
        assert memory_log.latest() is None


class TestKilledWriters:
    def test_at_any_moment_only_whole_versions_are_seen_and_the_next_writer_goes_on(
        self, fast_log: Callable[[], CorpusLog], tmp_path: Path
    ) -> None:
        known = 0
        for delay in (0.0, 0.01, 0.03, 0.06, 0.1, 0.15):
            log = fast_log()
            writer = start(WRITER, log.store.url, "k", "100000")
            assert writer.stdin is not None
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            writer.stdin.write("\n")
            writer.stdin.flush()
            writer.stdout.readline()
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
            reported = [int(line) for line in writer.communicate(timeout=30)[0].split()]
            latest = log.latest()
            assert latest is not None
            assert latest.version >= max(reported, default=known + 1) > known
            assert log.versions() == list(range(1, latest.version + 1))
            known = latest.version
        log = fast_log()
        assert log.check_integrity(deep=True).problems == ()
        log.vacuum(retain=1, grace_seconds=0)
        assert log.check_integrity(deep=True).problems == ()
        referenced = log.files(log.latest(), "chunks")  # type: ignore[arg-type]
        stored = list(log.store.list(f"{log.layout.root}/chunks"))
        assert len(stored) == len(referenced) == known
        log.delete()
        left = [path for path in (tmp_path / "objects" / "acme").rglob("*") if path.is_file()]
        assert left == []


FULL_DISK = """
    import resource, sys
    from lightrag.errors import BackendError
    from lightrag.storage.artifacts import CorpusLog
    from lightrag.storage.objects import open_object_store
    from lightrag.types import CorpusId
    log = CorpusLog(open_object_store(sys.argv[1]), CorpusId("acme", "reports"))
    base = log.commit(None, add=[log.write_file("chunks", "a", b"data")])
    small = log.write_file("chunks", "b", b"data")
    for limit, work in [
        (1 << 20, lambda: log.write_file("index", "large", b"x" * (20 << 20))),
        (100, lambda: log.commit(base, add=[small])),
    ]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            work()
        except BackendError as error:
            print("larger than this system allows" in str(error), error.retryable)
"""


def test_a_disk_that_takes_no_more_loses_nothing_and_the_next_try_succeeds(fast_log: Callable[[], CorpusLog]) -> None:
    # A limit on file sizes stands for a full disk: it fails the same writes in the same way.
    log = fast_log()
    assert start(FULL_DISK, log.store.url).communicate(timeout=60)[0] == "True False\n" * 2
    latest = log.latest()
    assert latest is not None
    assert latest.version == 1
    assert log.check_integrity(deep=True).problems == ()
    assert log.commit(latest, add=[log.write_file("chunks", "c", b"data")]).version == 2
    log.vacuum(retain=1, grace_seconds=0)
    assert sorted(info.path.rsplit("/", 1)[1][0] for info in log.store.list(f"{log.layout.root}/chunks")) == ["a", "c"]
