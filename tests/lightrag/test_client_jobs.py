"""Jobs and documents through the client, over real records, and once over a real job."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from lightrag.api.app import create_app
from lightrag.api.job_schemas import JobInfo, SourceBody
from lightrag.api.jobs import JobAccess
from lightrag.client import AsyncClient, Client
from lightrag.config import Settings, load_settings
from lightrag.errors import BackendError, ConflictError, DeadlineExceeded, LimitError, NotFoundError, UsageError
from lightrag.jobs.alone import only_one
from lightrag.jobs.service import JobService
from lightrag.jobs.store import Ending, Limits
from lightrag.jobs.types import Job, StageProgress
from lightrag.rag import QuestionPipeline, Stages
from lightrag.storage.objects import open_object_store
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.failing import FailingTransport, Failure
from tests.lightrag.test_rag import Generate, Retrieve


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "docs").mkdir()
    options = {"runner": "local", "sources": [str(tmp_path / "docs")], "upload_bytes": 20_000}
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


@pytest.fixture
def docs(tmp_path: Path) -> str:
    return str(tmp_path / "docs")


@pytest.fixture
async def client(queue: JobService, settings: Settings) -> AsyncIterator[AsyncClient]:
    async with AsyncClient("http://service", transport=network(queue, settings)) as client:
        yield client


def network(jobs: JobService, settings: Settings, *failures: Failure) -> FailingTransport:
    access = JobAccess(jobs, open_object_store(settings.storage_url), settings)
    app = create_app(QuestionPipeline(Stages(Retrieve(), Generate())), OneCorpus(), tenant="acme", jobs=access)
    return FailingTransport(httpx.ASGITransport(app), failures)


def begin(queue: JobService) -> Job:
    job = queue.store.claim("here", Limits())
    assert job is not None
    return job


def end_after_a_look(queue: JobService, monkeypatch: pytest.MonkeyPatch, work: Job, ending: Ending) -> None:
    """Let a job end as soon as somebody has seen it run."""
    looked = queue.get

    def get(tenant: str, job_id: str) -> Job:
        job = looked(tenant, job_id)
        if not job.is_over:
            queue.store.finish(work, ending)
        return job

    monkeypatch.setattr(queue, "get", get)
    monkeypatch.setattr("lightrag.api.jobs.LOOK_SECONDS", 0.01)


async def test_a_job_is_submitted_shown_cancelled_and_retried(client: AsyncClient, docs: str) -> None:
    job = await client.jobs.submit(docs, corpus="reports", priority=4)
    assert (job.state, job.priority, job.corpus) == ("queued", 4, "reports")
    assert await client.jobs.get(job) == await client.jobs.get(job.job_id) == job
    assert (await client.jobs.cancel(job)).state == "cancelled"
    assert (await client.jobs.retry(job)).attempt == 2
    assert await client.jobs.logs(job) == ""
    with pytest.raises(ConflictError, match="cancel it first"):
        await client.jobs.retry(job)
    with pytest.raises(NotFoundError, match="no report"):
        await client.jobs.report(job)
    with pytest.raises(NotFoundError, match="'absent'"):
        await client.jobs.wait("absent")


async def test_a_source_with_options_is_sent_as_it_is(client: AsyncClient, docs: str) -> None:
    job = await client.jobs.submit(SourceBody(location=docs, format="jsonl", text_column="body"), corpus="reports")
    assert (job.spec["source"]["format"], job.spec["source"]["text_column"]) == ("jsonl", "body")
    with pytest.raises(UsageError, match="priority"):
        await client.jobs.submit(docs, corpus="reports", priority=1000)
    with pytest.raises(UsageError, match="may not read"):
        await client.jobs.submit("/etc", corpus="reports")


async def test_all_jobs_are_listed_page_by_page(client: AsyncClient, docs: str) -> None:
    made = [(await client.jobs.submit(docs, corpus=f"c{number % 2}")).job_id for number in range(60)]
    assert [job.job_id async for job in client.jobs.all()] == made[::-1]
    assert [job.job_id async for job in client.jobs.all(corpus="c1", state="queued")] == made[1::2][::-1]
    assert (await client.jobs.page(limit=5)).next


async def test_a_job_is_followed_to_its_end(
    client: AsyncClient, queue: JobService, docs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await client.jobs.submit(docs, corpus="reports")
    work = begin(queue)
    queue.store.advance(work, (StageProgress("process", 1, 4),))
    end_after_a_look(queue, monkeypatch, work, Ending("succeeded", summary={"new": 4}))
    states: list[JobInfo] = []
    ended = await client.jobs.wait(job, on_progress=states.append)
    assert [state.state for state in states] == ["running", "succeeded"]
    assert (states[0].progress[0].done, ended.summary, ended) == (1, {"new": 4}, states[-1])


@pytest.mark.parametrize(
    ("ending", "words"),
    [(Ending("failed", "no space left"), "of corpus 'reports' failed: no space left"), (None, "was cancelled")],
)
async def test_a_job_that_did_not_succeed_is_an_error_after_its_last_state(
    client: AsyncClient, queue: JobService, docs: str, ending: Ending | None, words: str
) -> None:
    job = await client.jobs.submit(docs, corpus="reports")
    if ending is None:
        await client.jobs.cancel(job)
    else:
        queue.store.finish(begin(queue), ending)
    states = client.jobs.follow(job.job_id)
    assert (await anext(states)).ended
    with pytest.raises(BackendError, match=words) as caught:
        await anext(states)
    assert (caught.value.subject, caught.value.retryable) == (job.job_id, False)


async def test_waiting_has_a_limit_where_one_is_given(client: AsyncClient, docs: str) -> None:
    job = await client.jobs.submit(docs, corpus="reports")
    with pytest.raises(DeadlineExceeded, match="has not ended within 0 s"):
        await client.jobs.wait(job, seconds=0)


async def test_a_lost_connection_to_a_job_is_opened_again(
    client: AsyncClient, queue: JobService, settings: Settings, docs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightrag.client_transport.FIRST_DELAY", 0.0)
    job = await client.jobs.submit(docs, corpus="reports")
    end_after_a_look(queue, monkeypatch, begin(queue), Ending("succeeded"))
    # One retry in a row: the event between the faults makes two of it.
    failing = network(queue, settings, httpx.ConnectError, "cut")
    async with AsyncClient("http://service", transport=failing, retries=1) as following:
        states = [state.state async for state in following.jobs.follow(job)]
    assert states == ["running", "succeeded"]
    assert len(failing.sent) == 3


@pytest.mark.parametrize(
    ("files", "kind", "words"),
    [
        ({}, UsageError, "between 1 and 1,000 files"),
        ({"a.exe": b"x"}, UsageError, "cannot be read"),
        ({"large.txt": b"x" * 30_000}, LimitError, "20,000 bytes"),
        ("absent.txt", UsageError, "'absent.txt' cannot be uploaded: No such file"),
        ([".", "a.txt"], UsageError, "cannot be uploaded"),
    ],
)
async def test_uploads_that_cannot_be_taken_say_why(
    client: AsyncClient, files: str | list[str] | dict[str, bytes], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        await client.documents.upload(files, corpus="reports")


def test_the_blocking_face_follows_jobs_too(settings: Settings, tmp_path: Path) -> None:
    queue = JobService(settings)
    with (
        only_one(settings.home / "jobs", patience=0),
        Client("http://service", transport=network(queue, settings)) as client,
    ):
        job = client.jobs.submit(str(tmp_path / "docs"), corpus="reports")
        queue.store.finish(begin(queue), Ending("succeeded"))
        seen: list[str] = []
        # What is called with a state may use the client.
        client.jobs.wait(job, on_progress=lambda state: seen.append(client.jobs.get(state).state))
        assert seen == [state.state for state in client.jobs.follow(job)] == ["succeeded"]
        assert [one.job_id for one in client.jobs.all()] == [job.job_id]
    queue.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_documents_are_uploaded_listed_and_deleted(jobs: JobService, settings: Settings, tmp_path: Path) -> None:
    files = [tmp_path / f"note {number}.txt" for number in range(3)]
    for file in files:
        file.write_text(f"{file.stem} says that the mill burned.", encoding="utf-8")
    async with AsyncClient("http://service", transport=network(jobs, settings)) as client:
        done = await client.jobs.wait(await client.documents.upload(files, corpus="mills"))
        assert done.summary["new"] == 3
        assert (await client.jobs.report(done))["summary"]["new"] == 3
        first = await client.documents.page(corpus="mills", limit=2)
        rest = await client.documents.page(corpus="mills", version=first.version, cursor=first.next)
        documents = [document async for document in client.documents.all(corpus="mills")]
        assert documents == [*first.documents, *rest.documents]
        assert sorted(document.source for document in documents) == [file.name for file in files]

        with pytest.raises(NotFoundError, match="absent"):
            await client.documents.delete("absent", corpus="mills")
        await client.jobs.wait(await client.documents.delete(documents[0].document_id, corpus="mills"))
        assert [left async for left in client.documents.all(corpus="mills")] == documents[1:]
        assert len([one async for one in client.documents.all(corpus="mills", version=first.version)]) == 3
        assert (await client.delete_corpus("mills")).versions >= 2
        with pytest.raises(NotFoundError, match="mills"):
            await client.documents.page(corpus="mills")
