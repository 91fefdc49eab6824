"""Models behind remote APIs, on a service of our own."""

from __future__ import annotations

import pytest

from lightrag import Agent
from lightrag.errors import BackendError, ConfigurationError, UsageError
from lightrag.models import ScriptedLanguageModel
from tests.lightrag.compat.conftest import ChatService


@pytest.fixture(autouse=True)
def _no_keys_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OPENAI_API_KEY", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_ENDPOINT", "OPENAI_API_VERSION", "DEEPSEEK_API_KEY",
    ):  # fmt: skip
        monkeypatch.delenv(name, raising=False)


def test_each_source_is_called_as_it_wants_to_be(service: ChatService) -> None:
    root = service.url.removesuffix("/v1")
    azure = {"endpoint": root, "api_version": "2024-06-01", "api_key": "sk-azure"}
    assert Agent("gpt", "azure", azure).generate("hi!") == ["hello"]
    assert Agent("gpt", "openai", {"api_key": "sk-open", "base_url": service.url}).generate("hi!") == ["hello"]
    assert Agent("gpt", "deepseek", {"base_url": service.url, "api_key": "sk-deep"}).generate("hi!") == ["hello"]
    assert service.keys == ["sk-azure", "Bearer sk-open", "Bearer sk-deep"]
    assert service.paths[0] == "/openai/deployments/gpt/chat/completions?api-version=2024-06-01"
    assert service.prompts == ["hi!"] * 3


def test_temperature_and_length_are_passed_on(service: ChatService) -> None:
    agent = service.agent(temperature=0.7)
    agent.generate("hi!", max_new_tokens=9)
    agent.generate("hi!")
    assert [request["temperature"] for request in service.requests] == [0.7, 0.7]
    assert [request["max_tokens"] for request in service.requests] == [9, 1024]


def test_several_prompts_give_several_texts_in_order(service: ChatService) -> None:
    service.reply = str.upper
    assert service.agent().generate(["a", "b", "c"]) == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("source", "api_dict", "message"),
    [
        ("openai", {}, "needs api_key"),
        ("openai", None, "needs api_key"),
        ("azure", {"api_key": "k"}, r"base_url.*api_version"),
        ("deepseek", {}, "needs api_key"),
        ("cohere", {"api_key": "k"}, r"source 'cohere' is not one of \['azure', 'deepseek', 'openai'\]"),
        ("openai", {"api_key": "k", "endpoint": "x"}, r"not \['endpoint'\]"),
    ],
)
def test_what_is_missing_or_unknown_is_named(source: str, api_dict: dict[str, str] | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Agent("gpt", source, api_dict)


def test_misuse_is_explained_and_keys_are_not_shown(service: ChatService) -> None:
    agent = service.agent()
    with pytest.raises(UsageError, match="prompt is empty"):
        agent.generate(" ")
    assert repr(agent) == "Agent('scribe', 'openai')"
    agent.close()
    with pytest.raises(UsageError, match="closed"):
        agent.generate("hi!")


def test_a_service_that_refuses_is_an_error_of_ours(service: ChatService) -> None:
    service.status = 401
    with pytest.raises(BackendError, match=r"127\.0\.0\.1"):
        service.agent().generate("hi!")


def test_any_backend_of_the_library_can_be_an_agent() -> None:
    agent = Agent.over(ScriptedLanguageModel(["It was opened in 1874."]))
    assert agent.generate("When?") == ["It was opened in 1874."]
