"""The routes of conversation memory over the real engine, and the client that speaks to them."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from lightrag.api.app import create_app
from lightrag.client import AsyncClient, Client
from lightrag.config import DeadlineSettings, load_settings
from lightrag.conversation.assembly import open_engine
from lightrag.conversation.engine_service import EngineMemories
from lightrag.conversation.opening import memory_configuration
from lightrag.errors import ConflictError, DataError, NotFoundError, UsageError
from lightrag.models.fakes import HashingEmbedder, ScriptedLanguageModel
from lightrag.rag import QuestionPipeline, Stages
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.conversation.conftest import echo, say
from tests.lightrag.test_rag import Generate, Retrieve


@pytest.fixture
async def memories(tmp_path: Path) -> AsyncIterator[EngineMemories]:
    """Real history, real vectors, hashed words."""
    settings = load_settings(None, home=tmp_path)
    engine = open_engine(memory_configuration(settings), embedder=HashingEmbedder())
    memories = EngineMemories(settings, engine=engine)
    yield memories
    await memories.close()


def transport(
    memories: EngineMemories, tenant: str = "acme", deadlines: DeadlineSettings | None = None
) -> httpx.ASGITransport:
    pipeline = QuestionPipeline(Stages(Retrieve(), Generate()))
    app = create_app(pipeline, OneCorpus(), tenant=tenant, memories=memories, deadlines=deadlines)
    return httpx.ASGITransport(app)


@pytest.fixture
async def http(memories: EngineMemories) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=transport(memories), base_url="http://service") as client:
        yield client


@pytest.fixture
async def client(memories: EngineMemories) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("http://service", transport=transport(memories)) as client:
        yield client


def body(text: str, user: str = "ada", **more: Any) -> dict[str, Any]:
    return {"user": user, "messages": say(text), **more}


async def test_what_waits_is_accepted_and_what_was_extracted_is_created(http: httpx.AsyncClient) -> None:
    waiting = await http.post("/v1/memories", json=body("I play the cello."))
    made = await http.post("/v1/memories", json=body("I own a horse.", force_extract=True))
    assert (waiting.status_code, waiting.json()["buffered"]) == (202, 1)
    assert (made.status_code, made.json()["buffered"]) == (201, 0)
    assert made.json()["entries"]


async def test_an_entry_is_found_shown_and_listed(http: httpx.AsyncClient) -> None:
    await http.post("/v1/memories", json=body("I play the cello.", force_extract=True))
    found = (await http.post("/v1/memories/search", json={"user": "ada", "query": "cello"})).json()
    entry = found["entries"][0]["entry"]
    shown = await http.get(f"/v1/memories/{entry['entry_id']}", params={"user": "ada"})
    assert shown.json() == entry
    assert shown.headers["etag"] == f'"{entry["revision"]}"'
    listed = (await http.get("/v1/memories", params={"user": "ada"})).json()
    assert (listed["entries"], listed["next"]) == ([entry], None)
    block = (await http.post("/v1/memories/context", json={"user": "ada", "query": "cello"})).json()
    assert block["text"] == "[2024-01-15 Mon]\n- User: I play the cello."


async def test_pages_follow_each_other_without_gaps_while_entries_are_added(client: AsyncClient) -> None:
    texts = [f"I bought car {number} today." for number in range(7)]
    for number, text in enumerate(texts):
        await client.memories.add(say(text, f"2024-01-{number + 1:02d}"), user="ada", force_extract=True)
    page = await client.memories.page(user="ada", limit=3)
    seen = [entry.text for entry in page.entries]
    await client.memories.add(say("I was born.", "1990-01-01"), user="ada", force_extract=True)
    while page.next:
        page = await client.memories.page(user="ada", limit=3, cursor=page.next)
        seen += [entry.text for entry in page.entries]
    assert seen == [f"User: {text}" for text in texts]
    assert len([entry async for entry in client.memories.all(user="ada")]) == 8


async def test_an_edit_replaces_the_entry_and_can_be_taken_back(client: AsyncClient) -> None:
    await client.memories.add(say("I play the cello."), user="ada", force_extract=True)
    (old,) = (await client.memories.page(user="ada")).entries
    edited = await client.memories.edit(old.entry_id, "Ada plays the viola.", user="ada", revision=old.revision)
    assert [entry.text async for entry in client.memories.all(user="ada")] == ["Ada plays the viola."]
    assert not (await client.memories.search("cello", user="ada")).entries
    assert (await client.memories.search("viola", user="ada")).entries[0].entry == edited.entry
    assert (await client.memories.get(old.entry_id, user="ada")).superseded_by == edited.entry.entry_id
    with pytest.raises(NotFoundError):
        await client.memories.edit(old.entry_id, "Again.", user="ada")
    await client.memories.undo(edited.operation, user="ada")
    assert [entry.text async for entry in client.memories.all(user="ada")] == ["User: I play the cello."]


async def test_an_entry_that_changed_meanwhile_is_not_overwritten(client: AsyncClient, http: httpx.AsyncClient) -> None:
    await client.memories.add(say("I play the cello."), user="ada", force_extract=True)
    (old,) = (await client.memories.page(user="ada")).entries
    await client.memories.add(say("I play the cello.", "2024-02-01"), user="ada", force_extract=True)
    with pytest.raises(ConflictError, match="read it again"):
        await client.memories.edit(old.entry_id, "Ada sings.", user="ada", revision=old.revision)
    with pytest.raises(ConflictError):
        await client.memories.delete(old.entry_id, user="ada", revision=old.revision)
    refused = await http.patch(
        f"/v1/memories/{old.entry_id}",
        json={"user": "ada", "text": "Ada sings."},
        headers={"If-Match": f'"{old.revision}"'},
    )
    assert (refused.status_code, refused.json()["status"]) == (412, 412)


async def test_a_deleted_entry_is_not_found_by_any_of_its_words_until_it_is_undone(client: AsyncClient) -> None:
    await client.memories.add(say("I play the cello."), user="ada", force_extract=True)
    (entry,) = (await client.memories.page(user="ada")).entries
    operation = await client.memories.delete(entry.entry_id, user="ada")
    assert not (await client.memories.search("cello", user="ada")).entries
    assert not (await client.memories.page(user="ada")).entries
    assert await client.memories.undo(operation, user="ada") == [entry.entry_id]
    assert (await client.memories.search("cello", user="ada")).entries
    actions = [change.action for change in await client.memories.history(entry.entry_id, user="ada")]
    assert actions == ["add", "supersede", "undo"]


async def test_users_and_tenants_never_see_each_other(memories: EngineMemories) -> None:
    async with (
        AsyncClient("http://service", transport=transport(memories)) as acme,
        AsyncClient("http://service", transport=transport(memories, "globex")) as globex,
    ):
        report = await acme.memories.add(say("I play the cello."), user="ada", force_extract=True)
        (entry_id,) = report.entries
        for other, user in ((acme, "bob"), (globex, "ada")):
            assert not (await other.memories.search("cello", user=user)).entries
            assert not (await other.memories.page(user=user)).entries
            assert await other.memories.context("cello", user=user) == ""
            for call in (
                other.memories.get(entry_id, user=user),
                other.memories.delete(entry_id, user=user),
                other.memories.edit(entry_id, "Mine.", user=user),
                other.memories.history(entry_id, user=user),
            ):
                with pytest.raises(NotFoundError):
                    await call
        assert (await acme.memories.search("cello", user="ada")).entries


async def test_asking_about_users_that_never_were_leaves_no_trace(
    memories: EngineMemories, client: AsyncClient
) -> None:
    for user in ("eve", "mallory"):
        await client.memories.search("cello", user=user)
        await client.memories.page(user=user)
        await client.memories.consolidate(user=user)
        assert await client.memories.forget(user=user) == 0
    assert (await memories.engine()).history.ledger.scopes() == []


async def test_the_same_request_stores_nothing_again_and_another_one_with_its_id_is_refused(
    client: AsyncClient,
) -> None:
    first = await client.memories.add(say("I sing."), user="ada", request_id="r1")
    again = await client.memories.add(say("I sing."), user="ada", request_id="r1")
    assert (again.repeated, again.accepted) == (True, first.accepted)
    with pytest.raises(ConflictError, match="r1"):
        await client.memories.add(say("I dance."), user="ada", request_id="r1")


async def test_later_facts_replace_earlier_ones_and_forgetting_leaves_nothing(client: AsyncClient) -> None:
    for day in ("2024-01-01", "2024-02-01"):
        await client.memories.add(say("My favorite color is blue, as ever.", day), user="ada")
    report = await client.memories.consolidate(user="ada", flush=True)
    assert report.usage.calls == 0
    assert len((await client.memories.page(user="ada")).entries) == 1
    assert await client.memories.forget(user="ada") > 0
    assert not (await client.memories.page(user="ada", include_superseded=True)).entries


@pytest.mark.parametrize(
    ("method", "path", "given", "status", "words"),
    [
        ("POST", "", {"user": "ada", "messages": []}, 422, "empty"),
        ("POST", "", {"user": " ", "messages": say("I sing.")}, 422, "name the user"),
        ("POST", "", {"user": "ada", "messages": {"role": "user", "content": "I sing."}}, 422, "time_stamp"),
        ("POST", "", {"user": "ada", "messages": say("I sing.", role="cat")}, 422, "'cat'"),
        ("POST", "", {"user": "ada", "messages": say("I sing."), "forse": True}, 422, "forse"),
        ("POST", "/search", {"user": "ada", "query": " "}, 422, "empty"),
        ("POST", "/search", {"user": "ada", "query": "x", "limit": 0}, 422, "limit"),
        ("POST", "/search", {"user": "ada", "query": "x", "filter": {"speeker": "a"}}, 422, "speaker"),
        ("POST", "/undo", {"user": "ada", "operation": "nothing"}, 404, "nothing"),
        ("GET", "/e99?user=ada", None, 404, "e99"),
        ("GET", "/nonsense?user=ada", None, 404, "nonsense"),
        ("DELETE", "/m1?user=ada", None, 422, "message"),
        ("GET", "?user=ada&cursor=nonsense", None, 422, "cursor"),
        ("GET", "", None, 422, "user"),
    ],
)
async def test_errors_are_problem_documents(
    http: httpx.AsyncClient, method: str, path: str, given: Any, status: int, words: str
) -> None:
    await http.post("/v1/memories", json=body("I play the cello.", force_extract=True))
    response = await http.request(method, f"/v1/memories{path}", json=given)
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert words in response.json()["detail"]


async def test_errors_come_back_as_the_branch_that_was_raised(client: AsyncClient) -> None:
    with pytest.raises(UsageError, match="empty"):
        await client.memories.search(" ", user="ada")
    with pytest.raises(DataError, match="time stamp 'soon'"):
        await client.memories.add(say("I sing.", "soon"), user="ada")


async def test_the_client_takes_times_and_bytes_as_a_memory_in_process_does(client: AsyncClient) -> None:
    message = {"role": "user", "content": "I play the cello.", "time_stamp": datetime(2024, 1, 15, 10, 30, tzinfo=UTC)}
    await client.memories.add([{**message, "images": [b"GIF89a"]}], user="ada", force_extract=True)
    found = await client.memories.search(
        "cello", user="ada", as_of=datetime(2025, 1, 1), filter={"time": {"gte": date(2024, 1, 1)}}
    )
    assert found.entries[0].entry.time == message["time_stamp"]
    assert await client.memories.context("cello", user="ada", as_of=date(2023, 1, 1)) == ""
    with pytest.raises(UsageError, match="list of dicts"):
        await client.memories.add(cast(Any, "I sing."), user="ada")


def test_the_blocking_face_does_the_same(tmp_path: Path) -> None:
    settings = load_settings(None, home=tmp_path)
    engine = open_engine(memory_configuration(settings), embedder=HashingEmbedder())
    memories = EngineMemories(settings, engine=engine)
    with Client("http://service", transport=transport(memories)) as client:
        client.memories.add([say(f"I bought car {number}.") for number in range(3)], user="ada", force_extract=True)
        assert len(client.memories.page(user="ada", limit=2).entries) == 2
        first, *_ = client.memories.all(user="ada")
        assert client.memories.get(first.entry_id, user="ada") == first
        assert client.memories.search("car", user="ada").entries
        assert "car" in client.memories.context("car", user="ada")
        edited = client.memories.edit(first.entry_id, "Ada sold car 0.", user="ada")
        client.memories.undo(edited.operation, user="ada")
        operation = client.memories.delete(first.entry_id, user="ada", revision=None)
        assert client.memories.undo(operation, user="ada") == [first.entry_id]
        assert client.memories.history(first.entry_id, user="ada")
        client.memories.consolidate(user="ada")
        assert client.memories.forget(user="ada")
    client._loop.close()
    engine.history.close()
    engine.store.close()


# --- Time -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def slow_service(
    tmp_path: Path, deadlines: DeadlineSettings, seconds: float = 0.0
) -> AsyncIterator[tuple[httpx.AsyncClient, ScriptedLanguageModel]]:
    """A service whose language model takes its time."""
    settings = load_settings(None, home=tmp_path)
    model = ScriptedLanguageModel(echo, seconds=seconds)
    engine = open_engine(memory_configuration(settings), embedder=HashingEmbedder(), language_model=model)
    memories = EngineMemories(settings, engine=engine)
    async with httpx.AsyncClient(transport=transport(memories, deadlines=deadlines), base_url="http://service") as http:
        yield http, model
    await memories.close()


async def test_messages_that_a_slow_model_reads_wait_and_the_answer_comes_in_time(tmp_path: Path) -> None:
    async with slow_service(tmp_path, DeadlineSettings(request=1.0), seconds=30) as (http, model):
        late = await http.post("/v1/memories", json=body("I play the cello.", force_extract=True))
        found = await http.post("/v1/memories/search", json={"user": "ada", "query": "cello"})
    assert (late.status_code, late.json()["queued"], model.cancelled) == (202, 1, 1)
    (problem,) = late.json()["problems"]
    assert (problem["stage"], problem["retried"]) == ("extract", True)
    assert "longer than 0.8 s" in problem["reason"]
    assert found.json()["entries"]
    async with slow_service(tmp_path, DeadlineSettings()) as (http, _):
        await http.post("/v1/memories/consolidate", json={"user": "ada", "flush": True})
        listed = (await http.get("/v1/memories", params={"user": "ada"})).json()["entries"]
    assert [entry["text"] for entry in listed if entry["kind"] == "fact"] == ["I play the cello."]


async def test_a_consolidation_has_a_deadline_of_its_own_and_is_gone_on_with(tmp_path: Path) -> None:
    async with slow_service(tmp_path, DeadlineSettings(consolidate=0.3), seconds=30) as (http, _):
        await http.post("/v1/memories", json=body("I play the cello."))
        late = await http.post("/v1/memories/consolidate", json={"user": "ada", "flush": True})
    assert (late.status_code, late.json()["type"]) == (504, "urn:lightrag:problem:deadline")
    assert late.json()["detail"] == (
        "the request took longer than its 0.3 s (deadlines.consolidate); what was decided by then stays: call again to "
        "go on"
    )
    async with slow_service(tmp_path, DeadlineSettings()) as (http, _):
        await http.post("/v1/memories/consolidate", json={"user": "ada", "flush": True})
        listed = (await http.get("/v1/memories", params={"user": "ada"})).json()["entries"]
    assert [entry["text"] for entry in listed if entry["kind"] == "fact"] == ["I play the cello."]


async def test_a_locked_history_ends_at_the_deadline_and_repeating_the_request_stores_nothing_twice(
    tmp_path: Path,
) -> None:
    async with slow_service(tmp_path, DeadlineSettings(request=0.5)) as (http, _):
        await http.post("/v1/memories", json=body("I play the cello.", request_id="r0"))
        other = sqlite3.connect(tmp_path / "conversations" / "history.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        late = await http.post("/v1/memories", json=body("I own a boat in Oslo.", request_id="r1"))
        doubtful = await http.delete("/v1/memories/e1", params={"user": "ada"})
        read = await http.post("/v1/memories/search", json={"user": "ada", "query": "cello"})
        other.execute("ROLLBACK")
        other.close()
        again = await http.post("/v1/memories", json=body("I own a boat in Oslo.", request_id="r1"))
        listed = (await http.get("/v1/memories", params={"user": "ada"})).json()["entries"]
    assert (late.status_code, read.status_code, again.status_code) == (504, 200, 202)
    assert "the same request_id, which stores nothing twice" in late.json()["detail"]
    assert doubtful.status_code == 404
    assert [entry["text"] for entry in listed] == ["User: I play the cello.", "User: I own a boat in Oslo."]
