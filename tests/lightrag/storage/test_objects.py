"""Promises of the object store, on every kind of store, with killed and racing processes and broken backends."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lightrag.errors import BackendError, ConfigurationError, ConflictError, NotFoundError, UsageError
from lightrag.storage.objects import MIB, ObjectStore, open_object_store
from tests.lightrag.storage.conftest import S3Server
from tests.lightrag.storage.processes import race, start

CannedServer = Callable[[int, str], str]


@pytest.fixture
def canned_server() -> Iterator[CannedServer]:
    """Starts servers that give one answer to everything, and returns their address."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, body: str) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def paths(store: ObjectStore, prefix: str = "", after: str = "") -> list[str]:
    return sorted(info.path for info in store.list(prefix, after=after))


def run(code: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload,no-any-return]  # options pass through


class TestEveryStore:
    def test_what_was_put_can_be_read_whole_and_in_ranges(self, store: ObjectStore) -> None:
        store.put("a/b/c.bin", b"0123456789")
        assert store.get("a/b/c.bin") == b"0123456789"
        assert bytes(store.get_range("a/b/c.bin", 3, 4)) == b"3456"
        assert bytes(store.get_range("a/b/c.bin", 3, 0)) == b""

    def test_a_second_put_replaces_and_a_put_if_absent_does_not(self, store: ObjectStore) -> None:
        store.put("a", b"first")
        store.put("a", b"second")
        with pytest.raises(ConflictError, match="exists already"):
            store.put("a", b"third", if_absent=True)
        assert store.get("a") == b"second"

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        store.put("empty", b"")
        assert store.get("empty") == b""
        assert store.head("empty").size == 0

    def test_parts_of_any_length_become_one_object(self, store: ObjectStore) -> None:
        pieces = [b"x" * 7, b"", bytearray(b"y" * (6 * MIB)), memoryview(b"z" * (5 * MIB))]
        store.put_parts("large", pieces, part_bytes=5 * MIB)
        assert store.get("large") == b"".join(pieces)

    def test_a_source_that_fails_leaves_nothing_and_its_own_error_comes_out(self, store: ObjectStore) -> None:
        def broken() -> object:
            yield b"x" * (6 * MIB)
            raise FileNotFoundError(2, "the caller's own file", "/elsewhere")

        with pytest.raises(FileNotFoundError, match="own file"):
            store.put_parts("large", broken(), part_bytes=5 * MIB)  # type: ignore[arg-type]
        assert paths(store) == []

    @pytest.mark.parametrize("method", ["get", "head"])
    def test_a_missing_object_is_not_found(self, store: ObjectStore, method: str) -> None:
        with pytest.raises(NotFoundError, match="'a/missing'") as caught:
            getattr(store, method)("a/missing")
        assert caught.value.subject == "a/missing"

    @pytest.mark.parametrize(("start", "length"), [(0, 11), (8, 3), (10, 1), (99, 1)])
    def test_a_range_that_leaves_the_object_is_refused_not_cut(
        self, store: ObjectStore, start: int, length: int
    ) -> None:
        store.put("a", b"0123456789")
        with pytest.raises(UsageError, match="inside object"):
            store.get_range("a", start, length)

    @pytest.mark.parametrize("path", ["../outside", "a/../../outside", "a//b", "."])
    def test_paths_that_are_not_plain_segments_are_refused(self, store: ObjectStore, path: str) -> None:
        with pytest.raises(UsageError, match="is not a path"):
            store.put(path, b"")
        assert paths(store) == []

    def test_listing_goes_by_whole_segments_and_has_no_cap(self, store: ObjectStore) -> None:
        names = [f"many/{number:04d}" for number in range(1100)]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda name: store.put(name, b""), names))
        store.put("many-more/x", b"")
        assert paths(store, "many") == names
        assert paths(store, "many", after="many/1097") == ["many/1098", "many/1099"]
        assert paths(store, "many", after="many/1097x") == ["many/1098", "many/1099"]
        assert paths(store, "none") == []

    def test_folders_lists_names_one_level_deep(self, store: ObjectStore) -> None:
        for path in ["t/corpora/b/log/1", "t/corpora/a/log/1", "t/corpora/a/log/2", "t/x"]:
            store.put(path, b"")
        assert list(store.folders("t/corpora")) == ["a", "b"]
        assert list(store.folders("t")) == ["corpora"]
        assert list(store.folders("none")) == []

    def test_deleting_passes_over_what_is_gone(self, store: ObjectStore) -> None:
        for name in "abc":
            store.put(name, b"")
        store.delete(["a", "missing/x", "b"])
        store.delete([])
        assert paths(store) == ["c"]

    def test_head_tells_size_and_time_in_utc(self, store: ObjectStore) -> None:
        before = datetime.now(UTC) - timedelta(seconds=2)
        store.put("a", b"123")
        info = store.head("a")
        assert (info.path, info.size, info.modified.utcoffset()) == ("a", 3, timedelta(0))
        assert before <= info.modified <= datetime.now(UTC) + timedelta(seconds=2)

    def test_of_many_threads_one_wins_a_put_if_absent(self, store: ObjectStore) -> None:
        def attempt(number: int) -> bool:
            try:
                store.put("contested", str(number).encode(), if_absent=True)
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(attempt, range(16)))
        assert sum(won) == 1
        assert store.get("contested") == str(won.index(True)).encode()

    def test_sync_and_sweep_leave_objects_alone(self, store: ObjectStore) -> None:
        store.put("a/b", b"x")
        store.sync(["a/b"])
        assert store.sweep("a", before=datetime.now(UTC) + timedelta(hours=1)) == 0
        assert store.get("a/b") == b"x"


