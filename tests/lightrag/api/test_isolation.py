"""Nothing that one tenant sends yields anything of another, on the whole service in this process."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lightrag.api.two_tenants import MARKS, World, furnish, open_world

pytestmark = pytest.mark.slow

UNKNOWN = {
    "corpus": "only-nothing",
    "entry_id": "e9876",
    "job_id": "01a1fd000000-000000000000",
    "document_id": "0" * 32,
    "key_id": "0" * 16,
    "name": "lost-pin",
    "tenant": "nobody",
    "model": "only-nothing",
}
BODIES: dict[str, dict[str, Any]] = {
    "ask": {"question": "Who signed the ledger?"},
    "retrieve": {"question": "Who signed the ledger?"},
    "recall": {"question": "Who signed the ledger?"},
    "compress": {"passages": ["The ledger."], "budget": 20},
    "search": {"user": "ada", "query": "Which colour?"},
    "context": {"user": "ada", "query": "Which colour?"},
    "consolidate": {"user": "ada"},
    "undo": {"user": "ada", "operation": "0" * 32},
    "completions": {"model": "notes", "messages": [{"role": "user", "content": "Who signed?"}], "user": "ada"},
    "{name}": {"version": 1},
    "{entry_id}": {"user": "ada", "text": "Something else."},
    "rotate": {"overlap_seconds": 0},
}
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "X-Tenant": st.just("globex"),
        "X-LRAG-Tenant": st.just("globex"),
        "x-session-id": st.just("globex/notes"),
        "serve_multiplexed_model_id": st.just("globex/notes@1"),
        "X-Request-ID": st.sampled_from(["globex", "a" * 200, "x y"]),
        "Cookie": st.just("tenant=globex"),
        "X-Forwarded-User": st.just("globex"),
        "If-None-Match": st.just('"1"'),
        "Idempotency-Key": st.sampled_from(["one", "two", "globex"]),
    },
)
QUERIES = st.fixed_dictionaries(
    {"user": st.sampled_from(["ada", "globex/ada", "../globex/ada", "%", "*"])},
    optional={
        "tenant": st.just("globex"),
        "cursor": st.sampled_from(["", "globex", "Z2xvYmV4", "e1"]),
        "limit": st.sampled_from(["1", "1000"]),
        "first": st.just("2020-01-01"),
    },
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("world")


@pytest.fixture(scope="module")
def world(home: Path) -> Iterator[World]:
    """One service for all tests of this module, in one event loop."""
    with asyncio.Runner() as runner:
        opening = open_world(home)
        opened = runner.run(opening.__aenter__())
        runner.run(furnish(opened, home))
        opened.run = runner.run
        yield opened
        runner.run(opening.__aexit__(None, None, None))


def in_its_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Let an asynchronous test run in the loop that the service of this module lives in."""

    @functools.wraps(test)
    def run(world: World, **arguments: Any) -> None:
        world.run(test(world, **arguments))

    return run


def operations(world: World) -> list[tuple[str, str]]:
    found = [
        (method, path)
        for path, methods in world.app.openapi()["paths"].items()
        for method in methods
        # A stream of a job that never starts never ends; its access is that of the job.
        if not path.endswith("/events")
    ]
    assert len(found) > 30
    return [(method.upper(), path) for method, path in found]


async def send(
    http: httpx.AsyncClient,
    method: str,
    path: str,
    ids: dict[str, str],
    query: dict[str, str] | None = None,
    **more: Any,
) -> httpx.Response:
    body = {**BODIES.get(path.rsplit("/", 1)[-1], {}), **more.pop("body", {})}
    extra: dict[str, Any] = {"json": body} if method in ("POST", "PUT", "PATCH") else {}
    return await http.request(method, path.format_map(ids), params=query or {"user": "ada"}, **extra, **more)


def said(response: httpx.Response, ids: dict[str, str]) -> tuple[int, str]:
    """Status and text, with the ids of the request replaced by their names."""
    text = response.text
    for name, value in sorted(ids.items(), key=lambda item: -len(item[1])):
        text = text.replace(value, f"<{name}>")
    return response.status_code, text


@pytest.mark.parametrize("role", ["writer", "admin"])
@in_its_loop
async def test_what_belongs_to_another_tenant_is_as_unknown_as_what_does_not_exist(world: World, role: Any) -> None:
    theirs = {**world.ids["globex"], "model": world.ids["globex"]["corpus"]}
    async with world.client("acme", role) as http:
        compared = 0
        for method, path in operations(world):
            if "{" not in path or path.endswith("/documents"):
                continue
            foreign = said(await send(http, method, path, theirs), theirs)
            unknown = said(await send(http, method, path, UNKNOWN), UNKNOWN)
            assert foreign == unknown, (method, path)
            assert foreign[0] in (403, 404, 422), (method, path, foreign)
            compared += 1
    assert compared >= 15


@in_its_loop
async def test_without_a_key_every_route_but_the_public_ones_is_closed(world: World) -> None:
    async with world.client() as http:
        for method, path in operations(world):
            response = await send(http, method, path, world.ids["acme"] | {"model": "notes"})
            if path in ("/healthz", "/readyz", "/version"):
                assert response.status_code == 200
                continue
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"] == "Bearer"
            assert not any(mark in response.text for mark in MARKS.values())


