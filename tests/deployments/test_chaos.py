"""Replicas of every deployment and the controller are killed under load: no wrong answer, and no write is lost."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import psutil
import pytest

from tests.deployments import chaos
from tests.deployments.conftest import Service

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def family(service: Service) -> list[psutil.Process]:
    pid = json.loads((service.home / "service.json").read_text(encoding="utf-8"))["pid"]
    return psutil.Process(pid).children(recursive=True)


async def kill_and_settle(service: Service, *victims: str) -> None:
    for victim in victims:
        await asyncio.to_thread(chaos.kill, victim, family(service))
        await asyncio.sleep(0.5)  # requests meet the gap
    await chaos.settle(service.url)


@pytest.mark.timeout(600)  # replicas start again twice, which a busy machine takes its time for
async def test_whatever_is_killed_no_answer_is_wrong_and_no_write_is_lost(service: Service) -> None:
    await chaos.settle(service.url)
    async with chaos.load(service.url) as load:
        await kill_and_settle(service, chaos.CONTROLLER)
        await kill_and_settle(service, *(name for name in chaos.DEPLOYMENTS if name != "Ingress"))
        inside = load.failures
        await kill_and_settle(service, "Ingress")
    assert load.wrong == []
    # What only a stage or the controller lost is done again inside; deadlines are a busy machine's.
    assert [failure for failure in inside if "DeadlineExceeded" not in failure] == []
    for kind in ("ask", "stream", "remember"):
        assert any(one.kind == kind and not one.failure for one in load.outcomes), kind
    stored = await chaos.remembered(service.url)
    assert set(load.accepted) <= set(stored)
    assert len(stored) == len(set(stored))


@pytest.mark.timeout(600)
async def test_documents_of_an_accepted_upload_are_there_although_the_ingress_is_lost(service: Service) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=120, trust_env=False) as client:
        files = {"files": ("ferry.txt", b"The ferry across the Aske was built by Tor Moen.", "text/plain")}
        accepted = await client.post("/v1/corpora/uploaded/documents", files=files)
        assert accepted.status_code == 202, accepted.text
        await kill_and_settle(service, "Ingress")
        deadline = time.monotonic() + 120
        while (job := (await client.get(accepted.headers["Location"])).json())["state"] in ("queued", "running"):
            assert time.monotonic() < deadline, job
            await asyncio.sleep(0.5)
        assert job["state"] == "succeeded", job
        listed = (await client.get("/v1/corpora/uploaded/documents")).json()["documents"]
        assert [document["source"] for document in listed] == ["ferry.txt"]
        asked = await client.post("/v1/corpora/uploaded/ask", json={"question": "Who built the ferry?"})
        assert "Tor Moen" in asked.json()["text"]
