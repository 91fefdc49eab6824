"""Keys, quotas, request ids, metrics, logs, readiness, idempotency and administration over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request

from lightrag.api.app import create_app
from lightrag.api.logs import JsonFormatter
from lightrag.api.schemas import CorpusInfo
from lightrag.config import load_settings
from lightrag.errors import BackendError, NotFoundError
from lightrag.rag import QuestionPipeline, Stages
from lightrag.storage.objects import open_object_store
from lightrag.tenancy.audit import Act
from lightrag.tenancy.service import Tenancy
from lightrag.tenancy.types import KeyRequest, Role
from lightrag.types import CorpusId, CorpusVersion
from tests.lightrag.test_rag import Compress, Generate, Recall, Retrieve

ACT = Act("test")
ASK = {"question": "Who signed?"}


class EveryTenantHasReports:
    async def pin(self, corpus: CorpusId, version: int | None = None) -> CorpusVersion:
        if corpus.corpus != "reports":
            raise NotFoundError(f"there is no corpus {corpus.corpus!r}", subject=str(corpus))
        return corpus.at(3)

    async def corpora(self, tenant: str) -> list[CorpusInfo]:
        return []

    async def describe(self, corpus: CorpusId) -> CorpusInfo:
        await self.pin(corpus)
        return CorpusInfo(corpus="reports", version=3, committed_at="2026-01-01T00:00:00Z", counts={})


class Service:
    """An app whose stages are small local objects, over real records."""

    def __init__(self, home: Path, *, checks: Any = None, retrieve: Any = None, **tenancy: Any) -> None:
        options = {"authentication": "keys", "lease_seconds": 600, **tenancy}
        self.settings = load_settings(None, home=home, tenant="acme", tenancy=options)
        self.tenancy = Tenancy.open(self.settings, open_object_store(self.settings.storage_url))
        stages = Stages(retrieve or Retrieve(), Generate(), recall=Recall(), compress=Compress())
        self.app = create_app(
            QuestionPipeline(stages), EveryTenantHasReports(), tenant="acme", tenancy=self.tenancy, checks=checks
        )
        self.calls = 0
        self.called = asyncio.Event()
        self.release = asyncio.Event()

        @self.app.post("/v1/corpora/{corpus}/counted")
        async def counted(corpus: str, request: Request) -> dict[str, int]:
            self.calls += 1
            self.called.set()
            if "held" in request.query_params:
                await self.release.wait()
            return {"calls": self.calls}

        @self.app.get("/v1/broken")
        async def broken() -> None:
            raise ZeroDivisionError("a secret of the service")

    def key(self, role: Role = "writer", tenant: str = "acme") -> str:
        return self.tenancy.keys.create(KeyRequest(tenant, role=role), ACT).text

    def http(self, key: str | None = None, **headers: str) -> httpx.AsyncClient:
        authorization = {"Authorization": f"Bearer {self.key() if key is None else key}"}
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://service", headers={**authorization, **headers}
        )


Serve = Callable[..., AbstractAsyncContextManager[Service]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[Service]:
        service = Service(tmp_path, **options)
        yield service
        await service.tenancy.close()

    return opened


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Log lines as they would be written."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Keep()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("lightrag")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lambda: [json.loads(line) for line in lines]
    logger.removeHandler(handler)
    logger.setLevel(level)


class TestKeys:
    async def test_both_headers_are_understood(self, serve: Serve) -> None:
        async with serve() as service:
            key = service.key()
            async with service.http("", Authorization=f"bearer  {key}") as http:
                assert (await http.get("/v1/corpora")).status_code == 200
            async with service.http("", Authorization="", **{"X-API-Key": key}) as http:
                assert (await http.get("/v1/corpora")).status_code == 200

    async def test_a_refused_chat_is_refused_in_the_shape_of_openai(self, serve: Serve) -> None:
        async with serve() as service, service.http("wrong") as http:
            response = await http.post("/v1/chat/completions", json={})
            assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")

    async def test_an_admin_makes_rotates_and_revokes_keys_of_the_tenant(self, serve: Serve) -> None:
        async with serve() as service, service.http(service.key("admin")) as http:
            made = await http.post("/v1/admin/keys", json={"name": "chat", "role": "reader"})
            assert made.status_code == 201
            async with service.http(made.json()["text"]) as reader:
                assert (await reader.post("/v1/corpora/reports/ask", json=ASK)).status_code == 200
                assert (await reader.post("/v1/corpora/reports/counted")).status_code == 403
                assert (await reader.get("/v1/admin/keys")).status_code == 403
                rotated = await http.post(
                    f"/v1/admin/keys/{made.json()['key_id']}/rotate", json={"overlap_seconds": 60}
                )
                assert (await reader.get("/v1/corpora")).status_code == 200
                await http.delete(f"/v1/admin/keys/{made.json()['key_id']}")
                assert (await reader.get("/v1/corpora")).status_code == 401
            listed = (await http.get("/v1/admin/keys")).json()["keys"]
            assert rotated.json()["text"] not in json.dumps(listed)
            assert {key["name"] for key in listed} == {"", "chat"}

    async def test_an_admin_gives_no_rights_that_it_lacks(self, serve: Serve) -> None:
        async with serve() as service:
            operator = service.tenancy.keys.create(KeyRequest("acme", role="operator"), ACT).key.key_id
            async with service.http(service.key("admin")) as http:
                assert (await http.post("/v1/admin/keys", json={"role": "operator"})).status_code == 403
                rotate = await http.post(f"/v1/admin/keys/{operator}/rotate", json={"overlap_seconds": 0})
                assert rotate.status_code == 403
                assert (await http.get("/v1/admin/tenants")).status_code == 403

    async def test_without_authentication_everybody_is_the_one_tenant_and_nobody_administers(
        self, serve: Serve
    ) -> None:
        async with serve(authentication="none") as service, service.http("") as http:
            assert (await http.post("/v1/corpora/reports/ask", json=ASK)).json()["corpus"]["tenant"] == "acme"
            assert (await http.post("/v1/corpora/reports/counted")).status_code == 200
            assert (await http.get("/metrics")).status_code == 200
            for path in ("keys", "tenants", "audit"):
                assert (await http.get(f"/v1/admin/{path}")).status_code == 403


class TestTenants:
    async def test_an_operator_makes_locks_exports_and_deletes_a_tenant(self, serve: Serve) -> None:
        async with serve() as service, service.http(service.key("operator")) as http:
            assert (await http.post("/v1/admin/tenants", json={"tenant": "globex"})).status_code == 201
            assert (await http.post("/v1/admin/tenants", json={"tenant": "globex"})).status_code == 409
            key = (await http.post("/v1/admin/tenants/globex/keys", json={"role": "writer"})).json()["text"]
            service.tenancy.store.put("globex/corpora/notes/chunks/a.parquet", b"12345")
            service.tenancy.store.put("acme/corpora/notes/chunks/a.parquet", b"1")
            async with service.http(key) as theirs:
                assert (await theirs.post("/v1/corpora/reports/ask", json=ASK)).status_code == 200
                await http.patch("/v1/admin/tenants/globex", json={"active": False})
                assert (await theirs.get("/v1/corpora")).status_code == 401
                await http.patch("/v1/admin/tenants/globex", json={"active": True})
                lines = (await http.get("/v1/admin/tenants/globex/export")).text.splitlines()
                kinds = {json.loads(line)["kind"] for line in lines}
                assert {"tenant", "key", "usage", "audit"} <= kinds
                assert key.split("_", 2)[2] not in "".join(lines)
                removed = (await http.delete("/v1/admin/tenants/globex")).json()
                assert (await theirs.get("/v1/corpora")).status_code == 401
            assert (removed["keys"], removed["records"], removed["remaining_objects"]) == (1, 1, 0)
            assert sum(corpus["objects"] for corpus in removed["corpora"].values()) >= 1
            assert list(service.tenancy.store.list("globex")) == []
            assert list(service.tenancy.store.list("acme")) != []
            assert [tenant["tenant"] for tenant in (await http.get("/v1/admin/tenants")).json()["tenants"]] == ["acme"]
            assert (await http.delete("/v1/admin/tenants/acme")).status_code == 422

    async def test_tenants_come_in_pages(self, serve: Serve) -> None:
        async with serve() as service, service.http(service.key("operator")) as http:
            for name in ("b", "c", "d"):
                await http.post("/v1/admin/tenants", json={"tenant": name})
            seen, cursor = [], ""
            while cursor is not None:
                page = (await http.get("/v1/admin/tenants", params={"cursor": cursor, "limit": 2})).json()
                seen += [tenant["tenant"] for tenant in page["tenants"]]
                cursor = page["next"]
            assert seen == ["acme", "b", "c", "d"]


class TestQuotas:
    async def test_a_used_up_rate_is_429_and_says_when_to_come_back(self, serve: Serve) -> None:
        async with serve(classes={"standard": {"requests_per_minute": 3}}) as service, service.http() as http:
            statuses = [(await http.get("/v1/corpora")).status_code for _ in range(5)]
            refused = await http.get("/v1/corpora")
            assert statuses == [200, 200, 200, 429, 429]
            assert 1 <= int(refused.headers["retry-after"]) <= 60
            assert refused.json()["type"] == "urn:lightrag:problem:quota"
            assert (await http.get("/v1/usage")).status_code == 200
            assert (await http.get("/healthz")).status_code == 200

    async def test_tokens_of_the_day_run_out_also_when_another_replica_used_them(self, serve: Serve) -> None:
        quota = {"classes": {"standard": {"tokens_per_day": 20}}}
        async with serve(**quota) as service, service.http() as http:
            statuses = [(await http.post("/v1/corpora/reports/ask", json=ASK)).status_code for _ in range(3)]
            assert statuses == [200, 200, 429]  # an answer costs twelve
            await service.tenancy.flush()
            async with serve(**quota) as replica, replica.http() as other:
                refused = await other.post("/v1/corpora/reports/ask", json=ASK)
                assert refused.status_code == 429
                assert 1 <= int(refused.headers["retry-after"]) <= 86_400
            assert (await http.post("/v1/corpora/reports/ask", json=ASK)).status_code == 429

    async def test_too_many_bytes_are_refused_before_they_are_read(self, serve: Serve) -> None:
        async with serve(classes={"standard": {"stored_bytes": 100}}) as service, service.http() as http:
            assert (await http.post("/v1/corpora/reports/counted", content=b"x" * 50)).status_code == 200
            assert (await http.post("/v1/corpora/reports/counted", content=b"x" * 200)).status_code == 429
            assert (await http.post("/v1/corpora/reports/ask", json={"question": "?" * 200})).status_code == 200
        assert service.calls == 1

    async def test_a_burst_of_one_tenant_leaves_room_for_another(self, serve: Serve) -> None:
        async with serve(slots=2, slots_per_tenant=1, queue_per_tenant=1) as service:
            service.tenancy.tenants.create("globex", "standard", ACT)
            async with service.http() as loud, service.http(service.key(tenant="globex")) as quiet:
                slow = "/v1/corpora/reports/counted?held"
                burst = [asyncio.create_task(loud.post(slow)) for _ in range(6)]
                await service.called.wait()
                assert (await quiet.post("/v1/corpora/reports/counted")).status_code == 200
                assert not all(task.done() for task in burst)
                while sum(task.done() for task in burst) < 4:  # one holds the slot, one waits
                    await asyncio.wait([task for task in burst if not task.done()], return_when=asyncio.FIRST_COMPLETED)
                service.release.set()
                statuses = sorted([(await task).status_code for task in burst])
            assert statuses == [200, 200, 429, 429, 429, 429]


class TestUsage:
    async def test_usage_is_kept_per_corpus_and_model(self, serve: Serve) -> None:
        async with serve() as service, service.http() as http:
            for _ in range(2):
                await http.post("/v1/corpora/reports/ask", json=ASK)
            await http.post("/v1/corpora/reports/ask", json={**ASK, "stream": True})
            await http.post("/v1/corpora/reports/retrieve", json=ASK)
            await http.post("/v1/corpora/absent/ask", json=ASK)
            report = (await http.get("/v1/usage")).json()
            used = {(line["corpus"], line["model"]): line["requests"] for line in report["lines"]}
            tokens = sum(line["prompt_tokens"] + line["completion_tokens"] for line in report["lines"])
        assert sum(count for (corpus, _), count in used.items() if corpus == "reports") == 4
        assert "absent" not in {corpus for corpus, _ in used}
        assert tokens == 36

    async def test_what_was_counted_survives_the_end_of_the_process(self, serve: Serve) -> None:
        async with serve() as service, service.http() as http:
            await http.post("/v1/corpora/reports/ask", json=ASK)
        async with serve() as later, later.http() as http:
            assert (await http.get("/v1/usage")).json()["lines"][0]["requests"] == 1

    async def test_a_failing_database_costs_no_answer_and_no_count(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with serve() as service, service.http() as http:
            with monkeypatch.context() as broken:

                def fail(_: object) -> None:
                    raise BackendError("the database is away", retryable=True)

                broken.setattr(service.tenancy.usage_records, "add", fail)
                assert (await http.post("/v1/corpora/reports/ask", json=ASK)).status_code == 200
                with pytest.raises(BackendError):
                    await service.tenancy.flush()
            assert (await http.get("/v1/usage")).json()["lines"][0]["requests"] == 1

    async def test_a_report_has_a_sensible_range(self, serve: Serve) -> None:
        async with serve() as service, service.http() as http:
            backwards = {"first": "2026-02-01", "last": "2026-01-01"}
            assert (await http.get("/v1/usage", params=backwards)).status_code == 422
            assert (await http.get("/v1/usage", params={"first": "1900-01-01"})).status_code == 422
            assert (await http.get("/v1/usage", params={"first": "yesterday"})).status_code == 422

    async def test_writes_are_in_the_audit_log_and_reads_are_not(self, serve: Serve) -> None:
        async with serve() as service, service.http(service.key("admin")) as http:
            await http.post("/v1/corpora/reports/counted?user=ada", content=b"content", headers={"X-Request-ID": "r-1"})
            await http.post("/v1/corpora/reports/ask", json=ASK)
            entries = (await http.get("/v1/admin/audit")).json()["entries"]
        line = entries[0]
        assert (line["action"], line["subject"]) == ("POST /v1/corpora/{corpus}/counted", "/v1/corpora/reports/counted")
        assert (line["outcome"], line["request_id"]) == ("200", "r-1")
        assert "ask" not in json.dumps(entries)
        assert "content" not in json.dumps(entries)
        assert "ada" not in json.dumps(entries)


class TestRequests:
    @pytest.mark.parametrize("given", ["abc-1", "A" * 128, "a:b.c_d"])
    async def test_a_clean_request_id_comes_back(self, serve: Serve, given: str) -> None:
        async with serve() as service, service.http() as http:
            response = await http.get("/v1/nothing", headers={"X-Request-ID": given})
            assert response.headers["x-request-id"] == given

    @pytest.mark.parametrize("given", ["", "a b", "x" * 129, "<script>", "ä".encode().decode("latin-1")])
    async def test_any_other_is_replaced(self, serve: Serve, given: str) -> None:
        async with serve() as service, service.http() as http:
            response = await http.get("/healthz", headers={"X-Request-ID": given.encode("latin-1")})  # type: ignore[dict-item]  # bytes are sent as they are
            assert response.headers["x-request-id"] != given
            assert len(response.headers["x-request-id"]) == 32

    async def test_headers_that_steer_the_service_do_not_arrive(self, serve: Serve) -> None:
        async with serve() as service, service.http() as http:

            @service.app.get("/v1/seen")
            async def seen(request: Request) -> list[str]:
                return list(request.headers)

            sent = {
                "x-session-id": "a",
                "serve_multiplexed_model_id": "b",
                "X-Request-Timeout-Seconds": "9",
                "x-mine": "c",
            }
            names = (await http.get("/v1/seen", headers=sent)).json()
        assert "x-mine" in names
        assert not {name.lower() for name in sent} & (set(names) - {"x-mine"})

    async def test_a_bug_is_a_problem_document_without_its_details(self, serve: Serve, log_lines: Any) -> None:
        async with serve() as service, service.http() as http:
            response = await http.get("/v1/broken", headers={"X-Request-ID": "bug-1"})
        assert (response.status_code, response.headers["x-request-id"]) == (500, "bug-1")
        assert "bug-1" in response.json()["detail"]
        assert "secret" not in response.text
        assert any("ZeroDivisionError" in line.get("exception", "") for line in log_lines())

    async def test_log_lines_are_json_with_ids_and_without_content_or_secrets(
        self, serve: Serve, log_lines: Any
    ) -> None:
        async with serve() as service:
            key = service.key()
            async with service.http(key, **{"X-Request-ID": "line-1"}) as http:
                await http.post("/v1/corpora/reports/ask?user=ada", json={"question": "Where is the treasure?"})
        (line,) = [line for line in log_lines() if line.get("route") == "/v1/corpora/{corpus}/ask"]
        assert (line["request_id"], line["tenant"], line["status"], line["method"]) == ("line-1", "acme", 200, "POST")
        text = json.dumps(log_lines())
        assert key.split("_", 2)[2] not in text
        assert "treasure" not in text
        assert "ada" not in text

    async def test_metrics_name_classes_and_routes_and_no_tenant(self, serve: Serve) -> None:
        async with serve() as service, service.http() as http, service.http(service.key("operator")) as operator:
            await http.post("/v1/corpora/reports/ask", json=ASK)
            await http.request("BREW", "/v1/corpora/anything/else")
            assert (await http.get("/metrics")).status_code == 403
            text = (await operator.get("/metrics")).text
        assert 'route="/v1/corpora/{corpus}/ask",status="200",tenant_class="standard"} 1.0' in text
        assert 'lightrag_tokens_total{direction="prompt"' in text
        assert 'stage="generate"' in text
        assert 'method="other"' in text
        assert "acme" not in text
        assert "anything" not in text

    async def test_readiness_names_what_is_missing_and_not_why(self, serve: Serve) -> None:
        async def unreachable() -> None:
            raise BackendError("postgresql://user@secret-host is away")

        async with serve(checks={"stages": unreachable}) as service, service.http("") as http:
            response = await http.get("/readyz")
            assert (response.status_code, response.json()["status"]) == (503, "not ready")
            assert response.json()["checks"] == {"records": "ok", "storage": "ok", "stages": "failed"}
            assert "secret-host" not in response.text
            assert (await http.get("/healthz")).status_code == 200


class TestIdempotency:
    async def test_a_repeated_write_is_done_once(self, serve: Serve) -> None:
        async with serve() as service, service.http(**{"Idempotency-Key": "order-1"}) as http:
            first, second = [await http.post("/v1/corpora/reports/counted", content=b"a") for _ in range(2)]
            other = await http.post("/v1/corpora/reports/counted", content=b"b")
            read = await http.post("/v1/corpora/reports/ask", json=ASK)
        assert first.content == second.content
        assert (first.headers.get("idempotent-replayed"), second.headers["idempotent-replayed"]) == (None, "true")
        assert (other.status_code, service.calls) == (422, 1)
        assert read.status_code == 200

    async def test_the_same_write_at_the_same_time_conflicts(self, serve: Serve) -> None:
        async with serve() as service, service.http(**{"Idempotency-Key": "order-2"}) as http:
            slow = asyncio.create_task(http.post("/v1/corpora/reports/counted?held"))
            await service.called.wait()
            assert (await http.post("/v1/corpora/reports/counted?held")).status_code == 409
            service.release.set()
            assert (await slow).status_code == 200

    async def test_a_key_of_a_failed_write_may_be_used_again(self, serve: Serve) -> None:
        async with serve() as service, service.http(**{"Idempotency-Key": "order-3"}) as http:

            @service.app.post("/v1/sometimes")
            async def sometimes() -> dict[str, int]:
                service.calls += 1
                if service.calls == 1:
                    raise BackendError("busy", retryable=True)
                return {"calls": service.calls}

            assert (await http.post("/v1/sometimes")).status_code == 503
            assert (await http.post("/v1/sometimes")).json() == {"calls": 2}
            assert (await http.post("/v1/sometimes")).json() == {"calls": 2}


class TestCorpora:
    async def test_a_known_version_is_not_sent_again(self, serve: Serve) -> None:
        async with serve() as service, service.http() as http:
            first = await http.get("/v1/corpora/reports")
            again = await http.get("/v1/corpora/reports", headers={"If-None-Match": first.headers["etag"]})
            older = await http.get("/v1/corpora/reports", headers={"If-None-Match": '"2", W/"1"'})
        assert (first.headers["etag"], again.status_code, again.content) == ('"3"', 304, b"")
        assert older.json() == first.json()

    async def test_corpora_come_in_pages_without_gaps(self, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
        names = [f"c{number:02}" for number in range(7)]

        async def corpora(self: object, tenant: str) -> list[CorpusInfo]:
            return [CorpusInfo(corpus=name, version=1, committed_at="", counts={}) for name in reversed(names)]

        monkeypatch.setattr(EveryTenantHasReports, "corpora", corpora)
        async with serve() as service, service.http() as http:
            seen, cursor = [], ""
            while cursor is not None:
                page = (await http.get("/v1/corpora", params={"cursor": cursor, "limit": 3})).json()
                seen += [info["corpus"] for info in page["corpora"]]
                cursor = page["next"]
        assert seen == names
