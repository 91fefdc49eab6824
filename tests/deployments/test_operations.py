"""Readiness, request ids, metrics and usage of the service on Ray Serve."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.deployments.conftest import Service, both_proxies

pytestmark = [pytest.mark.ray, both_proxies]


def test_the_service_is_ready_once_every_stage_is_warm(service: Service) -> None:
    response = httpx.get(f"{service.url}/readyz", timeout=30)
    deadline = time.monotonic() + 180
    while response.status_code == 503 and time.monotonic() < deadline:  # stages may still be loading their models
        time.sleep(1)
        response = httpx.get(f"{service.url}/readyz", timeout=30)
    assert (response.status_code, response.json()["status"]) == (200, "ready")
    assert set(response.json()["checks"]) == {
        "records", "storage", "recall", "retrieval", "compression", "generation",
    }  # fmt: skip


def test_a_request_id_comes_back_once(service: Service) -> None:
    response = httpx.get(f"{service.url}/version", headers={"X-Request-ID": "mine-1"}, timeout=30)
    assert response.headers.get_list("x-request-id") == ["mine-1"]
    assert len(httpx.get(f"{service.url}/version", timeout=30).headers.get_list("x-request-id")) == 1


def test_answers_are_counted(service: Service) -> None:
    asked = httpx.post(f"{service.url}/v1/corpora/absent/ask", json={"question": "Who?"}, timeout=60)
    assert asked.status_code == 404
    text = httpx.get(f"{service.url}/metrics", timeout=30).text
    assert 'route="/v1/corpora/{corpus}/ask",status="404",tenant_class="standard"' in text
    assert httpx.get(f"{service.url}/v1/usage", timeout=30).json()["tenant"] == "default"
