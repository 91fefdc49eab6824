"""The service on one real vLLM engine, a beacon checkpoint behind it, against transformers in this process."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
import pytest_asyncio
from safetensors.torch import load_file, save_file

from lightrag import Engine
from lightrag.cli import process
from lightrag.client import AsyncClient
from lightrag.config import load_settings
from lightrag.errors import BackendError
from lightrag.types import Answer, Fallback, Task
from tests.checkpoints import SPECIAL_TOKENS
from tests.deployments.conftest import PAGES, Service, free_port, write_pages
from tests.lightrag.memory.beacon.checkpoints import save_servable_beacon_checkpoint

pytest.importorskip("vllm")
pytestmark = [pytest.mark.ray, pytest.mark.vllm, pytest.mark.slow, pytest.mark.timeout(900)]

QUESTION = "Who founded the mill?"
LATENTS = {"task": "rag", "compress_to": 60, "compress_method": "latents"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A beacon model that ends its answers soon: in long ones, two words would once be equally likely."""
    folder = save_servable_beacon_checkpoint(tmp_path_factory.mktemp("vllm") / "beacon")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][SPECIAL_TOKENS.index("<|im_end|>")] *= 2.5
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def settings_of(checkpoint: Path, engine: str) -> dict[str, dict[str, Any]]:
    """Settings that differ in one word between the service and what it is compared with."""
    return {
        "generator": {"backend": engine, "model": str(checkpoint), "max_tokens": 24},
        "memory": {"engine": engine, "model": str(checkpoint), "kind": "beacon", "window_tokens": 300},
        "compression": {"models": {"latents": str(checkpoint)}},
        # The machine may be busy with other things; a fallback would not be what is compared.
        "deadlines": {"request": 240, "recall": 200, "retrieve": 200, "compress": 200},
    }


@pytest.fixture(scope="module")
def service(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that generates and recalls with vLLM, and a corpus with memories and latents."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        environment.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        environment.setenv("LRAG_INGEST__LATENTS", "true")
        environment.setenv("LRAG_GENERATOR__ENGINE", '{"enforce_eager": true, "max_model_len": 2048}')
        environment.setenv("LRAG_COMPRESSION__MODELS__LATENTS", str(checkpoint))
        for section in ("generator", "memory", "deadlines"):
            for name, value in settings_of(checkpoint, "vllm")[section].items():
                environment.setenv(f"LRAG_{section}__{name}".upper(), str(value))
        started = Service(tmp_path_factory.mktemp("vllm-service"), free_port())
        with pytest.MonkeyPatch.context() as ingesting:
            ingesting.setenv("LRAG_GENERATOR__BACKEND", "extractive")  # no engine for gists that nobody reads here
            started.ingest(write_pages(started.home / "pages", PAGES), "mill")
        up = started.lightrag("up")
        assert up.returncode == 0, up.stderr
        wait_until_ready(started)
        yield started
        down = started.lightrag("down")
        assert down.returncode == 0, down.stderr


def wait_until_ready(service: Service) -> None:
    """The ingress answers while the engine still starts."""
    until = time.monotonic() + 500
    while httpx.get(f"{service.url}/readyz", timeout=120, trust_env=False).status_code != 200:
        assert time.monotonic() < until
        time.sleep(1)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def reference(checkpoint: Path, service: Service) -> AsyncIterator[Engine]:
    """Transformers over the corpus of the service."""
    async with Engine(load_settings(home=service.home, **settings_of(checkpoint, "transformers"))) as engine:
        yield engine


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0, timeout=280) as made:
        yield made


def chat(client: openai.OpenAI, **options: Any) -> tuple[str, dict[str, Any], Any]:
    """A streamed chat: its text, the whole answer of the last chunk, and the usage."""
    chunks = list(
        client.chat.completions.create(
            model="mill",
            messages=[{"role": "user", "content": QUESTION}],
            stream=True,
            stream_options={"include_usage": True},
            extra_body={"lightrag": options},
        )
    )
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    whole = next(chunk.model_extra["lightrag"] for chunk in chunks if chunk.model_extra.get("lightrag"))
    return "".join(texts), whole, chunks[-1].usage


