"""The vLLM backend on a real engine on the CPU, against the transformers backend on the same tiny checkpoint."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
import pytest_asyncio
import torch
import uvicorn

from lightrag.api.app import create_app
from lightrag.errors import BackendError, ConfigurationError, LimitError, UsageError
from lightrag.generation.prompted import PromptedAnswerer
from lightrag.models import TransformersLanguageModel, VllmLanguageModel
from lightrag.models.base import EngineMemory, LanguageModel, Prompt, Sampling
from lightrag.models.vllm_cache import cpu_cache_bytes, leaves_cache_open
from lightrag.models.vllm_request import engine_prompt, sampling_parameters
from lightrag.rag import QuestionPipeline, Stages
from lightrag.types import ChatMessage, LatentPart
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.test_rag import Retrieve

QUESTIONS = [
    "When was the pier opened?",
    "Who?",
    "What did the council decide in the first winter, and how long was the bay closed by ice? " * 3,
    "港口办公室保存着什么? 😀",
]
PROMPTS = [Prompt.of(question, system="Answer with the words of the text.") for question in QUESTIONS]
SHORT = Sampling(max_tokens=24)


@dataclass
class NamedMemory:
    cells: int = 5
    cache_salt: str = "tenant/corpus@1"
    kv_transfer_params: Mapping[str, Any] = field(default_factory=lambda: {"memory": "somewhere"})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def engine(tiny_qwen2: Path) -> AsyncIterator[VllmLanguageModel]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        environment.setenv("VLLM_LOGGING_LEVEL", "ERROR")
        model = VllmLanguageModel(str(tiny_qwen2), context_tokens=1024, engine={"enforce_eager": True})
        await model.complete(PROMPTS[:1], Sampling(max_tokens=1))
        yield model
        await model.close()


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.timeout(300)
class TestEngine:
    async def test_completions_and_streams_equal_those_of_transformers(
        self, engine: VllmLanguageModel, tiny_qwen2: Path
    ) -> None:
        assert isinstance(engine, LanguageModel)
        reference = TransformersLanguageModel(str(tiny_qwen2))
        expected = await reference.complete(PROMPTS, SHORT)
        completions = await engine.complete(PROMPTS, SHORT)
        assert [each.text for each in completions] == [each.text for each in expected]
        for ours, theirs in zip(completions, expected, strict=True):
            assert (ours.finish_reason, ours.usage.calls) == (theirs.finish_reason, 1)
            assert ours.usage.prompt_tokens == theirs.usage.prompt_tokens
            assert ours.usage.completion_tokens == theirs.usage.completion_tokens
        deltas = [delta async for delta in engine.stream(PROMPTS[0], SHORT)]
        assert "".join(delta.text for delta in deltas) == expected[0].text
        assert len(deltas) > 5
        assert deltas[-1].finish_reason == "length"
        await reference.close()

    async def test_latents_are_spliced_like_in_transformers(self, engine: VllmLanguageModel, tiny_qwen2: Path) -> None:
        reference = TransformersLanguageModel(str(tiny_qwen2))
        states = torch.randn(7, 128, generator=torch.Generator().manual_seed(3)) * 0.1
        other = torch.randn(3, 128, generator=torch.Generator().manual_seed(4)) * 0.1
        parts = ("Read this: ", LatentPart(states, "a"), " and ", LatentPart(other, "b"), "\nHow long?")
        prompt = Prompt((ChatMessage("user", parts),))
        [expected] = await reference.complete([prompt], SHORT)
        [completion] = await engine.complete([prompt], SHORT)
        assert completion.text == expected.text
        assert completion.usage.prompt_tokens == expected.usage.prompt_tokens
        [changed] = await engine.complete([Prompt((ChatMessage("user", (*parts[:1], parts[3])),))], SHORT)
        assert changed.text != completion.text
        await reference.close()

    async def test_json_is_enforced(self, engine: VllmLanguageModel) -> None:
        sampling = Sampling(max_tokens=200, temperature=1.0, seed=1, json=True)
        [completion] = await engine.complete([Prompt.of("Facts as JSON?")], sampling)
        assert completion.text.lstrip().startswith("{")
        if completion.finish_reason == "stop":
            assert isinstance(json.loads(completion.text), dict)

    async def test_stop_strings_and_seeds_apply(self, engine: VllmLanguageModel) -> None:
        [whole] = await engine.complete(PROMPTS[2:3], SHORT)
        stop = whole.text[6:10]
        [stopped] = await engine.complete(PROMPTS[2:3], Sampling(max_tokens=24, stop=(stop,)))
        assert stopped.text == whole.text[: whole.text.index(stop)]
        assert stopped.finish_reason == "stop"
        warm = Sampling(max_tokens=16, temperature=1.0, seed=7)
        assert (await engine.complete(PROMPTS[:1], warm))[0].text == (await engine.complete(PROMPTS, warm))[0].text

    async def test_a_repeated_prompt_comes_from_the_prefix_cache_unless_the_salt_differs(
        self, engine: VllmLanguageModel
    ) -> None:
        messages = Prompt.of("The harbour office keeps the records of every ship. " * 20).messages

        async def cached(salt: str) -> int:
            [completion] = await engine.complete([Prompt(messages, cache_salt=salt)], Sampling(max_tokens=1))
            return completion.usage.cached_tokens

        assert await cached("one/corpus@1") == 0
        assert await cached("one/corpus@1") > 0
        assert await cached("two/corpus@1") == 0

    async def test_prompts_that_do_not_fit_or_do_not_suit_are_refused(self, engine: VllmLanguageModel) -> None:
        with pytest.raises(LimitError, match="shorten the prompt or lower max_tokens"):
            await engine.complete([Prompt.of("ship " * 2000)], SHORT)
        with pytest.raises(UsageError, match="without kv_transfer_config"):
            await engine.complete([Prompt(PROMPTS[0].messages, NamedMemory())], SHORT)
        wrong = Prompt((ChatMessage("user", (LatentPart(torch.zeros(3, 64), "chunk-1"),)),))
        with pytest.raises(UsageError, match=r"\(3, 64\)"):
            await engine.complete([wrong], SHORT)

    async def test_cancelled_callers_leave_nothing_running(self, engine: VllmLanguageModel) -> None:
        task = asyncio.create_task(engine.complete(PROMPTS * 4, Sampling(max_tokens=700)))
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        stream = engine.stream(PROMPTS[0], Sampling(max_tokens=700))
        await anext(stream)
        await stream.aclose()
        await at_rest((await engine._engine()).output_processor)
        await engine.check_health()

    async def test_a_client_that_leaves_a_streamed_chat_stops_its_request_in_the_engine(
        self, engine: VllmLanguageModel
    ) -> None:
        app = create_app(QuestionPipeline(Stages(Retrieve(), PromptedAnswerer(engine))), OneCorpus(), tenant="acme")
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
        serving = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        port = server.servers[0].sockets[0].getsockname()[1]
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0) as client:
            stream = await client.chat.completions.create(
                model="reports",
                messages=[{"role": "user", "content": "Who signed?"}],
                stream=True,
                max_tokens=700,
                extra_body={"lightrag": {"task": "rag"}},
            )
            async for chunk in stream:
                if chunk.choices[0].delta.content:
                    break
            requests = (await engine._engine()).output_processor
            assert requests.has_unfinished_requests()
            await stream.close()
        await at_rest(requests)
        server.should_exit = True
        await serving


async def at_rest(requests: Any) -> None:
    """Wait until an engine has no request in hand."""
    until = time.monotonic() + 60
    while requests.has_unfinished_requests():
        assert time.monotonic() < until
        await asyncio.sleep(0.02)


def test_a_cache_on_the_cpu_leaves_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_KVCACHE_SPACE", raising=False)
    assert leaves_cache_open({"max_model_len": 512})
    assert not leaves_cache_open({"kv_cache_memory_bytes": 2**30})
    assert not leaves_cache_open({"gpu_memory_utilization": 0.5})
    assert 256 * 2**20 <= cpu_cache_bytes() <= psutil.virtual_memory().total // 4
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    assert not leaves_cache_open({})


def test_capabilities_follow_the_engines_arguments() -> None:
    assert VllmLanguageModel("x").capabilities == {"latents"}
    connector = {"kv_connector": "Name", "kv_role": "kv_both"}
    both = VllmLanguageModel("x", engine={"kv_transfer_config": connector})
    assert both.capabilities == {"latents", "kv_memory"}
    assert VllmLanguageModel("x", engine={"enable_prompt_embeds": False}).capabilities == frozenset()
    assert isinstance(NamedMemory(), EngineMemory)


def test_a_memory_becomes_placeholders_salt_and_transfer_parameters(tiny_qwen2: Path) -> None:
    model = VllmLanguageModel(str(tiny_qwen2), engine={"kv_transfer_config": {"kv_connector": "Name"}})
    prompt = Prompt(PROMPTS[0].messages, NamedMemory(), cache_salt="a memory brings its own")
    rendered = model.renderer.render(prompt)
    request = engine_prompt(rendered, prompt, torch.float32)
    assert request["prompt_token_ids"] == [0] * 5 + rendered.token_ids
    assert request["cache_salt"] == "tenant/corpus@1"
    assert sampling_parameters(prompt, SHORT).extra_args == {"kv_transfer_params": {"memory": "somewhere"}}


def test_latents_lie_among_real_tokens_behind_a_memory(tiny_qwen2: Path) -> None:
    model = VllmLanguageModel(str(tiny_qwen2))
    states = torch.randn(3, 128)
    prompt = Prompt((ChatMessage("user", ("Read: ", LatentPart(states.numpy()), "!")),), NamedMemory())
    request = engine_prompt(model.renderer.render(prompt), prompt, torch.bfloat16)
    places = [index for index, real in enumerate(request["is_token_ids"]) if not real]
    assert len(places) == 3
    assert places[0] > 5
    assert torch.equal(request["prompt_embeds"][places], states.bfloat16())
    assert len(request["prompt_token_ids"]) == len(request["prompt_embeds"]) == len(request["is_token_ids"])


def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"pip install 'lightrag-ray\[vllm\]'"):
        VllmLanguageModel("x")


async def test_what_cannot_start_is_explained(tmp_path: Path, tiny_qwen2: Path) -> None:
    with pytest.raises(BackendError, match="not a language model"):
        await VllmLanguageModel(str(tmp_path)).complete(PROMPTS[:1])
    with pytest.raises(ConfigurationError, match="no_such_argument"):
        await VllmLanguageModel(str(tiny_qwen2), engine={"no_such_argument": 1}).complete(PROMPTS[:1])
