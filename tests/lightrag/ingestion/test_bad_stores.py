"""Sources and stores that refuse, fill up or stumble, over loopback: what a job says, and what it leaves."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lightrag.errors import BackendError
from lightrag.storage.objects import open_object_store
from tests.lightrag.ingestion.conftest import Bench, story
from tests.lightrag.storage.conftest import S3Server, s3

__all__ = ["s3"]

Rule = Callable[[str, str, int], tuple[int, str] | None]
"""Method, path and how often both have come: status and code to answer with, or nothing to let the request through."""
_HOP = {"connection", "host", "transfer-encoding", "content-length", "server", "date"}


class Gate:
    """A server in front of the S3 server that answers some requests itself."""

    def __init__(self, behind: str) -> None:
        self.rule: Rule = lambda method, path, count: None
        self.seen: Counter[tuple[str, str]] = Counter()
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                place = (self.command, self.path)
                gate.seen[place] += 1
                if refused := gate.rule(*place, gate.seen[place]):
                    status, code = refused
                    self._send(status, {}, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode())
                    return
                kept = {"Content-Type": "application/octet-stream", **dict(self.headers)}
                kept = {name: value for name, value in kept.items() if name.lower() not in _HOP}
                request = urllib.request.Request(behind + self.path, body or None, kept, method=self.command)
                try:
                    with urllib.request.urlopen(request, timeout=30) as answer:
                        self._send(answer.status, dict(answer.headers), answer.read())
                except urllib.error.HTTPError as error:
                    self._send(error.code, dict(error.headers), error.read())

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer

            def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in _HOP:
                        self.send_header(name, value)
                length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def gate(s3: S3Server) -> Iterator[Gate]:
    started = Gate(s3.endpoint)
    yield started
    started.close()


def storage(url: str, s3: S3Server, gate: Gate, **options: str) -> dict[str, object]:
    return {"storage": {"url": url, "options": {**s3.options, "endpoint": gate.endpoint, **options}}}


def test_a_source_that_refuses_the_credentials_fails_the_job_without_repeating_them(
    s3: S3Server, gate: Gate, bench: Bench
) -> None:
    gate.rule = lambda method, path, count: (403, "InvalidAccessKeyId")
    with pytest.raises(BackendError, match="access was refused") as caught:
        bench.ingest("s3://lake/refused", options={**s3.options, "endpoint": gate.endpoint})
    assert "very-secret-key" not in str(caught.value)
    assert not caught.value.retryable
    assert bench.log.latest() is None


def test_a_store_without_its_bucket_fails_the_job_by_name(s3: S3Server, gate: Gate, bench: Bench) -> None:
    bench.write_many(2)
    with pytest.raises(BackendError, match="bucket or container does not exist"):
        bench.ingest(settings=storage("s3://no-such-bucket/x", s3, gate))


@pytest.mark.parametrize(
    ("status", "code"), [(507, "InsufficientStorage"), (403, "QuotaExceeded")], ids=["full", "over quota"]
)
def test_a_store_that_fills_up_fails_the_job_and_the_next_one_goes_on(
    s3: S3Server, gate: Gate, bench: Bench, status: int, code: str
) -> None:
    bench.write_many(5)
    settings = {**storage(f"s3://lake/full-{status}", s3, gate), "ingest": {"batch_bytes": 1}}

    def full(method: str, path: str, count: int) -> tuple[int, str] | None:
        puts = sum(number for (each, _), number in gate.seen.items() if each == "PUT")
        return (status, code) if method == "PUT" and puts > 7 else None

    gate.rule = full
    with pytest.raises(BackendError, match=str(status)):
        bench.ingest(settings=settings)
    log = bench.line(settings=settings).log
    assert log.latest() is None
    gate.rule = lambda method, path, count: None
    summary = bench.ingest(settings=settings)
    assert (summary.new, summary.failed, summary.version) == (5, 0, 1)
    assert summary.resumed >= 1
    assert not log.check_integrity(deep=True).problems


def test_every_request_may_stumble_once_and_is_asked_again_after_a_pause(
    s3: S3Server, gate: Gate, bench: Bench
) -> None:
    source = open_object_store("s3://lake/stumbling", s3.options)
    for number in range(3):
        source.put(f"{number}.txt", story(number).encode())
    gate.rule = lambda method, path, count: (503, "SlowDown") if count == 1 else None
    options = {**s3.options, "endpoint": gate.endpoint, "max_retries": "3"}
    summary = bench.ingest(
        "s3://lake/stumbling",
        options=options,
        settings=storage("s3://lake/stumbled", s3, gate, max_retries="3"),
    )
    assert (summary.new, summary.failed) == (3, 0)
    assert all(gate.seen["GET", f"/lake/stumbling/{number}.txt"] > 1 for number in range(3))