class TestPickling:
    def test_stores_outside_this_process_open_again_elsewhere(self, tmp_path: Path, s3: S3Server) -> None:
        for store in (open_object_store(tmp_path.as_uri()), open_object_store("s3://lake/pickled", s3.options)):
            store.put("a", b"x")
            assert pickle.loads(pickle.dumps(store)).get("a") == b"x"

    def test_memory_refuses_to_leave_its_process(self) -> None:
        with pytest.raises(UsageError, match="cannot leave its process"):
            pickle.dumps(open_object_store("memory://"))


class TestMemory:
    def test_named_stores_are_shared_and_unnamed_ones_are_not(self) -> None:
        open_object_store("memory://shared-test").put("a", b"x")
        assert open_object_store("memory://shared-test").get("a") == b"x"
        assert paths(open_object_store("memory://")) == []


class TestOpening:
    @pytest.mark.parametrize(
        ("url", "options", "message"),
        [
            ("/srv/objects", {}, "a folder is written 'file:///srv/objects'"),
            ("ftp://host/x", {}, "must start with"),
            ("file://host/x", {}, "must be absolute"),
            ("memory://", {"region": "x"}, "takes no options"),
            ("s3://lake", {"nonsense": "sesame"}, "'nonsense'"),
            ("s3://lake", {"timeout": "soon", "secret_access_key": "sesame"}, "cannot be opened"),
            ("s3://lake", {"max_retries": "many"}, "cannot be opened"),
            ("az://container/x", {}, "Account"),
            ("az://container/x?sig=sesame", {}, "no credentials"),
        ],
    )
    def test_what_is_not_understood_is_refused_with_a_hint_and_without_values(
        self, url: str, options: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in os.environ if name.startswith("AZURE_")]:
            monkeypatch.delenv(name)
        with pytest.raises(ConfigurationError, match=message) as caught:
            open_object_store(url, options)
        assert "sesame" not in str(caught.value)

    def test_every_cloud_opens_without_being_contacted(self) -> None:
        for url, options in [
            ("s3://bucket/prefix", {"region": "eu-central-1", "timeout": "5s"}),
            ("gs://bucket/prefix", {}),
            ("az://container/prefix", {"account_name": "account"}),
        ]:
            assert open_object_store(url, options).url == url

    def test_a_folder_url_may_hold_spaces_and_any_script(self, tmp_path: Path) -> None:
        folder = tmp_path / "my objects ü"
        open_object_store(folder.as_uri()).put("a", b"x")
        assert (folder / "a").read_bytes() == b"x"


