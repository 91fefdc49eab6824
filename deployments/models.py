"""The language model that the generation replicas hold, for other stages: its weights are loaded nowhere else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from deployments.handles import _call, _stream

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

    from lightrag.config import Settings
    from lightrag.models.base import Capability, Completion, CompletionDelta, LanguageModel, Prompt, Sampling
    from lightrag.types import Tokenizer


class RemoteLanguageModel:
    """Has prompts completed by the generation replicas; satisfies :class:`lightrag.models.base.LanguageModel`.

    Args:
        handle: to the generation deployment.
        described: the same model, opened but never used: it knows its window and its tokenizer.
    """

    def __init__(self, handle: DeploymentHandle, described: LanguageModel) -> None:
        self._handle = handle
        self._described = described

    @property
    def name(self) -> str:
        """As shown in answers."""
        return self._described.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What a prompt may hold besides text."""
        return self._described.capabilities

    @property
    def context_tokens(self) -> int:
        """Prompt and completion together may not be longer."""
        return self._described.context_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own."""
        return self._described.tokenizer

    async def complete(self, prompts: Sequence[Prompt], sampling: Sampling | None = None) -> list[Completion]:
        """Complete all prompts on one replica; cancelling stops them there."""
        completions: list[Completion] = await _call(self._handle, "complete", tuple(prompts), sampling)
        return completions

    async def stream(self, prompt: Prompt, sampling: Sampling | None = None) -> AsyncGenerator[CompletionDelta, None]:
        """Complete one prompt piece by piece; closing stops it on its replica."""
        async with aclosing(_stream(self._handle, "stream", prompt, sampling)) as deltas:
            async for delta in deltas:
                yield delta

    async def close(self) -> None:
        """Free what describes the model; the replicas go on."""
        await self._described.close()


def open_remote_model(settings: Settings, handle: DeploymentHandle | None) -> RemoteLanguageModel | None:
    """The model of the generation replicas, where they hold one that other stages use; see :func:`generation_holds`."""
    from lightrag.memory.engine_model import open_generator

    described = open_generator(settings) if handle is not None else None
    return RemoteLanguageModel(handle, described) if handle is not None and described is not None else None


def generation_holds(settings: Settings) -> bool:
    """Whether the model has weights, which only the generation replicas are to load; a remote one every stage calls."""
    return settings.generator.backend in ("transformers", "vllm")


__all__ = ["RemoteLanguageModel", "generation_holds", "open_remote_model"]
