"""Chat models behind the OpenAI interface."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from lightrag.errors import BackendError, ConfigurationError, LimitError, UsageError
from lightrag.models.base import Capability, Completion, CompletionDelta, Prompt, Sampling
from lightrag.models.concurrency import all_or_none
from lightrag.models.remote.connection import Connection
from lightrag.models.remote.providers import Endpoint, window_of
from lightrag.models.tokenization import EstimatingTokenizer
from lightrag.types import LatentPart, Usage

if TYPE_CHECKING:
    from openai import AsyncOpenAI

FinishReason = Literal["stop", "length", "content_filter"]

_REASONS: Final[dict[str, FinishReason]] = {"length": "length", "content_filter": "content_filter"}


class OpenAILanguageModel:
    """Completes prompts at OpenAI, Azure, DeepSeek, Ollama or a compatible server, through the official SDK.

    Prompts are sent concurrently under one limit per model, which halves when the server answers 429 and grows again
    slowly. Passing faults (429, 5xx, timeouts, lost connections) are tried again with exponential back-off and jitter,
    never before the server's ``Retry-After``. Cancelling closes the connection, which stops the server's work where it
    notices.

    Windows and token counts of remote models are not known exactly: :attr:`tokenizer` estimates from above, and a
    prompt that is too long is refused by the server itself, except at Ollama, which would cut it silently; there it is
    refused by estimate.

    Example:
        >>> model = OpenAILanguageModel("qwen3", endpoint("ollama"))  # doctest: +SKIP
        >>> [answer] = await model.complete([Prompt.of("When was the pier opened?")])  # doctest: +SKIP
    """

    capabilities: Final[frozenset[Capability]] = frozenset()

    def __init__(
        self,
        model: str,
        endpoint: Endpoint,
        *,
        context_tokens: int | None = None,
        max_retries: int = 4,
        max_concurrency: int = 16,
    ) -> None:
        """Describe the model; nothing is sent yet.

        Args:
            model: as the service names it; at Azure, the deployment.
            endpoint: from :func:`lightrag.models.remote.providers.endpoint`.
            context_tokens: window of the model; well-known names know theirs.
            max_retries: further attempts after a passing fault.
            max_concurrency: requests under way at once, at most.
        """
        if not model:
            raise ConfigurationError("generator.model is empty: name the model to ask for")
        self.name = model
        self.context_tokens = context_tokens or window_of(model, endpoint.provider)
        self.tokenizer = EstimatingTokenizer()
        self._endpoint = endpoint
        self._connection = Connection(endpoint, model, max_retries=max_retries, max_concurrency=max_concurrency)

    async def complete(self, prompts: Sequence[Prompt], sampling: Sampling | None = None) -> list[Completion]:
        """Complete every prompt concurrently; when one fails for good, the others are cancelled.

        Raises:
            BackendError: the service failed for good, or for longer than the retries last.
            LimitError: a prompt is too long.
            UsageError: a prompt holds latents or a memory, which no remote model takes.
        """
        settings = sampling or Sampling()
        requests = [self._request(prompt, settings) for prompt in prompts]
        return await all_or_none(self._complete(request) for request in requests)

    async def stream(self, prompt: Prompt, sampling: Sampling | None = None) -> AsyncGenerator[CompletionDelta, None]:
        """Complete one prompt piece by piece. Faults are retried until the first piece, not after."""
        request = self._request(prompt, sampling or Sampling())
        request |= {"stream": True, "stream_options": {"include_usage": True}}
        text, reason, usage = "", None, None
        async with self._connection.call(_send, request) as chunks, self._connection.explained():
            try:
                async for chunk in chunks:
                    usage = _usage(chunk.usage) or usage
                    for choice in chunk.choices:
                        reason = choice.finish_reason or reason
                        if choice.delta.content:
                            text += choice.delta.content
                            yield CompletionDelta(choice.delta.content)
            finally:
                await chunks.close()
        if reason is None:
            raise BackendError(
                f"model {self.name!r} at {self._endpoint.shown_url} broke off its answer",
                subject=self.name,
                retryable=True,
            )
        yield CompletionDelta("", _REASONS.get(reason, "stop"), usage or self._estimated(request, text))

    async def close(self) -> None:
        """Close the connections."""
        await self._connection.close()

    async def _complete(self, request: dict[str, Any]) -> Completion:
        async with self._connection.call(_send, request) as answer:
            if not answer.choices:
                raise BackendError(f"model {self.name!r} answered without a choice", subject=self.name, retryable=True)
            choice = answer.choices[0]
            text = choice.message.content or ""
            usage = _usage(answer.usage) or self._estimated(request, text)
            return Completion(text, _REASONS.get(choice.finish_reason, "stop"), usage)

    def _request(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        self._check(prompt, sampling)
        # OpenAI's newer models know only the longer name; compatible servers often only the shorter one.
        limit = "max_completion_tokens" if self._endpoint.is_public else "max_tokens"
        optional: dict[str, Any] = {
            "stop": list(sampling.stop) or None,
            "seed": sampling.seed,
            "response_format": {"type": "json_object"} if sampling.json else None,
            "top_p": sampling.top_p if sampling.top_p < 1 else None,
        }
        return {
            "model": self.name,
            "messages": [{"role": message.role, "content": message.text} for message in prompt.messages],
            limit: sampling.max_tokens,
            "temperature": sampling.temperature,
            **{name: value for name, value in optional.items() if value is not None},
        }

    def _check(self, prompt: Prompt, sampling: Sampling) -> None:
        parts = [
            part for message in prompt.messages if not isinstance(message.content, str) for part in message.content
        ]
        if prompt.memory is not None or prompt.raw or any(isinstance(part, LatentPart) for part in parts):
            raise UsageError(
                f"remote model {self.name!r} takes text only: no memory, latents or raw prompt", subject=self.name
            )
        if not prompt.messages:
            raise UsageError(f"a prompt for model {self.name!r} needs at least one message")
        if self._endpoint.provider.cuts_silently:
            length = sum(self.tokenizer.count(message.text) for message in prompt.messages)
            if length + sampling.max_tokens > self.context_tokens:
                raise LimitError(
                    f"a prompt of about {length} tokens and {sampling.max_tokens} for the answer may exceed the "
                    f"{self.context_tokens} of model {self.name!r}, and {self._endpoint.provider.name} would cut it "
                    "silently; shorten it, or raise context_tokens here and num_ctx there",
                    subject=self.name,
                )

    def _estimated(self, request: dict[str, Any], text: str) -> Usage:
        prompt = sum(self.tokenizer.count(message["content"]) for message in request["messages"])
        return Usage(prompt, self.tokenizer.count(text), calls=1)


async def _send(client: AsyncOpenAI, request: dict[str, Any]) -> Any:
    return await client.chat.completions.create(**request)


def _usage(counted: Any) -> Usage | None:
    if counted is None:
        return None
    details = getattr(counted, "prompt_tokens_details", None)
    cached = getattr(details, "cached_tokens", None) or getattr(counted, "prompt_cache_hit_tokens", None) or 0
    return Usage(counted.prompt_tokens or 0, counted.completion_tokens or 0, cached, calls=1)


__all__ = ["OpenAILanguageModel"]
