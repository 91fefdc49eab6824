"""A full disk, a vector store that goes away, another database: nothing accepted is lost, and the cure is named."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from lightrag.conversation import LightMemory
from lightrag.errors import BackendError, ConfigurationError, UsageError
from lightrag.models.fakes import HashingEmbedder
from tests.lightrag.conversation.conftest import Opener, echo, say
from tests.lightrag.storage.test_records import postgres as postgres

# --- A full disk ------------------------------------------------------------------------------------------------------


def limit_pages(memory: LightMemory, pages: int) -> None:
    """Let the history's file grow to so many pages and no further, on every connection."""
    engine = memory._engine.history.ledger.engine
    engine.dispose()

    @event.listens_for(engine, "connect")
    def bounded(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")


def test_a_full_disk_refuses_a_message_whole_and_the_rest_goes_on_afterwards(open_memory: Opener) -> None:
    memory = open_memory()
    memory.add_memory(say("I play the cello."), force_extract=True)
    with memory._engine.history.ledger.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    limit_pages(memory, pages + 8)
    accepted: list[tuple[str, ...]] = []

    def fill() -> None:
        for n in range(40):
            text = f"I keep box {n}: " + "x" * 4000
            accepted.append(memory.add_memory([say(text), say(f"And lid {n}.")]).accepted)

    with pytest.raises(BackendError, match="free space") as caught:
        fill()
    assert caught.value.retryable
    assert 0 < len(accepted) < 40
    kept = [entry.text for entry in memory.entries()]
    assert sum("box" in text for text in kept) == sum("lid" in text for text in kept) == len(accepted)
    assert memory.retrieve("cello")

    limit_pages(memory, 1_000_000)
    memory.add_memory(say("There is space again."), force_extract=True)
    assert not memory.flush().problems
    assert len({message for part in accepted for message in part}) == 2 * len(accepted)
    assert sum("box" in entry.text for entry in memory.entries()) == len(accepted)


_FILLER = """
import json, resource, signal, sys
from lightrag.conversation import LightMemory
from lightrag.errors import BackendError
from lightrag.models.fakes import HashingEmbedder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
config = {"embedding_retriever": {"model_name": "qdrant", "configs": {"path": sys.argv[1]}}}
memory = LightMemory.from_config(config, embedder=HashingEmbedder())
memory.add_memory({"role": "user", "content": "I play the cello.", "time_stamp": "2024-01-01"}, force_extract=True)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
accepted, failure = 1, ""
for n in range(400):
    message = {"role": "user", "content": f"I own box {n}. " + "y" * 3000, "time_stamp": "2024-01-02"}
    try:
        memory.add_memory(message, force_extract=True)
    except BackendError as error:
        failure = str(error)
        break
    accepted += 1
print(json.dumps({"accepted": accepted, "failure": failure}), flush=True)
import os
os._exit(0)
"""


def test_files_that_may_not_grow_cost_no_message_that_was_accepted(open_memory: Opener, tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    done = subprocess.run(
        [sys.executable, "-c", _FILLER, str(folder)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["failure"]
    assert 1 < said["accepted"] < 400
    memory = open_memory(path=folder)
    memory.flush()
    boxes = [entry for entry in memory.entries() if "box" in entry.text]
    # What was refused half-way may have become durable before its index failed; it was never promised.
    assert said["accepted"] - 1 <= len(boxes) <= said["accepted"]
    assert memory.retrieve("cello")


def test_places_that_cannot_be_written_to_are_named_with_the_option(open_memory: Opener, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    cases: list[tuple[str, Path, dict[str, Any]]] = [
        ("folder of the history .* cannot be made", tmp_path / "file", {}),
        (
            "folder of the vectors .* path of embedding_retriever",
            tmp_path / "file",
            {"history_db_path": tmp_path / "h"},
        ),
        ("is a folder, not a file; set history_db_path", tmp_path / "memory", {"history_db_path": tmp_path}),
    ]
    for words, path, options in cases:
        with pytest.raises(ConfigurationError, match=words):
            open_memory(path=path, **{name: str(value) for name, value in options.items()})


# --- A vector store that goes away ------------------------------------------------------------------------------------


class Outage:
    """A Qdrant client whose server can be switched off; everything else is the real client."""

    down = False

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        from qdrant_client.http.exceptions import ResponseHandlingException

        if Outage.down and name != "close":

            def refuse(*_: Any, **__: Any) -> None:
                raise ResponseHandlingException(ConnectionError("connection refused"))

            return refuse
        return getattr(self._client, name)


@pytest.fixture
def qdrant_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every client of a server reaches one engine in this process, until it is switched off."""
    import qdrant_client

    real = qdrant_client.QdrantClient
    shared = real(":memory:")
    monkeypatch.setattr(qdrant_client, "QdrantClient", lambda **_: Outage(shared))
    monkeypatch.setattr(shared, "close", lambda: None)
    monkeypatch.setattr(Outage, "down", False)
    yield
    monkeypatch.undo()
    shared.close()


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect", "ignore:Local mode performs exact")
@pytest.mark.usefixtures("qdrant_server")
def test_messages_of_an_outage_are_accepted_and_found_once_the_store_is_back(
    open_memory: Opener, tmp_path: Path
) -> None:
    options = {"store": {"url": "http://127.0.0.1:1"}, "history_db_path": str(tmp_path / "history.db"), "script": echo}
    memory = open_memory(**options)
    memory.add_memory(say("I play the cello."), force_extract=True)
    assert memory.retrieve("cello", strategy="embedding")

    Outage.down = True
    report = memory.add_memory([say("My boat is red."), say("My house is blue.")], force_extract=True)
    assert len(report.accepted) == len(report.entries) == 2
    assert [(problem.stage, problem.retried) for problem in report.problems] == [("index", True)]
    with pytest.raises(BackendError, match="did not answer") as caught:
        memory.retrieve("boat", strategy="embedding")
    assert caught.value.retryable
    assert "My boat is red." in memory.retrieve("boat", strategy="context")[0]
    with pytest.raises(BackendError, match="did not answer"):
        memory.construct_update_queue_all_entries()

    Outage.down = False
    for text in ("My boat is red.", "My house is blue.", "I play the cello."):
        assert text in memory.retrieve(text, limit=1, strategy="embedding")[0]
    assert memory.construct_update_queue_all_entries() > 0


def test_a_server_that_never_answers_is_reported_at_the_start(tmp_path: Path) -> None:
    config = {
        "embedding_retriever": {"model_name": "qdrant", "configs": {"url": "http://127.0.0.1:1"}},
        "history_db_path": str(tmp_path / "history.db"),
    }
    with pytest.raises(BackendError, match="Qdrant server") as caught:
        LightMemory.from_config(config, embedder=HashingEmbedder())
    assert caught.value.retryable


# --- Postgres ---------------------------------------------------------------------------------------------------------


@pytest.mark.services
def test_a_history_in_postgres_does_what_one_in_a_file_does(open_memory: Opener, postgres: str, tmp_path: Path) -> None:
    one = open_memory(history_db_path=postgres, path=tmp_path / "one", script=echo)
    for _ in range(2):
        one.add_memory([say("I play the cello."), say("My boat is red.", "2024-02-01")], force_extract=True)
    assert [entry.occurrences for entry in one.entries() if entry.kind == "fact"] == [2, 2]
    report = one.add_memory(say("I sing."), request_id="r1")
    assert one.add_memory(say("I sing."), request_id="r1").accepted == report.accepted
    operation = one.delete(next(entry.entry_id for entry in one.entries() if "boat" in entry.text))
    assert one.undo(operation)

    # Another replica with its own index over the same history.
    other = open_memory(history_db_path=postgres, path=tmp_path / "other", script=echo)
    assert other.retrieve("cello", limit=3) == one.retrieve("cello", limit=3) != []
    other.flush()
    assert any(entry.kind == "fact" and entry.text == "I sing." for entry in one.entries())
    assert one.forget() > 0
    assert other.entries() == []


async def test_a_blocking_call_inside_an_event_loop_is_refused_and_stores_nothing(open_memory: Opener) -> None:
    memory = open_memory(script=echo)
    calls = [lambda: memory.add_memory(say("I own a boat.")), lambda: memory.retrieve("boat")]
    for call in calls:
        with pytest.raises(UsageError, match=r"inside an event loop: await the method of the same name on '\.aio'"):
            call()
    assert await memory.aio.retrieve("boat") == []
    await memory.aio.add_memory(say("I own a boat."))
    assert len(await memory.aio.retrieve("boat")) == 1
