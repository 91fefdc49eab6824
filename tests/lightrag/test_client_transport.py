"""What the client sends again, when, and what it never does twice: against the real app over a network that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest

from lightrag.api.app import create_app
from lightrag.api.jobs import JobAccess
from lightrag.api.replaying import LARGEST_BODY
from lightrag.api.security import required_access
from lightrag.client import AsyncClient
from lightrag.client_faults import retry_after
from lightrag.client_transport import LARGEST_KEYED, route
from lightrag.config import load_settings
from lightrag.conversation.assembly import open_engine
from lightrag.conversation.engine_service import EngineMemories
from lightrag.conversation.opening import memory_configuration
from lightrag.errors import (
    BackendError,
    ConflictError,
    DeadlineExceeded,
    LightRAGError,
    LimitError,
    NotFoundError,
    QuotaExceeded,
    UsageError,
)
from lightrag.jobs.alone import only_one
from lightrag.jobs.service import JobService
from lightrag.models.fakes import HashingEmbedder
from lightrag.rag import QuestionPipeline, Stages
from lightrag.storage.objects import open_object_store
from lightrag.tenancy.service import Tenancy
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.conversation.conftest import say
from tests.lightrag.failing import FailingTransport, Failure
from tests.lightrag.test_rag import Compress, Generate, Recall, Retrieve

PROBLEM = "urn:lightrag:problem:"


class Service:
    """A whole app with records, whose jobs stay queued."""

    def __init__(self, home: Path, jobs: JobService) -> None:
        settings = load_settings(None, home=home, tenant="acme", jobs={"runner": "local", "sources": [str(home)]})
        store = open_object_store(settings.storage_url)
        engine = open_engine(memory_configuration(settings), embedder=HashingEmbedder())
        self.jobs = jobs
        self.retrieve = Retrieve()
        self.generate = Generate()
        self.memories = EngineMemories(settings, engine=engine)
        self.tenancy = Tenancy.open(settings, store)
        self.app = create_app(
            QuestionPipeline(Stages(self.retrieve, self.generate, recall=Recall(), compress=Compress())),
            OneCorpus(),
            tenant="acme",
            memories=self.memories,
            jobs=JobAccess(jobs, store, settings),
            tenancy=self.tenancy,
        )

    def failing(self, *failures: Failure) -> FailingTransport:
        return FailingTransport(httpx.ASGITransport(self.app), failures)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    settings = load_settings(None, home=tmp_path, tenant="acme", jobs={"runner": "local"})
    jobs = JobService(settings)
    with only_one(tmp_path / "jobs", patience=0):
        service = Service(tmp_path, jobs)
        yield service
        await service.memories.close()
        await service.tenancy.close()
    jobs.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the client would have waited for; it waits for nothing, and its pauses are as long as they may be."""
    waited: list[float] = []

    async def noted(seconds: float) -> None:
        waited.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr("lightrag.client_transport.sleep", noted)
    monkeypatch.setattr("lightrag.client_transport.random.uniform", lambda _, longest: longest)
    return waited


def answer(status: int, kind: str = "", **headers: str) -> httpx.Response:
    """A problem of the service, or without a kind the plain text of something between."""
    if not kind:
        return httpx.Response(status, text="no replica is free", headers=headers)
    return httpx.Response(status, json={"type": PROBLEM + kind, "detail": "so it is"}, headers=headers)


