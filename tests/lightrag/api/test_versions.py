"""The routes of versions and pins over a real log and real keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lightrag.api import problems
from lightrag.api.app import create_app
from lightrag.api.jobs import JobAccess
from lightrag.api.schemas import LARGEST_VERSION
from lightrag.api.versions import version_routes
from lightrag.config import load_settings
from lightrag.jobs.service import JobService
from lightrag.rag import QuestionPipeline, Stages
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.tenancy.audit import Act
from lightrag.tenancy.service import Tenancy
from lightrag.tenancy.types import KeyRequest, Role
from lightrag.types import CorpusId
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.test_rag import Generate, Retrieve

TENANTS = ("acme", "globex")
PLACE = "/v1/corpora/reports"


def network(store: ObjectStore, tenant: str = "acme", max_pins: int | None = None) -> httpx.AsyncClient:
    """The routes alone."""
    app = FastAPI()
    problems.install(app)
    app.include_router(version_routes(store, Annotated[str, Depends(lambda: tenant)], max_pins=max_pins))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service")


def commit(store: ObjectStore, tenant: str = "acme", versions: int = 1) -> CorpusLog:
    log = CorpusLog(store, CorpusId(tenant, "reports"))
    for _ in range(versions):
        documents = (log.newest_version() or 0) + 1
        log.commit(log.latest(), counts={"documents": documents, "chunks": 4 * documents})
    return log


@pytest.fixture
def store() -> ObjectStore:
    return open_object_store("memory://")


async def test_versions_are_listed_newest_first_with_counts_and_pins(store: ObjectStore) -> None:
    log = commit(store, versions=3)
    log.pin(2, "release")
    log.pin(2, "audit")
    async with network(store) as http:
        page = (await http.get(f"{PLACE}/versions")).json()
    assert [version["version"] for version in page["versions"]] == [3, 2, 1]
    assert [version["pins"] for version in page["versions"]] == [[], ["audit", "release"], []]
    assert page["versions"][0]["counts"] == {"documents": 3, "chunks": 12}
    assert page["versions"][0]["committed_at"] == log.read(3).created.isoformat(timespec="seconds")
    assert page["next"] is None


@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_pages_of_versions_have_no_gaps_and_no_repetitions(store: ObjectStore, limit: int) -> None:
    log = commit(store, versions=5)
    seen: list[int] = []
    asked: dict[str, Any] | None = {"limit": limit}
    async with network(store) as http:
        while asked is not None:
            page = (await http.get(f"{PLACE}/versions", params=asked)).json()
            seen += [version["version"] for version in page["versions"]]
            log.commit(log.latest())  # newer ones belong to no later page
            asked = {"limit": limit, "cursor": page["next"]} if page["next"] else None
    assert seen == [5, 4, 3, 2, 1]


async def test_a_version_that_goes_while_it_is_listed_is_left_out(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = commit(store, versions=3)
    store.delete([log.layout.commit(1)])
    monkeypatch.setattr(CorpusLog, "versions", lambda _: [1, 2, 3])
    async with network(store) as http:
        page = (await http.get(f"{PLACE}/versions", params={"limit": 2, "cursor": "3"})).json()
    assert ([version["version"] for version in page["versions"]], page["next"]) == ([2], None)


async def test_a_pin_is_set_moved_and_removed(store: ObjectStore) -> None:
    log = commit(store, versions=3)
    async with network(store) as http:
        for version in (1, 1, 2):
            pinned = await http.put(f"{PLACE}/pins/audit", json={"version": version})
            assert (pinned.status_code, pinned.json()) == (200, {"name": "audit", "version": version})
        await http.put(f"{PLACE}/pins/Release-1.0_b", json={"version": 3})
        listed = (await http.get(f"{PLACE}/pins")).json()["pins"]
        assert listed == [{"name": "Release-1.0_b", "version": 3}, {"name": "audit", "version": 2}]
        assert log.vacuum(retain=1, grace_seconds=0).versions_kept == (2, 3)
        gone = await http.delete(f"{PLACE}/pins/audit")
        assert (gone.status_code, gone.content) == (204, b"")
        assert log.pins() == {"Release-1.0_b": 3}
        again = await http.delete(f"{PLACE}/pins/audit")
    assert (again.status_code, again.json()["detail"]) == (404, "corpus 'reports' has no pin 'audit'")


async def test_a_corpus_has_only_so_many_pins_and_those_it_has_may_move(store: ObjectStore) -> None:
    log = commit(store, versions=3)
    commit(store, "globex")
    async with network(store, max_pins=2) as http, network(store, "globex", max_pins=2) as other:
        for name in ("audit", "release"):
            assert (await http.put(f"{PLACE}/pins/{name}", json={"version": 1})).status_code == 200
        refused = await http.put(f"{PLACE}/pins/third", json={"version": 3})
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:lightrag:problem:quota")
        assert "has 2 pins, and storage.max_pins allows 2" in refused.json()["detail"]
        assert "retry-after" not in refused.headers  # waiting does not help
        assert (await http.put(f"{PLACE}/pins/audit", json={"version": 2})).status_code == 200
        assert (await other.put(f"{PLACE}/pins/third", json={"version": 1})).status_code == 200
        await http.delete(f"{PLACE}/pins/release")
        assert (await http.put(f"{PLACE}/pins/third", json={"version": 3})).status_code == 200
    assert log.pins() == {"audit": 2, "third": 3}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "absent/versions", None, 404, "no corpus 'absent'"),
        ("GET", "absent/pins", None, 404, "no corpus 'absent'"),
        ("PUT", "absent/pins/audit", {"version": 1}, 404, "does not exist"),
        ("DELETE", "absent/pins/audit", None, 404, "no pin 'audit'"),
        ("PUT", "reports/pins/audit", {"version": 2}, 404, "acme/reports@2 does not exist"),
        ("PUT", "reports/pins/audit", {"version": LARGEST_VERSION}, 404, "does not exist"),
        ("PUT", "reports/pins/audit", {"version": LARGEST_VERSION + 1}, 422, "version"),
        ("PUT", "reports/pins/audit", {"version": 0}, 422, "version"),
        ("PUT", "reports/pins/audit", {"version": "newest"}, 422, "version"),
        ("PUT", "reports/pins/audit", {}, 422, "version"),
        ("PUT", "reports/pins/audit", {"version": 1, "until": "may"}, 422, "until"),
        ("GET", "no%20such/versions", None, 422, "not a valid name"),
        ("GET", "reports/versions?limit=0", None, 422, "limit"),
        ("GET", "reports/versions?limit=201", None, 422, "limit"),
        ("GET", "reports/versions?cursor=newest", None, 422, "cursor"),
        ("GET", "reports/versions?cursor=-1", None, 422, "cursor"),
    ],
)
async def test_what_cannot_be_is_a_problem_document(
    store: ObjectStore, method: str, path: str, body: dict[str, Any] | None, status: int, words: str
) -> None:
    log = commit(store)
    async with network(store) as http:
        response = await http.request(method, f"/v1/corpora/{path}", json=body)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert words in response.json()["detail"]
    assert log.pins() == {}


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1, max_size=80))
@example(".")
@example("..")
@example("../../../globex/corpora/reports/pins/audit")
@example("a..b")
@example("a/b")
@example("audit/")
@example("\0")
@example("x" * 64)
@example("CON.json")
@example("audit\n")
def test_a_name_is_a_name_or_refused(name: str) -> None:
    store = open_object_store("memory://")
    log = commit(store)
    before = {info.path for info in store.list()}

    async def put() -> httpx.Response:
        async with network(store) as http:
            # Every byte is encoded, or httpx would walk up the path for dots.
            encoded = "".join(f"%{byte:02X}" for byte in name.encode())
            return await http.put(f"{PLACE}/pins/{encoded}", json={"version": 1})

    response = asyncio.run(put())
    made = {info.path for info in store.list()} - before
    if response.status_code == 200:
        assert log.pins() == {name: 1}
        assert made == {log.layout.pin(name)}
    else:
        # With a slash it is no path of a pin, and with one at its end FastAPI offers the path without.
        assert response.status_code == 422 or (response.status_code in (307, 404) and "/" in name)
        assert made == set()


ACTS = st.lists(
    st.tuples(
        st.sampled_from(TENANTS),
        st.sampled_from(["pin", "unpin", "see"]),
        st.sampled_from(["audit", "release"]),
        st.integers(1, 4),
    ),
    max_size=25,
)


@settings(max_examples=40, deadline=None)
@given(ACTS)
def test_no_tenant_sees_or_moves_the_pins_of_another(acts: list[tuple[str, str, str, int]]) -> None:
    store = open_object_store("memory://")
    made = dict(zip(TENANTS, (2, 4), strict=True))
    for tenant, versions in made.items():
        commit(store, tenant, versions)
    expected: dict[str, dict[str, int]] = {tenant: {} for tenant in TENANTS}

    async def act(http: httpx.AsyncClient, tenant: str, what: str, name: str, version: int) -> None:
        own = expected[tenant]
        if what == "pin":
            response = await http.put(f"{PLACE}/pins/{name}", json={"version": version})
            assert response.status_code == (200 if version <= made[tenant] else 404)
            own |= {name: version} if version <= made[tenant] else {}
        elif what == "unpin":
            response = await http.delete(f"{PLACE}/pins/{name}")
            assert response.status_code == (204 if own.pop(name, None) else 404)
        pins = (await http.get(f"{PLACE}/pins")).json()["pins"]
        assert {pin["name"]: pin["version"] for pin in pins} == own
        versions = (await http.get(f"{PLACE}/versions")).json()["versions"]
        assert {name: each["version"] for each in versions for name in each["pins"]} == own

    async def run() -> None:
        async with network(store, "acme") as acme, network(store, "globex") as globex:
            for tenant, *rest in [*acts, *((tenant, "see", "", 1) for tenant in TENANTS)]:
                await act(acme if tenant == "acme" else globex, tenant, *rest)

    asyncio.run(run())


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[tuple[FastAPI, Tenancy]]:
    settings = {"tenancy": {"authentication": "keys"}, "storage": {"max_pins": 2}}
    options = load_settings(None, home=tmp_path, tenant="acme", **settings)
    store = open_object_store(options.storage_url)
    commit(store, versions=2)
    tenancy, jobs = Tenancy.open(options, store), JobService(options)
    pipeline = QuestionPipeline(Stages(Retrieve(), Generate()))
    access = JobAccess(jobs, store, options)
    yield create_app(pipeline, OneCorpus(), tenant="acme", jobs=access, tenancy=tenancy), tenancy
    jobs.close()
    await tenancy.close()


def keyed(service: tuple[FastAPI, Tenancy], role: Role, **headers: str) -> httpx.AsyncClient:
    app, tenancy = service
    key = tenancy.keys.create(KeyRequest("acme", role=role), Act("test")).text
    headers = {"Authorization": f"Bearer {key}", **headers}
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service", headers=headers)


async def test_readers_see_pins_and_writers_make_them(service: tuple[FastAPI, Tenancy]) -> None:
    async with keyed(service, "reader") as reader, keyed(service, "writer") as writer:
        assert (await reader.put(f"{PLACE}/pins/audit", json={"version": 1})).status_code == 403
        assert (await writer.put(f"{PLACE}/pins/audit", json={"version": 1})).status_code == 200
        assert (await reader.delete(f"{PLACE}/pins/audit")).status_code == 403
        assert (await reader.get(f"{PLACE}/pins")).json()["pins"] == [{"name": "audit", "version": 1}]
        assert (await reader.get(f"{PLACE}/versions")).json()["versions"][1]["pins"] == ["audit"]


async def test_the_service_takes_the_number_of_pins_from_its_settings(service: tuple[FastAPI, Tenancy]) -> None:
    async with keyed(service, "writer") as http:
        answers = [await http.put(f"{PLACE}/pins/{name}", json={"version": 1}) for name in ("one", "two", "three")]
    assert [answer.status_code for answer in answers] == [200, 200, 429]


async def test_pins_are_in_the_audit_log(service: tuple[FastAPI, Tenancy]) -> None:
    async with keyed(service, "admin") as http:
        await http.put(f"{PLACE}/pins/audit", json={"version": 2})
        await http.delete(f"{PLACE}/pins/audit")
        entries = (await http.get("/v1/admin/audit")).json()["entries"]
    acts = {(entry["action"], entry["subject"], entry["outcome"]) for entry in entries}
    for method, outcome in (("PUT", "200"), ("DELETE", "204")):
        assert (f"{method} /v1/corpora/{{corpus}}/pins/{{name}}", f"{PLACE}/pins/audit", outcome) in acts


async def test_a_removal_that_is_sent_twice_is_answered_twice_alike(service: tuple[FastAPI, Tenancy]) -> None:
    async with keyed(service, "writer") as http:
        await http.put(f"{PLACE}/pins/audit", json={"version": 2})
        answers = [await http.delete(f"{PLACE}/pins/audit", headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert [(answer.status_code, answer.content) for answer in answers] == [(204, b"")] * 2
    assert answers[1].headers["idempotent-replayed"] == "true"
