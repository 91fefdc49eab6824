"""The routes of jobs and documents over real records, and once over a real job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lightrag.api.app import create_app
from lightrag.api.events import read_frame
from lightrag.api.jobs import JobAccess
from lightrag.config import Settings, load_settings
from lightrag.jobs.alone import only_one
from lightrag.jobs.service import JobService
from lightrag.jobs.store import Ending, Limits
from lightrag.jobs.types import StageProgress
from lightrag.rag import QuestionPipeline, Stages
from lightrag.storage.objects import open_object_store
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.test_rag import Generate, Retrieve


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "docs").mkdir()
    options = {"runner": "local", "sources": [str(tmp_path / "docs"), "s3://bucket/open"], "upload_bytes": 20_000}
    return load_settings(None, home=tmp_path / "home", jobs=options)


@pytest.fixture
async def jobs(settings: Settings) -> AsyncIterator[JobService]:
    opened = JobService(settings)
    yield opened
    opened.close()


@pytest.fixture
async def queue(settings: Settings, jobs: JobService) -> AsyncIterator[JobService]:
    """Jobs that stay queued: the test is their supervisor."""
    with only_one(settings.home / "jobs", patience=0) as mine:
        assert mine
        yield jobs


def client(jobs: JobService, settings: Settings, tenant: str = "acme") -> httpx.AsyncClient:
    store = open_object_store(settings.storage_url)
    pipeline = QuestionPipeline(Stages(Retrieve(), Generate()))
    app = create_app(pipeline, OneCorpus(), tenant=tenant, jobs=JobAccess(jobs, store, settings))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service", timeout=120)


def body(location: str, **more: Any) -> dict[str, Any]:
    return {"corpus": "reports", "source": {"location": location}, **more}


def frames(text: str) -> list[tuple[str, Any]]:
    return [frame for part in text.split("\n\n") if (frame := read_frame(part))]


async def test_a_job_is_accepted_shown_and_cancelled(queue: JobService, settings: Settings, tmp_path: Path) -> None:
    async with client(queue, settings) as http:
        accepted = await http.post("/v1/jobs", json=body(str(tmp_path / "docs"), priority=4))
        assert accepted.status_code == 202
        shown = (await http.get(accepted.headers["location"])).json()
        assert (shown["state"], shown["priority"], shown["corpus"]) == ("queued", 4, "reports")
        assert "tenant" not in shown
        cancelled = await http.post(accepted.headers["location"] + "/cancel")
        assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
        retried = await http.post(accepted.headers["location"] + "/retry")
        assert (retried.status_code, retried.json()["attempt"]) == (202, 2)
        again = await http.post(accepted.headers["location"] + "/retry")
        assert (again.status_code, again.headers["content-type"]) == (409, "application/problem+json")


async def test_pages_of_jobs_have_no_gaps(queue: JobService, settings: Settings, tmp_path: Path) -> None:
    async with client(queue, settings) as http:
        made = [(await http.post("/v1/jobs", json=body(str(tmp_path / "docs")))).json()["job_id"] for _ in range(5)]
        seen, cursor = [], {}
        while cursor is not None:
            page = (await http.get("/v1/jobs", params={"limit": 2, **cursor})).json()
            seen += [job["job_id"] for job in page["jobs"]]
            cursor = {"cursor": page["next"]} if page["next"] else None
    assert seen == sorted(made, reverse=True)


async def test_tenants_do_not_see_each_other(queue: JobService, settings: Settings, tmp_path: Path) -> None:
    async with client(queue, settings) as http:
        place = (await http.post("/v1/jobs", json=body(str(tmp_path / "docs")))).headers["location"]
    async with client(queue, settings, "other") as http:
        for path in ("", "/events", "/logs", "/report"):
            assert (await http.get(place + path)).status_code == 404
        assert (await http.post(place + "/cancel")).status_code == 404
        assert (await http.get("/v1/jobs")).json()["jobs"] == []


@pytest.mark.parametrize(
    "location",
    [
        "/etc",
        "{docs}/../home",
        "{docs}/link",
        "file:///etc/*",
        "s3://bucket/other",
        "s3://bucket/open/../other",
        "{docs}x",
    ],
)
async def test_jobs_read_only_what_the_operator_allows(
    queue: JobService, settings: Settings, tmp_path: Path, location: str
) -> None:
    (tmp_path / "docs" / "link").symlink_to("/etc")
    async with client(queue, settings) as http:
        refused = await http.post("/v1/jobs", json=body(location.format(docs=tmp_path / "docs")))
    assert refused.status_code == 422
    assert queue.page("acme").jobs == ()


@pytest.mark.parametrize("location", ["{docs}", "{docs}/a/**/*.md", "file://{docs}", "s3://bucket/open/x"])
async def test_everything_below_an_allowed_place_may_be_read(
    queue: JobService, settings: Settings, tmp_path: Path, location: str
) -> None:
    async with client(queue, settings) as http:
        accepted = await http.post("/v1/jobs", json=body(location.format(docs=tmp_path / "docs")))
    assert accepted.status_code == 202, accepted.text


async def test_events_follow_a_job_to_its_end(queue: JobService, settings: Settings, tmp_path: Path) -> None:
    async with client(queue, settings) as http:
        place = (await http.post("/v1/jobs", json=body(str(tmp_path / "docs")))).headers["location"]
        job = queue.store.claim("here", Limits())
        assert job is not None
        queue.store.advance(job, (StageProgress("process", 1, 4, tokens=10, seconds=2.0),))
        running = (await http.get(place)).json()["progress"]
        assert (running[0]["rate"], running[0]["seconds_left"]) == (0.5, 6.0)
        queue.store.finish(job, Ending("failed", "no space left"))
        events = frames((await http.get(place + "/events")).text)
        assert (await http.get(place + "/report")).status_code == 404
    assert [name for name, _ in events] == ["end"]
    assert events[0][1]["error"] == "no space left"


@pytest.mark.parametrize(
    ("files", "status", "words"),
    [
        ({}, 422, "between 1 and 1,000 files"),
        ({"a.exe": b"x"}, 422, "cannot be read"),
        ({"../up.txt": b"x"}, 422, "plain file name"),
        ({".txt": b"x"}, 422, "plain file name"),
        ({"large.txt": b"x" * 30_000}, 413, "20,000 bytes"),
    ],
)
async def test_uploads_that_cannot_be_taken_say_why(
    queue: JobService, settings: Settings, files: dict[str, bytes], status: int, words: str
) -> None:
    async with client(queue, settings) as http:
        sent = [("files", (name, data)) for name, data in files.items()]
        refused = await http.post("/v1/corpora/reports/documents", files=sent or None)
    assert (refused.status_code, queue.page("acme").jobs) == (status, ())
    assert words in refused.json()["detail"]


async def test_an_upload_of_unknown_length_is_cut_off_at_the_limit(queue: JobService, settings: Settings) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\n'
        for _ in range(1000):
            yield b"endless " * 1000

    async with client(queue, settings) as http:
        kind = {"content-type": "multipart/form-data; boundary=x"}
        refused = await http.post("/v1/corpora/reports/documents", content=parts(), headers=kind)
    assert refused.status_code == 413


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_uploaded_documents_are_ingested_listed_and_deleted(jobs: JobService, settings: Settings) -> None:
    files = [(f"note {number}.txt", f"Note {number} says that the mill burned in 19{number}0.") for number in range(3)]
    async with client(jobs, settings) as http:
        sent = [("files", (name, text.encode())) for name, text in files]
        accepted = await http.post("/v1/corpora/mills/documents", files=sent)
        assert accepted.status_code == 202, accepted.text
        place = accepted.headers["location"]
        events = frames((await http.get(place + "/events")).text)
        assert (events[-1][0], events[-1][1]["state"]) == ("end", "succeeded"), events[-1]
        report = (await http.get(place + "/report")).json()
        assert report["summary"]["new"] == 3
        page = await http.get(place + "/report", headers={"accept": "text/html"})
        assert page.text.startswith("<!doctype html>")

        listed = (await http.get("/v1/corpora/mills/documents", params={"limit": 2})).json()
        rest = await http.get("/v1/corpora/mills/documents", params={"cursor": listed["next"]})
        documents = [*listed["documents"], *rest.json()["documents"]]
        assert sorted(document["source"] for document in documents) == sorted(name for name, _ in files)
        assert rest.json()["next"] is None

        assert (await http.delete("/v1/corpora/mills/documents/absent")).status_code == 404
        leaving, *staying = [document["document_id"] for document in documents]
        accepted = await http.delete(f"/v1/corpora/mills/documents/{leaving}")
        events = frames((await http.get(accepted.headers["location"] + "/events")).text)
        assert (events[-1][1]["state"], events[-1][1]["summary"]["deleted"]) == ("succeeded", 1), events[-1]
        left = (await http.get("/v1/corpora/mills/documents")).json()["documents"]
        assert [document["document_id"] for document in left] == staying
        removed = (await http.delete("/v1/corpora/mills")).json()
        assert removed["versions"] >= 2
        for answer in (await http.get("/v1/corpora/mills/documents"), await http.delete("/v1/corpora/mills")):
            assert answer.status_code == 404
