"""Traces, metrics and scaling of the service on Ray Serve, as whoever runs it sees them; and how it stops."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from uuid import uuid4

import httpx
import pytest

from tests.deployments.collector import Collector, Sent, collecting
from tests.deployments.conftest import Service, running
from tests.lightrag.models.remote.conftest import WORDS, Fault, Server, serving

pytestmark = [pytest.mark.ray, pytest.mark.slow]

QUESTION = "Who founded the zebra-striped mill?"


@dataclass(frozen=True)
class Watched:
    """A service that sends traces, whose model takes its time, and which scales on its own signals within seconds."""

    service: Service
    collector: Collector
    model: Server

    def ask(self, task: str = "memorag", **headers: str) -> httpx.Response:
        body = {"question": QUESTION, "task": task}
        url = f"{self.service.url}/v1/corpora/mill/ask"
        return httpx.post(url, json=body, headers=headers, timeout=120, trust_env=False)

    def ready(self) -> bool:
        return httpx.get(f"{self.service.url}/readyz", timeout=60, trust_env=False).status_code == 200

    def metrics(self) -> str:
        return httpx.get(f"{self.service.url}/metrics", timeout=60, trust_env=False).text

    def replicas(self, stage: str) -> int:
        found = re.search(rf'lightrag_stage_replicas{{stage="{stage}"}} (\S+)', self.metrics())
        assert found is not None
        return int(float(found[1]))


def eventually(holds: Callable[[], bool], *, within: float = 120.0) -> bool:
    ends = time.monotonic() + within
    while not holds():
        if time.monotonic() > ends:
            return False
        time.sleep(0.5)
    return True


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    settings = {
        "TRACES__EXPORTER": "otlp",
        "SCALE_UP_SECONDS": "1",
        "SCALE_DOWN_SECONDS": "4",
        "RETRIEVAL__MAXIMUM": "2",
        "RETRIEVAL__TARGET_BYTES": "1",
        "RETRIEVAL__TARGET_REQUESTS": "1000",
        "GENERATION__MAXIMUM": "2",
        "GENERATION__TARGET_TOKENS": "1",
        "GENERATION__TARGET_REQUESTS": "1000",
    }
    with collecting() as collector, serving() as model, pytest.MonkeyPatch.context() as environment:
        for name, value in settings.items():
            environment.setenv(f"LRAG_SERVICE__{name}", value)
        for stage in ("REQUEST", "RECALL", "RETRIEVE"):
            environment.setenv(f"LRAG_DEADLINES__{stage}", "110")
        environment.setenv("LRAG_SERVICE__TRACES__ENDPOINT", collector.url)
        environment.setenv("LRAG_GENERATOR__BACKEND", "openai")
        environment.setenv("LRAG_GENERATOR__MODEL", "slow")
        environment.setenv("LRAG_GENERATOR__API_KEY", "none")
        environment.setenv("LRAG_GENERATOR__BASE_URL", model.url)
        with running(tmp_path_factory.mktemp("watched")) as service:
            watched = Watched(service, collector, model)
            assert eventually(watched.ready, within=180)
            yield watched


def children(spans: list[Sent], parent: Sent) -> list[Sent]:
    return [sent for sent in spans if sent.parent == parent.span]


def named(spans: list[Sent], name: str) -> Sent:
    (found,) = [sent for sent in spans if sent.name == name]
    return found


def test_a_model_that_fails_is_replaced_by_quotes_and_said(watched: Watched) -> None:
    watched.model.fail(Fault(401))
    answer = watched.ask("rag").json()
    assert answer["kind"] == "extractive"
    assert "Ada Lind" in answer["text"]
    assert [(used["stage"], used["used"]) for used in answer["fallbacks"]] == [("generate", "quoted evidence")]


def test_one_question_is_one_trace_through_all_processes(watched: Watched) -> None:
    trace, client = uuid4().hex, uuid4().hex[:16]
    answer = watched.ask(traceparent=f"00-{trace}-{client}-01", baggage="lightrag.tenant_class=gold")
    assert answer.status_code == 200, answer.text
    wanted = {"POST /v1/corpora/{corpus}/ask", "ask", "recall", "retrieve", "generate"}
    wanted |= {"Recall.recall", "Retrieval.retrieve", "Generation.answer"}
    spans = watched.collector.of(trace, lambda found: wanted <= {sent.name for sent in found})
    assert wanted <= {sent.name for sent in spans}

    request = named(spans, "POST /v1/corpora/{corpus}/ask")
    assert request.parent == client
    assert request.attributes["lightrag.tenant"] == "default"
    assert request.attributes["http.response.status_code"] == 200
    question = named(children(spans, request), "ask")
    assert "lightrag.cancelled" not in question.attributes
    for stage, work in (
        ("recall", "Recall.recall"),
        ("retrieve", "Retrieval.retrieve"),
        ("generate", "Generation.answer"),
    ):
        # Plain retrieval may have been started beside a slow recall.
        asked = [sent for sent in children(spans, question) if sent.name == stage]
        assert asked
        done = [sent for parent in asked for sent in children(spans, parent) if sent.name == work]
        assert done, f"no span of {work} below {stage}"
        for sent in done:
            assert (sent.attributes["lightrag.corpus"], sent.attributes["lightrag.stage"]) == ("mill", stage)
            assert sent.attributes["lightrag.version"] == answer.json()["corpus"]["version"]
            # What the client says of its class is not believed.
            assert sent.attributes["lightrag.tenant_class"] == "standard"
            assert sent.process != request.process
    assert len({sent.process for sent in spans}) == 4
    assert not [body for body in watched.collector.bodies if b"zebra" in body]


def test_stages_say_what_they_hold_and_did_and_nobody_says_which_tenant(watched: Watched) -> None:
    assert watched.ask("rag").status_code == 200
    text = watched.metrics()
    for series in (
        'lightrag_request_seconds_count{replica="[^"]+",route="/v1/corpora/{corpus}/ask",tenant_class="standard"}',
        'lightrag_stage_seconds_count{replica="[^"]+",stage="retrieve",tenant_class="standard"}',
        'lightrag_stage_seconds_count{replica="[^"]+",stage="generate",tenant_class="standard"}',
        'lightrag_tokens_total{direction="cached",replica="[^"]+",tenant_class="standard"}',
        'lightrag_stage_calls_total{outcome="done",replica="[^"]+",stage="retrieve"}',
        'lightrag_stage_calls_total{outcome="done",replica="[^"]+",stage="generate"}',
        'lightrag_residency_bytes{held="corpora",replica="[^"]+",stage="retrieve"}',
        'lightrag_residency_values{held="corpora",replica="[^"]+",stage="retrieve"}',
        'lightrag_residency_leases_total{held="corpora",replica="[^"]+",result="miss",stage="retrieve"}',
    ):
        pattern = series.replace("{corpus}", r"\{corpus\}")
        values = [float(value) for value in re.findall(rf"^{pattern} (\S+)$", text, re.MULTILINE)]
        assert values, f"no series {series}"
        assert max(values) > 0, f"nothing was counted in {series}"
    for stage in ("recall", "retrieval", "compression", "generation", "conversation"):
        assert watched.replicas(stage) >= 1
    assert not re.search(r'="default"|="mill', text)


def test_memory_in_use_adds_replicas_which_go_when_it_is_not_used_any_more(watched: Watched) -> None:
    assert eventually(lambda: watched.ask("rag").status_code == 200 and watched.replicas("retrieval") == 2)
    assert eventually(lambda: watched.replicas("retrieval") == 1)


@pytest.mark.stops_service
def test_tokens_in_hand_add_replicas_and_a_stopped_service_ends_what_it_has_begun(watched: Watched) -> None:
    model = watched.model
    answers: list[httpx.Response] = []

    def ask() -> None:
        # Until the service takes nothing new, or is gone.
        with suppress(httpx.TransportError):
            while not answers or answers[-1].status_code == 200:
                answers.append(watched.ask("rag"))

    askers = [threading.Thread(target=ask) for _ in range(2)]
    model.seconds = 1.0
    begun = len(model.requests)
    model.left.clear()
    try:
        for asker in askers:
            asker.start()
        assert eventually(lambda: watched.replicas("generation") == 2)
        stopped = watched.service.lightrag("down")
        assert stopped.returncode == 0, stopped.stderr
        for asker in askers:
            asker.join(120)
        complete = [answer.json()["text"] for answer in answers if answer.status_code == 200]
        assert complete == ["".join(WORDS)] * (len(model.requests) - begun)
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert not model.left.is_set()
    finally:
        model.seconds = 0.0
