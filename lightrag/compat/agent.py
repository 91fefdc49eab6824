"""``Agent``: a model behind a remote API, in the shape of the published one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from lightrag.errors import ConfigurationError, UsageError
from lightrag.models.base import LanguageModel, Prompt, Sampling
from lightrag.models.concurrency import run_blocking

_KEYS: Final = {
    "openai": {"api_key": "api_key", "base_url": "base_url"},
    "azure": {"endpoint": "base_url", "api_version": "api_version", "api_key": "api_key"},
    "deepseek": {"base_url": "base_url", "api_key": "api_key"},
}
"""What ``api_dict`` may hold for each source, and what we call it."""

_ANSWER_TOKENS: Final = 1024


class Agent:
    """A chat model of OpenAI, Azure, DeepSeek, or of any server that speaks the same interface.

    It serves :class:`~lightrag.compat.memorag.MemoRAG` as generator (``customized_gen_model``) and as memory
    (``mem_model_name_or_path``).

    Args:
        model: as the service names it; at Azure, the deployment.
        source: ``openai``, ``azure`` or ``deepseek``.
        api_dict: ``api_key`` for all; ``endpoint`` and ``api_version`` for Azure; ``base_url`` for DeepSeek and for
            servers that speak OpenAI's interface. What is missing is taken from the service's environment variables.
        temperature: 0 is greedy.
        context_tokens: window of the model; well-known names know theirs.

    Raises:
        ConfigurationError: the source is unknown, ``api_dict`` has keys it does not know, or something is missing.

    Example:
        >>> agent = Agent("gpt-4o", "openai", {"api_key": "sk-…"})
        >>> [text] = agent.generate("Who signed the lease?")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str,
        source: str,
        api_dict: Mapping[str, str] | None = None,
        temperature: float = 0.0,
        *,
        context_tokens: int | None = None,
    ) -> None:
        from lightrag.models.remote.language_model import OpenAILanguageModel
        from lightrag.models.remote.providers import endpoint

        if source not in _KEYS:
            raise ConfigurationError(f"source {source!r} is not one of {sorted(_KEYS)!r}", subject=source)
        names = _KEYS[source]
        api_dict = api_dict or {}
        unknown = sorted(set(api_dict) - set(names))
        if unknown:
            raise ConfigurationError(f"api_dict of source {source!r} knows {sorted(names)!r}, not {unknown!r}")
        given: dict[str, Any] = {names[key]: value for key, value in api_dict.items() if value}
        self.model = model
        self.source = source
        self.temperature = temperature
        self.language_model: LanguageModel = OpenAILanguageModel(
            model, endpoint(source, **given), context_tokens=context_tokens
        )

    @classmethod
    def over(cls, language_model: LanguageModel, temperature: float = 0.0) -> Self:
        """Make an agent of any backend of this library: Ollama, a vLLM engine, a scripted model in a test."""
        agent = cls.__new__(cls)
        agent.model, agent.source = language_model.name, "local"
        agent.temperature, agent.language_model = temperature, language_model
        return agent

    def __repr__(self) -> str:
        return f"Agent({self.model!r}, {self.source!r})"

    def generate(self, prompt: str | Sequence[str], max_new_tokens: int | None = None) -> list[str]:
        """Answer a prompt, or several at once.

        Args:
            prompt: one user message, or a list of them.
            max_new_tokens: longest answer; 1,024 where left out.

        Returns:
            One text per prompt: for a single one, a list with one text.

        Raises:
            BackendError: the service failed for good.
            LimitError: a prompt is too long for the model.
        """
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        if not prompts or not all(text.strip() for text in prompts):
            raise UsageError("there is nothing to answer: a prompt is empty")
        sampling = Sampling(max_tokens=max_new_tokens or _ANSWER_TOKENS, temperature=self.temperature)
        asked = [Prompt.of(text) for text in prompts]
        return [done.text for done in run_blocking(self.language_model.complete(asked, sampling))]

    def close(self) -> None:
        """Close the connections; later calls are refused."""
        run_blocking(self.language_model.close())


__all__ = ["Agent"]