def assert_equal(text: str, whole: dict[str, Any], expected: Answer) -> None:
    assert whole["fallbacks"] == []
    assert expected.fallbacks == ()
    assert text == whole["text"] == expected.text
    assert [clue["text"] for clue in whole["clues"]] == [clue.text for clue in expected.clues]
    assert [item["chunk"]["chunk_id"] for item in whole["evidence"]] == [
        item.chunk.chunk_id for item in expected.evidence
    ]
    assert whole["notes"] == list(expected.notes)


@pytest.mark.asyncio(loop_scope="module")
class TestChat:
    async def test_clues_and_answer_over_a_kv_memory_are_those_of_transformers(
        self, client: openai.OpenAI, reference: Engine
    ) -> None:
        text, whole, usage = chat(client, task="memorag")
        expected = await reference.ask(QUESTION, corpus="mill", task="memorag")
        assert_equal(text, whole, expected)
        assert whole["clues"]
        assert "KV memories of default/mill@1" in whole["notes"][0]
        assert usage.completion_tokens == expected.usage.completion_tokens
        assert usage.prompt_tokens == expected.usage.prompt_tokens
        assert usage.prompt_tokens_details.cached_tokens >= expected.usage.cached_tokens > 0

    async def test_an_answer_from_memory_alone_is_that_of_transformers(
        self, client: openai.OpenAI, reference: Engine
    ) -> None:
        text, whole, _ = chat(client, task="qa")
        assert_equal(text, whole, await reference.ask(QUESTION, corpus="mill", task="qa"))
        assert text
        assert whole["kind"] == "generated"

    async def test_an_answer_from_latents_is_that_of_transformers(
        self, client: openai.OpenAI, reference: Engine
    ) -> None:
        text, whole, _ = chat(client, **LATENTS)
        expected = await reference.ask(QUESTION, corpus="mill", **LATENTS)  # type: ignore[arg-type]
        assert_equal(text, whole, expected)
        assert any("were read from storage" in note for note in whole["notes"])
        plain, _, _ = chat(client, task="rag")
        assert plain != text


def test_one_engine_serves_recall_and_generation(service: Service, client: openai.OpenAI) -> None:
    chat(client, task="memorag")
    assert len(engines(service)) == 1


def engines(service: Service) -> list[psutil.Process]:
    """The processes in which engines of a service compute, whoever their parents are by now."""
    found = process.find(load_settings(home=service.home))
    assert found is not None
    computing = []
    for each in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            # The service is the leader of a session of its own.
            ours = os.getsid(each.pid) == found.pid
            if ours and "EngineCor" in f"{each.name()} {each.cmdline()}" and each.status() != psutil.STATUS_ZOMBIE:
                computing.append(each)
    return computing


async def test_an_engine_that_dies_is_replaced_and_no_answer_is_wrong_meanwhile(service: Service) -> None:
    tasks: tuple[Task, ...] = ("qa", "memorag", "rag")
    async with AsyncClient(service.url, seconds=280, retries=0) as client:

        async def ask(task: Task) -> tuple[str, tuple[Fallback, ...]]:
            answer = await client.ask(QUESTION, corpus="mill", task=task)
            return answer.text, answer.fallbacks

        right = {task: await ask(task) for task in tasks}
        assert [fallbacks for _, fallbacks in right.values()] == [()] * len(tasks)
        [dead] = engines(service)
        under_way = [asyncio.create_task(ask(task)) for task in tasks]
        await asyncio.sleep(0.1)
        dead.kill()
        await asyncio.sleep(1)  # these find an engine that is gone
        asked = [*under_way, *(asyncio.create_task(ask(task)) for task in tasks)]
        for task, outcome in zip(tasks * 2, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            # A machine that takes longer to start an engine than calls are repeated says so.
            assert outcome == right[task] or (isinstance(outcome, BackendError) and outcome.retryable), outcome
        await asyncio.to_thread(wait_until_ready, service)
        assert {task: await ask(task) for task in tasks} == right
    [replaced] = engines(service)
    assert replaced.pid != dead.pid


def test_the_beacon_checkpoint_was_made_servable_once_and_the_doctor_says_so(service: Service) -> None:
    made = [path for path in (service.home / "served").iterdir() if not path.name.startswith(".")]
    assert len(made) == 1
    assert not any("beacon" in name for name in load_file(made[0] / "model.safetensors"))
    said = service.lightrag("doctor", "--json").stdout
    assert f"on the generator's engine; the engine loads {made[0]}, which is there" in said
