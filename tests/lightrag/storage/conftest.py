"""Every kind of store that runs without an account: a folder, memory, and S3 over loopback."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.types import CorpusId

CORPUS = CorpusId("acme", "reports")

_numbers = itertools.count()


class S3Server(NamedTuple):
    endpoint: str
    options: dict[str, str]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server on a free port of this machine, with an empty bucket ``lake``."""
    boto3 = pytest.importorskip("boto3")
    server_module = pytest.importorskip("moto.server")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    options = {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "test-key-id",
        "secret_access_key": "very-secret-key",
        "max_retries": "1",
        "retry_timeout": "5",
    }
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="test-key-id",
        aws_secret_access_key="very-secret-key",
    )
    client.create_bucket(Bucket="lake")
    responses = pytest.importorskip("moto.s3.responses").S3Response
    put, one_at_a_time = responses.put_object, threading.Lock()

    def put_alone(response: Any) -> Any:
        # S3 decides a conditional put in one step; threads of this server look first, and then put.
        with one_at_a_time:
            return put(response)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(responses, "put_object", put_alone)
        yield S3Server(endpoint, options)
    server.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    """An empty store of each kind."""
    if request.param == "file":
        return open_object_store((tmp_path / "objects").as_uri())
    if request.param == "memory":
        return open_object_store("memory://")
    server: S3Server = request.getfixturevalue("s3")
    return open_object_store(f"s3://lake/test-{next(_numbers)}", server.options)


@pytest.fixture
def log(store: ObjectStore) -> CorpusLog:
    """An empty corpus in each kind of store."""
    return CorpusLog(store, CORPUS)


@pytest.fixture
def memory_log() -> CorpusLog:
    """An empty corpus in memory, for behaviour that does not depend on the store."""
    return CorpusLog(open_object_store("memory://"), CORPUS)


@pytest.fixture
def fast_log(tmp_path: Path) -> Callable[[], CorpusLog]:
    """Opens one corpus in one folder, again and again, as several processes would."""
    url = (tmp_path / "objects").as_uri()
    return lambda: CorpusLog(open_object_store(url), CORPUS)