class TestBrokenBackends:
    def test_a_missing_bucket_is_named(self, s3: S3Server) -> None:
        store = open_object_store("s3://no-such-bucket/x", s3.options)
        for action in (lambda: store.put("a", b""), lambda: store.get("a"), lambda: list(store.list())):
            with pytest.raises(BackendError, match="bucket or container does not exist") as caught:
                action()
            assert not caught.value.retryable

    def test_a_server_that_does_not_answer_may_be_asked_again(self, s3: S3Server) -> None:
        store = open_object_store("s3://lake", {**s3.options, "endpoint": "http://127.0.0.1:9"})
        with pytest.raises(BackendError, match="cannot be reached") as caught:
            store.get("a")
        assert caught.value.retryable

    @pytest.mark.parametrize(
        ("status", "code", "message", "retryable"),
        [
            (403, "InvalidAccessKeyId", "access was refused .InvalidAccessKeyId.", False),
            (403, "SignatureDoesNotMatch", "access was refused", False),
            (401, "", "access was refused .401.", False),
            (503, "SlowDown", "answered 503 SlowDown", True),
            (429, "TooManyRequests", "answered 429", True),
            (507, "InsufficientStorage", "answered 507", True),
            (400, "BadDigest", "answered 400 BadDigest", False),
        ],
    )
    def test_answers_of_a_server_are_told_apart_and_no_secret_is_repeated(
        self, status: int, code: str, message: str, retryable: bool, canned_server: CannedServer
    ) -> None:
        body = f"<Error><Code>{code}</Code><Message>key test-key-id secret very-secret-key</Message></Error>"
        endpoint = canned_server(status, body)
        options = {"endpoint": endpoint, "region": "us-east-1", "max_retries": "0"}
        options |= {"access_key_id": "test-key-id", "secret_access_key": "very-secret-key"}
        store = open_object_store("s3://lake", options)
        with pytest.raises(BackendError, match=message) as caught:
            store.put("a", b"")
        assert caught.value.retryable is retryable
        assert "secret" not in str(caught.value)
        assert caught.value.__cause__ is None

    def test_no_credentials_outside_the_cloud_is_said_soon(self, s3: S3Server) -> None:
        code = """
            import sys
            from lightrag.errors import BackendError
            from lightrag.storage.objects import open_object_store
            try:
                open_object_store("s3://lake", {"region": "us-east-1", "endpoint": sys.argv[1],
                    "metadata_endpoint": "http://127.0.0.1:9", "max_retries": "0"}).get("a")
            except BackendError as error:
                print(error)
        """
        clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        assert "credentials" in run(code, s3.endpoint, env=clean).stdout

    @pytest.mark.skipif(os.name != "posix", reason="needs process limits")
    def test_a_full_disk_says_so_and_leaves_nothing_behind(self, tmp_path: Path) -> None:
        # The limit on file sizes fails writes where a full disk would, and needs no rights.
        code = """
            import resource, sys
            from lightrag.errors import BackendError
            from lightrag.storage.objects import MIB, open_object_store
            store = open_object_store(sys.argv[1])
            store.put("before", b"x")
            resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, MIB))
            for write in (
                lambda: store.put("whole", b"x" * 2 * MIB),
                lambda: store.put("new", b"x" * 2 * MIB, if_absent=True),
                lambda: store.put_parts("parts", [b"x" * MIB] * 20),
            ):
                try:
                    write()
                except BackendError as error:
                    print(error.retryable, error)
            print(sorted(info.path for info in store.list()))
        """
        result = run(code, tmp_path.as_uri())
        lines = result.stdout.splitlines()
        assert [line.startswith("False ") and "larger than this system allows" in line for line in lines[:3]] == [
            True
        ] * 3
        assert lines[3] == "['before']"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["before"]

    @pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
    def test_a_really_full_disk_says_so(self, tmp_path: Path) -> None:
        code = """
            import sys
            from lightrag.errors import BackendError
            from lightrag.storage.objects import MIB, open_object_store
            try:
                open_object_store(sys.argv[1]).put("a", b"x" * 4 * MIB)
            except BackendError as error:
                print(error)
        """
        script = f'mount -t tmpfs -o size=1m small {tmp_path} && exec {sys.executable} -c "$1" {tmp_path.as_uri()}'
        command = ["unshare", "--mount", "sh", "-c", script, "sh", textwrap.dedent(code)]
        result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if result.returncode and "mount" in result.stderr + "unshare":
            pytest.skip(f"this system mounts nothing here: {result.stderr.strip()[:200]}")
        assert "the disk is full" in result.stdout

    @pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
    def test_a_folder_of_somebody_else_says_so(self, tmp_path: Path) -> None:
        store = open_object_store(tmp_path.as_uri())
        tmp_path.chmod(0o500)
        with pytest.raises(BackendError, match="permission denied"):
            store.put("a", b"")

    def test_an_object_cannot_be_a_folder_too(self, tmp_path: Path) -> None:
        store = open_object_store(tmp_path.as_uri())
        store.put("a/b", b"")
        with pytest.raises(BackendError, match="is a folder"):
            store.put("a", b"")
        with pytest.raises(BackendError, match="is an object itself"):
            store.put("a/b/c", b"")