class TestReads:
    @pytest.mark.parametrize(
        "failure",
        [
            httpx.ConnectError,
            httpx.ReadError,
            httpx.RemoteProtocolError,
            "lost",
            answer(503),
            answer(500),
            answer(408),
            answer(502),
            answer(504),
            answer(429),
            answer(503, "backend"),
        ],
        ids=str,
    )
    async def test_a_question_is_asked_again(self, service: Service, pauses: list[float], failure: Failure) -> None:
        network = service.failing(failure, failure)
        async with AsyncClient("http://service", transport=network) as client:
            assert (await client.ask("Who signed?", corpus="reports")).text == "Ada did."
        assert (len(network.sent), pauses) == (3, [0.5, 1.0])
        assert network.keys == [None] * 3

    @pytest.mark.parametrize(
        ("failure", "kind", "retryable"),
        [
            (httpx.ConnectError, BackendError, True),
            (httpx.ReadTimeout, DeadlineExceeded, None),
            (answer(503), BackendError, True),
            (answer(503, "backend"), BackendError, True),
            (answer(429, "quota", **{"retry-after": "1"}), QuotaExceeded, None),
        ],
        ids=str,
    )
    async def test_after_the_last_attempt_the_error_is_that_of_a_single_one(
        self, service: Service, pauses: list[float], failure: Failure, kind: type[LightRAGError], retryable: bool | None
    ) -> None:
        network = service.failing(failure, failure, failure)
        async with AsyncClient("http://service", transport=network) as client:
            with pytest.raises(kind) as caught:
                await client.corpora()
            assert getattr(caught.value, "retryable", None) is retryable
            assert len(network.sent) == 3
            assert await client.corpora()

    @pytest.mark.parametrize(
        ("failure", "kind"),
        [
            (answer(404, "not-found"), NotFoundError),
            (answer(422, "usage"), UsageError),
            (answer(500, "internal"), BackendError),
            (answer(502, "backend"), BackendError),
            (answer(504, "deadline"), DeadlineExceeded),
            (answer(429, "quota"), QuotaExceeded),
            (httpx.UnsupportedProtocol, BackendError),
        ],
        ids=str,
    )
    async def test_what_will_not_get_better_is_said_at_once(
        self, service: Service, failure: Failure, kind: type[LightRAGError]
    ) -> None:
        network = service.failing(failure)
        async with AsyncClient("http://service", transport=network) as client:
            with pytest.raises(kind):
                await client.ask("Who?", corpus="reports")
        assert len(network.sent) == 1

    async def test_no_retries_are_no_retries(self, service: Service) -> None:
        network = service.failing(answer(503))
        async with AsyncClient("http://service", transport=network, retries=0) as client:
            with pytest.raises(BackendError):
                await client.ask("Who?", corpus="reports")
        assert len(network.sent) == 1
        with pytest.raises(UsageError, match="retries"):
            AsyncClient("http://service", retries=-1)

    async def test_the_service_says_when_to_come_back(self, service: Service, pauses: list[float]) -> None:
        network = service.failing(answer(429, "quota", **{"retry-after": "3"}))
        async with AsyncClient("http://service", transport=network) as client:
            assert await client.corpora()
        assert pauses == [3.5]

    @pytest.mark.parametrize("kind", ["quota", "backend", ""])
    async def test_a_moment_after_the_time_limit_is_not_waited_for(
        self, service: Service, pauses: list[float], kind: str
    ) -> None:
        network = service.failing(answer(429 if kind == "quota" else 503, kind, **{"retry-after": "3600"}))
        async with AsyncClient("http://service", transport=network) as client:
            with pytest.raises(LimitError if kind == "quota" else BackendError) as caught:
                await client.corpora()
        assert (pauses, len(network.sent)) == ([], 1)
        assert getattr(caught.value, "retry_after", 3600.0) == 3600.0

    async def test_all_attempts_share_one_time_limit(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        now = 0.0

        async def passing(seconds: float) -> None:
            nonlocal now
            now += seconds

        monkeypatch.setattr("lightrag.client_transport.sleep", passing)
        monkeypatch.setattr("lightrag.client_transport.time.monotonic", lambda: now)
        monkeypatch.setattr("lightrag.client_transport.random.uniform", lambda _, longest: longest)
        network = service.failing(*[answer(503) for _ in range(9)])
        async with AsyncClient("http://service", transport=network, retries=9, seconds=10) as client:
            with pytest.raises(BackendError):
                await client.corpora()
        allowed = [request.extensions["timeout"]["read"] for request in network.sent]
        assert now <= 10
        assert len(allowed) == 5
        assert network.sent[0] is network.sent[-1]


class TestWrites:
    async def test_a_write_whose_answer_was_lost_is_done_once(self, service: Service, pauses: list[float]) -> None:
        network = service.failing("lost", "lost")
        async with AsyncClient("http://service", transport=network) as client:
            job = await client.jobs.submit(str(service.jobs._home.parent), corpus="reports")
            assert [one.job_id for one in service.jobs.page("acme").jobs] == [job.job_id]
            assert len({*network.keys}) == 1
            await client.jobs.submit(str(service.jobs._home.parent), corpus="reports")
        assert len(network.sent) == 4
        assert len({*network.keys}) == 2
        assert len(service.jobs.page("acme").jobs) == 2

    async def test_an_upload_whose_answer_was_lost_is_one_job(
        self, service: Service, pauses: list[float], tmp_path: Path
    ) -> None:
        file = tmp_path / "note.txt"
        file.write_text("The mill burned in 1901.", encoding="utf-8")
        network = service.failing("lost")
        async with AsyncClient("http://service", transport=network) as client:
            job = await client.documents.upload(file, corpus="mills")
        assert [one.job_id for one in service.jobs.page("acme").jobs] == [job.job_id]

    async def test_a_large_write_carries_no_key_and_is_sent_again_only_if_it_was_never_sent(
        self, service: Service, pauses: list[float]
    ) -> None:
        assert LARGEST_KEYED == LARGEST_BODY
        files = {"large.txt": b"x" * (LARGEST_KEYED + 1)}
        network = service.failing(httpx.ConnectError, answer(429), "lost")
        async with AsyncClient("http://service", transport=network) as client:
            with pytest.raises(BackendError):
                await client.documents.upload(files, corpus="mills")
        assert network.keys == [None] * 3

    async def test_what_is_still_worked_on_is_waited_for(self, service: Service, pauses: list[float]) -> None:
        """The first answer is lost while the write goes on; the service refuses its key until it is done."""

        class Impatient(httpx.AsyncBaseTransport):
            def __init__(self) -> None:
                self.first: asyncio.Task[httpx.Response] | None = None
                self.statuses: list[int] = []

            async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
                if self.first is None:
                    self.first = asyncio.create_task(httpx.ASGITransport(service.app).handle_async_request(request))
                    await called.wait()
                    raise httpx.ReadError("a test says so", request=request)
                response = await httpx.ASGITransport(service.app).handle_async_request(request)
                self.statuses.append(response.status_code)
                if len(self.statuses) == 4:
                    release.set()
                    await self.first
                return response

        called, release, calls = asyncio.Event(), asyncio.Event(), 0
        undone = service.memories.undo

        async def slow(*arguments: object) -> tuple[str, ...]:
            nonlocal calls
            calls += 1
            called.set()
            await release.wait()
            return ("done",)

        service.memories.undo = slow  # type: ignore[assignment, method-assign]
        network = Impatient()
        async with AsyncClient("http://service", transport=network) as client:
            assert await client.memories.undo("operation", user="ada") == ["done"]
        service.memories.undo = undone  # type: ignore[method-assign]
        assert (calls, network.statuses) == (1, [409, 409, 409, 409, 200])

    async def test_an_edit_is_not_repeated_where_the_service_does_not_know_whether_it_was_done(
        self, service: Service, pauses: list[float]
    ) -> None:
        lost = answer(503, "backend", **{"retry-after": "1"})
        network = service.failing(lost, answer(429), httpx.ConnectError, answer(503))
        async with AsyncClient("http://service", transport=network) as client:
            for expected in (1, 4):
                with pytest.raises(BackendError):
                    await client.memories.edit("entry", "Ada sings.", user="ada")
                assert len(network.sent) == expected

    async def test_messages_are_remembered_once_without_any_records_of_keys(
        self, service: Service, pauses: list[float]
    ) -> None:
        app = create_app(
            QuestionPipeline(Stages(Retrieve(), Generate())), OneCorpus(), tenant="acme", memories=service.memories
        )
        network = FailingTransport(httpx.ASGITransport(app), ["lost", "lost"])
        async with AsyncClient("http://service", transport=network) as client:
            await client.memories.add(say("I play the cello."), user="ada", force_extract=True)
            assert len([entry async for entry in client.memories.all(user="ada")]) == 1

    async def test_a_conflict_about_something_else_is_said_at_once(self, service: Service) -> None:
        network = service.failing()
        async with AsyncClient("http://service", transport=network) as client:
            job = await client.jobs.submit(str(service.jobs._home.parent), corpus="reports")
            with pytest.raises(ConflictError, match="cancel it first"):
                await client.jobs.retry(job)
        assert len(network.sent) == 2

    async def test_what_carries_a_key_is_what_the_service_takes_for_a_write(self, service: Service) -> None:
        network = service.failing()
        async with AsyncClient("http://service", transport=network) as client:
            calls: list[Callable[[], object]] = [
                lambda: client.ask("Who?", corpus="reports"),
                lambda: client.recall("Who?", corpus="reports"),
                lambda: client.retrieve("Who?", corpus="reports"),
                lambda: client.compress(["Ada"], budget=5),
                lambda: client.corpora(),
                lambda: client.delete_corpus("reports"),
                lambda: client.usage(),
                lambda: client.documents.upload({"a.txt": b"a"}, corpus="reports"),
                lambda: client.documents.delete("d1", corpus="reports"),
                lambda: client.jobs.submit("/", corpus="reports"),
                lambda: client.jobs.cancel("j1"),
                lambda: client.jobs.retry("j1"),
                lambda: client.memories.add(say("I sing."), user="ada"),
                lambda: client.memories.search("sing", user="ada"),
                lambda: client.memories.context("sing", user="ada"),
                lambda: client.memories.edit("e1", "Ada sings.", user="ada"),
                lambda: client.memories.delete("e1", user="ada"),
                lambda: client.memories.undo("o1", user="ada"),
                lambda: client.memories.consolidate(user="ada"),
                lambda: client.memories.forget(user="ada"),
            ]
            for call in calls:
                try:
                    await call()  # type: ignore[misc]
                except LightRAGError:
                    continue
        assert len(network.sent) == len(calls)
        for request in network.sent:
            writes = required_access(request.method, request.url.path).writes
            assert writes == ("idempotency-key" in request.headers), request


class TestStreams:
    async def test_one_that_has_not_begun_is_asked_for_again(self, service: Service, pauses: list[float]) -> None:
        network = service.failing(httpx.ConnectError, answer(503))
        async with AsyncClient("http://service", transport=network) as client:
            events = [event async for event in client.stream("Who?", corpus="reports")]
        assert (len(events), len(network.sent)) == (5, 3)

    async def test_a_first_event_that_is_a_passing_error_is_no_beginning(
        self, service: Service, pauses: list[float]
    ) -> None:
        service.retrieve.error = BackendError("index is loading", retryable=True)
        network = service.failing()
        async with AsyncClient("http://service", transport=network) as client:
            with pytest.raises(BackendError, match="loading"):
                [event async for event in client.stream("Who?", corpus="reports", task="rag")]
        assert len(network.sent) == 3

    @pytest.mark.parametrize("failure", ["cut", httpx.Response(200, text='event: text\ndata: "Ada"\n\n')])
    async def test_one_that_breaks_off_after_its_first_event_is_an_error(
        self, service: Service, failure: Failure
    ) -> None:
        network = service.failing(failure)
        async with AsyncClient("http://service", transport=network) as client:
            events = client.stream("Who?", corpus="reports")
            await anext(events)
            with pytest.raises(BackendError) as caught:
                await anext(events)
        assert caught.value.retryable
        assert len(network.sent) == 1


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_would_lead_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="names nothing"):
        route("corpora", "reports", "documents", name)
    assert route("corpora", "a/b?c#d") == "/v1/corpora/a%2Fb%3Fc%23d"


def test_retry_after_is_a_number_or_a_date() -> None:
    assert retry_after("7") == 7.0
    assert retry_after("soon") is None
    assert retry_after("") is None
    assert retry_after(format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)) == 0.0
    later = retry_after(format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True))
    assert later is not None
    assert 3500 < later <= 3600
