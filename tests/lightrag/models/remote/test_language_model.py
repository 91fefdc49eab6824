"""Remote chat models against a real server on loopback that misbehaves as told."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from typing import Any

import pytest

from lightrag.config import GeneratorSettings
from lightrag.errors import BackendError, ConfigurationError, LightRAGWarning, LimitError, UsageError
from lightrag.models import open_language_model
from lightrag.models.base import LanguageModel, Prompt, Sampling
from lightrag.models.remote import connection
from lightrag.models.remote.language_model import OpenAILanguageModel
from lightrag.models.remote.providers import PROVIDERS, endpoint, window_of
from lightrag.types import ChatMessage, LatentPart, Usage
from tests.lightrag.models.remote.conftest import WORDS, Fault, Server

KEY = "sk-verysecretkey123"
TEXT = "".join(WORDS)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_DELAY", 0.02)
    for provider in PROVIDERS.values():
        for variable in (provider.key_variable, provider.url_variable, provider.version_variable):
            if variable:
                monkeypatch.delenv(variable, raising=False)


def model_at(server: Server, **options: Any) -> OpenAILanguageModel:
    timeout = options.pop("timeout_seconds", 5.0)
    reached = endpoint("openai", base_url=server.url, api_key=KEY, timeout_seconds=timeout)
    return OpenAILanguageModel("tiny", reached, **options)


async def test_prompts_are_completed_with_usage(server: Server) -> None:
    model = model_at(server)
    assert isinstance(model, LanguageModel)
    first, second = await model.complete([Prompt.of("a", system="be brief"), Prompt.of("b")])
    assert (first.text, second.text) == (f"a: {TEXT}", f"b: {TEXT}")
    assert first.finish_reason == "stop"
    assert first.usage == Usage(11, 6, 3, 1)
    asked = next(request for request in server.requests if request["messages"][-1]["content"] == "a")
    assert asked["messages"][0] == {"role": "system", "content": "be brief"}
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    assert await model.complete([]) == []
    await model.close()


async def test_sampling_is_passed_on(server: Server) -> None:
    sampling = Sampling(max_tokens=7, temperature=0.5, top_p=0.9, stop=("\n",), seed=3, json=True)
    [completion] = await model_at(server).complete([Prompt.of("JSON please")], sampling)
    assert completion.text == '{"year": 1874}'
    [request] = server.requests
    assert (request["max_tokens"], request["temperature"], request["top_p"]) == (7, 0.5, 0.9)
    assert (request["stop"], request["seed"]) == (["\n"], 3)
    assert request["response_format"] == {"type": "json_object"}


async def test_streaming_gives_pieces_and_ends_with_usage(server: Server) -> None:
    deltas = [delta async for delta in model_at(server).stream(Prompt.of("a"))]
    assert [delta.text for delta in deltas] == [*WORDS, ""]
    assert (deltas[-1].finish_reason, deltas[-1].usage) == ("length", Usage(11, 6, 3, 1))


async def test_usage_is_estimated_where_the_server_does_not_say(server: Server) -> None:
    server.usage = False
    [completion] = await model_at(server).complete([Prompt.of("a")])
    deltas = [delta async for delta in model_at(server).stream(Prompt.of("a"))]
    for usage in (completion.usage, deltas[-1].usage):
        assert usage is not None
        assert usage.prompt_tokens > 0
        assert usage.completion_tokens >= 6
        assert usage.calls == 1


@pytest.mark.parametrize("fault", [Fault(429), Fault(500), Fault(503), Fault(408)])
async def test_passing_faults_are_tried_again(server: Server, fault: Fault) -> None:
    server.fail(fault, fault)
    [completion] = await model_at(server).complete([Prompt.of("a")])
    assert completion.text == f"a: {TEXT}"
    assert len(server.requests) == 3
    server.fail(fault)
    assert "".join([delta.text async for delta in model_at(server).stream(Prompt.of("a"))]) == TEXT


async def test_retries_wait_as_long_as_the_server_asks(server: Server) -> None:
    server.fail(Fault(429, headers={"retry-after": "0.4"}))
    await model_at(server).complete([Prompt.of("a")])
    assert server.times[1] - server.times[0] >= 0.4


async def test_a_server_that_asks_to_wait_for_minutes_is_not_waited_for(server: Server) -> None:
    server.fail(Fault(429, headers={"retry-after": "3600"}))
    with pytest.raises(BackendError, match="status 429") as caught:
        await model_at(server).complete([Prompt.of("a")])
    assert caught.value.retryable
    assert len(server.requests) == 1


async def test_faults_that_last_are_reported_as_retryable(server: Server) -> None:
    server.fail(*[Fault(503)] * 9)
    with pytest.raises(BackendError, match="status 503") as caught:
        await model_at(server, max_retries=2).complete([Prompt.of("a")])
    assert caught.value.retryable
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("fault", "cure"),
    [
        (Fault(401, message=f"Incorrect API key provided: {KEY}."), "check api_key"),
        (Fault(403), "rights"),
        (Fault(404), "check model and base_url"),
        (Fault(400), "made up"),
        (Fault(429, code="insufficient_quota"), "no credit left"),
    ],
)
async def test_permanent_faults_are_not_tried_again_and_name_the_cure(server: Server, fault: Fault, cure: str) -> None:
    server.fail(fault)
    with pytest.raises(BackendError, match=cure) as caught:
        await model_at(server).complete([Prompt.of("a")])
    assert not caught.value.retryable
    assert caught.value.subject == "tiny"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(400, code="context_length_exceeded"),
        Fault(400, message="This model's maximum context length is 4096 tokens, you asked for 9000"),
        Fault(413, message="prompt too long"),
    ],
)
async def test_a_prompt_that_the_server_finds_too_long_is_a_limit(server: Server, fault: Fault) -> None:
    server.fail(fault)
    with pytest.raises(LimitError, match="shorten it"):
        await model_at(server).complete([Prompt.of("a")])


async def test_a_slow_server_times_out_and_is_tried_again(server: Server) -> None:
    server.fail(Fault(seconds=2.0))
    [completion] = await model_at(server, timeout_seconds=0.2).complete([Prompt.of("a")])
    assert completion.text == f"a: {TEXT}"
    server.fail(Fault(seconds=2.0))
    with pytest.raises(BackendError, match=r"did not answer within 0\.2 s") as caught:
        await model_at(server, timeout_seconds=0.2, max_retries=0).complete([Prompt.of("a")])
    assert caught.value.retryable


async def test_a_server_that_is_not_there_is_named() -> None:
    nowhere = endpoint("openai", base_url="http://user:secret@127.0.0.1:9/v1", api_key=KEY)
    with pytest.raises(BackendError, match=r"http://127\.0\.0\.1:9/v1 cannot be reached") as caught:
        await OpenAILanguageModel("tiny", nowhere, max_retries=1).complete([Prompt.of("a")])
    assert caught.value.retryable
    assert "secret" not in str(caught.value)


async def test_a_stream_that_breaks_off_is_an_error_and_not_an_answer(server: Server) -> None:
    server.fail(Fault(break_off=True))
    stream = model_at(server).stream(Prompt.of("a"))
    assert (await anext(stream)).text == WORDS[0]
    with pytest.raises(BackendError, match=r"cannot be reached|broke off") as caught:
        await anext(stream)
    assert caught.value.retryable


async def test_keys_appear_in_no_message_log_or_traceback(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    import traceback

    caplog.set_level(logging.DEBUG)
    server.fail(Fault(500), Fault(401, message=f"Incorrect API key provided: {KEY}. Bearer {KEY}"))
    model = model_at(server)
    with pytest.raises(BackendError) as caught:
        await model.complete([Prompt.of("a")])
    shown = "".join(traceback.format_exception(caught.value)) + caplog.text + repr(vars(model)) + repr(model._endpoint)
    assert KEY not in shown


async def test_many_prompts_share_one_limit_that_shrinks_when_the_server_is_busy(server: Server) -> None:
    server.seconds = 0.02
    model = model_at(server, max_concurrency=8)
    await model.complete([Prompt.of(str(index)) for index in range(24)])
    assert server.most_active == 8
    server.most_active = 0
    server.fail(*[Fault(429)] * 8)
    completions = await model.complete([Prompt.of(str(index)) for index in range(16)])
    assert [completion.text for completion in completions] == [f"{index}: {TEXT}" for index in range(16)]
    _, limit = model._connection._here()
    assert limit.allowed < 8
    server.most_active = 0
    await model.complete([Prompt.of(str(index)) for index in range(12)])
    assert server.most_active < 8


async def test_cancelling_closes_the_connection_and_frees_the_place(server: Server) -> None:
    server.seconds = 0.3
    model = model_at(server, max_concurrency=1)
    stream = model.stream(Prompt.of("a"))
    await anext(stream)
    await stream.aclose()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(model.complete([Prompt.of("a"), Prompt.of("b")]), 0.1)
    server.seconds = 0.0
    assert len(await asyncio.wait_for(model.complete([Prompt.of("c")]), 2)) == 1
    assert await asyncio.to_thread(server.left.wait, 2)


async def test_one_failure_cancels_the_other_prompts_of_the_call(server: Server) -> None:
    server.fail(Fault(401))
    server.seconds = 5.0
    start = time.monotonic()
    with pytest.raises(BackendError):
        await model_at(server).complete([Prompt.of("a"), Prompt.of("b")])
    assert time.monotonic() - start < 4.5  # the other prompt takes five seconds


async def test_a_parameter_that_the_model_does_not_take_is_adapted_once_and_said(server: Server) -> None:
    model = model_at(server)
    server.fail(
        Fault(400, code="unsupported_parameter", param="max_tokens"),
        Fault(400, code="unsupported_value", param="temperature"),
    )
    with pytest.warns(LightRAGWarning, match="does not take temperature"):
        await model.complete([Prompt.of("a")], Sampling(max_tokens=9))
    assert server.requests[-1]["max_completion_tokens"] == 9
    assert "temperature" not in server.requests[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await model.complete([Prompt.of("a")], Sampling(max_tokens=9))
    assert len(server.requests) == 4


async def test_what_no_remote_model_takes_is_refused(server: Server) -> None:
    latents = Prompt((ChatMessage("user", (LatentPart([[0.0]]), "why?")),))
    for prompt in (latents, Prompt(Prompt.of("a").messages, raw=True)):
        with pytest.raises(UsageError, match="text only"):
            await model_at(server).complete([prompt])
    with pytest.raises(UsageError, match="at least one message"):
        await model_at(server).complete([Prompt(())])
    assert server.requests == []


async def test_ollama_is_not_given_a_prompt_that_it_would_cut(server: Server) -> None:
    model = OpenAILanguageModel("tiny", endpoint("ollama", base_url=server.url), context_tokens=300)
    with pytest.raises(LimitError, match=r"num_ctx"):
        await model.complete([Prompt.of("long " * 200)], Sampling(max_tokens=10))
    assert (await model.complete([Prompt.of("short")], Sampling(max_tokens=10)))[0].text


def test_one_model_serves_several_event_loops(server: Server) -> None:
    model = model_at(server)
    assert asyncio.run(model.complete([Prompt.of("a")])) == asyncio.run(model.complete([Prompt.of("a")]))


async def test_after_closing_it_refuses_work(server: Server) -> None:
    model = model_at(server)
    await model.complete([Prompt.of("a")])
    await model.close()
    with pytest.raises(UsageError, match="closed"):
        await model.complete([Prompt.of("a")])


async def test_azure_is_asked_for_its_deployment(server: Server) -> None:
    azure = endpoint("azure", base_url=server.url.removesuffix("/v1"), api_key=KEY, api_version="2025-04-01")
    await OpenAILanguageModel("my-deployment", azure).complete([Prompt.of("a")])
    assert server.paths == ["openai/deployments/my-deployment/chat/completions?api-version=2025-04-01"]
    assert server.headers[0]["api-key"] == KEY
    assert "max_completion_tokens" in server.requests[0]


async def test_keys_come_from_the_configured_providers_variable_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-openai-only")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-openai")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-openai")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Gateway: sk-of-the-gateway")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-of-deepseek")
    assert endpoint("deepseek").api_key == "sk-of-deepseek"
    assert endpoint("openai").api_key == "sk-of-openai-only"
    assert endpoint("openai").base_url == "https://api.openai.com/v1"
    assert endpoint("openai", base_url=server.url).api_key == ""
    assert endpoint("ollama").api_key == ""
    await OpenAILanguageModel("tiny", endpoint("ollama", base_url=server.url)).complete([Prompt.of("a")])
    assert not any(word in str(server.headers[0]) for word in ("openai-only", "of-openai", "gateway"))


@pytest.mark.parametrize(
    ("provider", "missing"),
    [
        ("openai", r"needs api_key \(or OPENAI_API_KEY\)"),
        ("deepseek", r"needs api_key \(or DEEPSEEK_API_KEY\)"),
        ("azure", r"base_url \(or AZURE_OPENAI_ENDPOINT\), api_key .*, api_version"),
    ],
)
def test_everything_that_is_missing_is_named_before_anything_is_sent(provider: Any, missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        open_language_model(GeneratorSettings(backend="openai", provider=provider, model="tiny"))


async def test_settings_open_it(server: Server) -> None:
    settings = GeneratorSettings(backend="openai", model="tiny", base_url=server.url, context_tokens=2048)
    model = open_language_model(settings)
    assert model is not None
    assert model.context_tokens == 2048
    assert (await model.complete([Prompt.of("a")]))[0].text == f"a: {TEXT}"
    assert open_language_model(GeneratorSettings()) is None
    with pytest.raises(ConfigurationError, match=r"generator\.model is empty"):
        open_language_model(GeneratorSettings(backend="openai", base_url=server.url))


def test_windows_of_well_known_models_are_known() -> None:
    assert window_of("gpt-4o-mini", PROVIDERS["openai"]) == 128_000
    assert window_of("something", PROVIDERS["ollama"]) == 4096