class TestProcesses:
    def test_of_many_processes_one_wins_a_put_if_absent(self, tmp_path: Path) -> None:
        code = """
            import sys, time
            from lightrag.errors import ConflictError
            from lightrag.storage.objects import open_object_store
            store = open_object_store(sys.argv[1])
            print("ready", flush=True)
            sys.stdin.readline()
            for round in range(300):
                time.sleep(0.002)  # all get their turn, also where they share one busy processor
                try:
                    store.put(f"contested/{round}", sys.argv[2].encode() * 1000, if_absent=True)
                    print(round)
                except ConflictError:
                    pass
        """
        racers = {name: start(code, tmp_path.as_uri(), name) for name in "abcd"}
        wins = {name: set(output.split()) for name, output in race(racers).items()}
        store = open_object_store(tmp_path.as_uri())
        assert sum(len(won) for won in wins.values()) == 300
        for name, won in wins.items():
            assert all(store.get(f"contested/{number}") == name.encode() * 1000 for number in won)
        assert len([name for name in wins if wins[name]]) > 1, "they did not race"

    def test_killing_a_writer_never_shows_half_an_object_and_its_remains_are_swept(self, tmp_path: Path) -> None:
        code = """
            import itertools, sys
            from lightrag.storage.objects import MIB, open_object_store
            store = open_object_store(sys.argv[1])
            print("ready", flush=True)
            for number in itertools.count():
                letter = bytes([97 + number % 26])
                store.put_parts("parts", (letter * MIB for _ in range(24)), part_bytes=5 * MIB)
                store.put("whole", letter * 8 * MIB)
                store.put(f"new/{number}", letter * 4 * MIB, if_absent=True)
        """
        for delay in (0.05, 0.12, 0.2):
            writer = start(code, tmp_path.as_uri())
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
            writer.wait(timeout=30)
            writer.stdout.close()
            store = open_object_store(tmp_path.as_uri())
            for info in store.list():
                data = store.get(info.path)
                expected = {"parts": 24 * MIB, "whole": 8 * MIB}.get(info.path, 4 * MIB)
                assert data == data[:1] * expected
            store.delete([info.path for info in store.list()])
        left = [path for path in tmp_path.rglob("*") if path.is_file()]
        later = datetime.now(UTC) + timedelta(seconds=1)
        assert store.sweep("", before=datetime.now(UTC) - timedelta(hours=1)) == 0
        assert store.sweep("", before=later) == len(left)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