@in_its_loop
async def test_every_route_of_the_app_is_behind_the_gate(world: World) -> None:
    paths = {route.path for route in world.app.routes if isinstance(route, APIRoute)}
    async with world.client() as http:
        for path in sorted(paths - {"/healthz", "/readyz", "/version"}):
            assert (await http.get(path)).status_code == 401
        assert (await http.get("/mcp")).status_code == 401
        assert (await http.get("/anything")).status_code == 401


@in_its_loop
async def test_a_reader_changes_nothing(world: World) -> None:
    async with world.client("acme", "reader") as http:
        for method, path in operations(world):
            reads = method == "GET" or path.rsplit("/", 1)[-1] in (
                "ask", "retrieve", "recall", "compress", "search", "context", "completions", "embeddings",
            )  # fmt: skip
            response = await send(http, method, path, world.ids["acme"] | {"model": "notes"})
            refused = response.status_code == 403
            assert refused or (reads and "/admin" not in path and path != "/metrics"), (method, path)


@in_its_loop
async def test_equal_names_lead_each_tenant_to_its_own(world: World) -> None:
    for tenant, mark in MARKS.items():
        (other,) = set(MARKS.values()) - {mark}
        async with world.client(tenant) as http:
            answer = await http.post("/v1/corpora/notes/ask", json=BODIES["ask"])
            found = await http.post("/v1/memories/search", json=BODIES["search"])
            listed = await http.get("/v1/corpora")
            chat = await http.post("/v1/chat/completions", json=BODIES["completions"])
        for response in (answer, found, listed, chat):
            assert mark in response.text
            assert other not in response.text


@in_its_loop
async def test_equal_pins_of_equal_corpora_are_each_tenants_own(world: World) -> None:
    place = "/v1/corpora/notes/pins/equal"
    async with world.client("acme") as acme, world.client("globex") as globex:
        for http in (acme, globex):
            assert (await http.put(place, json={"version": 1})).json() == {"name": "equal", "version": 1}
        assert (await acme.delete(place)).status_code == 204
        for http, kept in ((acme, False), (globex, True)):
            (version,) = (await http.get("/v1/corpora/notes/versions")).json()["versions"]
            assert ("equal" in version["pins"]) is kept


@in_its_loop
async def test_an_idempotency_key_of_one_tenant_is_nothing_to_the_other(world: World) -> None:
    message = {"role": "user", "content": "I keep bees.", "time_stamp": "2026-01-02T00:00:00"}
    body = {"user": "bee", "messages": message}
    sent = {}
    for tenant in MARKS:
        async with world.client(tenant, **{"Idempotency-Key": "same"}) as http:
            sent[tenant] = [await http.post("/v1/memories", json=body) for _ in range(2)]
    for first, second in sent.values():
        assert "idempotent-replayed" not in first.headers
        assert second.headers["idempotent-replayed"] == "true"
        assert (first.status_code, first.content) == (second.status_code, second.content)


@in_its_loop
async def test_no_combination_of_ids_headers_and_queries_yields_anything_of_another_tenant(world: World) -> None:
    mark = MARKS["globex"]
    theirs = {**world.ids["globex"], "model": "notes"}
    mixed = {**theirs, "corpus": "notes"}
    choices = [(method, path) for method, path in operations(world) if method != "DELETE" and path != "/v1/jobs"]

    requests: list[tuple[tuple[str, str], dict[str, str], dict[str, str], dict[str, str]]] = []

    @settings(max_examples=250, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(choices), st.sampled_from([theirs, mixed]), HEADERS, QUERIES)
    def draw(operation: tuple[str, str], ids: dict[str, str], headers: dict[str, str], query: dict[str, str]) -> None:
        requests.append((operation, ids, headers, query))

    draw()
    async with world.client("acme", "admin") as http:
        for (method, path), ids, headers, query in requests:
            body = {"filter": {"tenant": "globex"}} if path.endswith(("/ask", "/retrieve")) else {}
            response = await send(http, method, path, ids, query, headers=headers, body=body)
            shown = (response.text + json.dumps(dict(response.headers))).replace(theirs["corpus"], "")
            assert response.status_code < 500, (method, path, response.text)
            assert mark not in shown, (method, path, headers, query)


@in_its_loop
async def test_everything_of_the_other_tenant_is_still_there(world: World) -> None:
    async with world.client("acme", "admin") as http:
        for method, path in operations(world):
            if method == "DELETE" and "{" in path:
                await send(http, method, path, world.ids["globex"])
        await http.delete("/v1/memories", params={"user": "ada-of-globex"})
    async with world.client("globex", "admin") as http:
        ids = world.ids["globex"]
        assert (await http.get(f"/v1/corpora/{ids['corpus']}")).status_code == 200
        assert (await http.get(f"/v1/memories/{ids['entry_id']}", params={"user": "ada"})).status_code == 200
        assert (await http.get(f"/v1/jobs/{ids['job_id']}")).json()["state"] == "queued"
        pins = (await http.get(f"/v1/corpora/{ids['corpus']}/pins")).json()["pins"]
        assert pins == [{"name": ids["name"], "version": 1}]
        keys = (await http.get("/v1/admin/keys")).json()["keys"]
    assert [key["revoked"] for key in keys if key["key_id"] == ids["key_id"]] == [None]
