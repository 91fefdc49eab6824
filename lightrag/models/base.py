"""Protocols of language models and embedders, and the values that go in and out.

It knows nothing of any backend. Backends live beside it, one module each; :mod:`lightrag.models` picks one by settings.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lightrag.types import ChatMessage, Tokenizer, Usage

Capability = Literal["kv_memory", "latents"]

FloatMatrix = NDArray[np.float32]
"""Shape (texts, dimension)."""


@runtime_checkable
class KVMemory(Protocol):
    """Keys and values that stand in front of a prompt, loaded into this process. Immutable; many prompts share one."""

    @property
    def cells(self) -> int:
        """Positions the memory takes; the prompt continues at position ``cells``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints mean equal keys and values; prompts over one memory are batched by it."""
        ...

    def layers(self) -> Sequence[tuple[Any, Any]]:
        """Key and value tensors of each layer, each of shape (kv_heads, cells, head_dim).

        Keys are rotated for positions 0 … cells-1. Both lie on the model's device in the model's dtype. They are read
        where they are, never copied, and must not change while a prompt runs.
        """
        ...


@runtime_checkable
class EngineMemory(Protocol):
    """A KV memory that an inference engine in another process loads by itself, through its connector."""

    @property
    def cells(self) -> int:
        """Positions the memory takes."""
        ...

    @property
    def kv_transfer_params(self) -> Mapping[str, Any]:
        """What the connector needs to find the memory; JSON values."""
        ...

    @property
    def cache_salt(self) -> str:
        """Separates the prefix caches of different memories and tenants: ``tenant/corpus@version``."""
        ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a language model is asked: chat messages, optionally with a KV memory in front of them."""

    messages: tuple[ChatMessage, ...]
    memory: KVMemory | EngineMemory | None = None
    """Only for models whose capabilities include ``kv_memory``: :class:`KVMemory` for ``transformers``,
    :class:`EngineMemory` for ``vllm``; one object may be both."""
    raw: bool = False
    """Take the messages' contents one after the other as they are, special tokens included, instead of applying the
    model's chat template. For prompts that continue a memory which began inside a conversation. Local models only."""
    cache_salt: str = ""
    """Engines that cache prefixes share them only among prompts of equal salt, so give each tenant its own; a memory
    brings its own salt."""

    @classmethod
    def of(cls, user: str, *, system: str = "", cache_salt: str = "") -> Prompt:
        """Build the common case: one user message, optionally after a system message."""
        head = (ChatMessage("system", system),) if system else ()
        return cls((*head, ChatMessage("user", user)), cache_salt=cache_salt)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to decode. Temperature 0 is greedy."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    json: bool = False
    """Ask for a JSON object where the backend can enforce it; callers still validate."""


@dataclass(frozen=True, slots=True)
class Completion:
    """A finished text."""

    text: str
    finish_reason: Literal["stop", "length", "content_filter"] = "stop"
    usage: Usage = field(default_factory=Usage)


@dataclass(frozen=True, slots=True)
class CompletionDelta:
    """A piece of a streamed text. The last one carries ``finish_reason`` and ``usage``."""

    text: str
    finish_reason: Literal["stop", "length", "content_filter"] | None = None
    usage: Usage | None = None


@runtime_checkable
class LanguageModel(Protocol):
    """Completes prompts. Safe to share between tasks of one event loop."""

    @property
    def name(self) -> str:
        """As shown in answers and usage records."""
        ...

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What a prompt may hold besides text."""
        ...

    @property
    def context_tokens(self) -> int:
        """Prompt and completion together may not be longer."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Counts as the model does; an estimate for remote models, never below the true count by design."""
        ...

    async def complete(self, prompts: Sequence[Prompt], sampling: Sampling | None = None) -> list[Completion]:
        """Complete every prompt, batched or concurrently; results in the order of the prompts.

        Raises:
            BackendError: the model failed; ``retryable`` is false once retries are spent on a permanent fault.
            LimitError: a prompt does not fit ``context_tokens``. Prompts are never cut.
        """
        ...

    def stream(self, prompt: Prompt, sampling: Sampling | None = None) -> AsyncGenerator[CompletionDelta, None]:
        """Complete one prompt piece by piece. Closing the generator stops the generation."""
        ...

    async def close(self) -> None:
        """Free connections and memory; the model is unusable afterwards."""
        ...


@runtime_checkable
class Warmable(Protocol):
    """A language model whose first use loads weights or starts an engine, unless it was warmed before."""

    async def warm(self) -> None:
        """Be ready now. Repeating costs nothing.

        Raises:
            ConfigurationError: a setting is not one of this model's.
            BackendError: the model cannot be loaded.
        """
        ...


@runtime_checkable
class HealthChecked(Protocol):
    """A language model that can break for good, such as one whose engine is another process."""

    async def check_health(self) -> None:
        """Raise ``BackendError`` when only a new object will help."""
        ...


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def name(self) -> str:
        """As shown in reports."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever equal texts may get other vectors; stored with every index."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are read, special tokens not counted; longer texts are refused."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own tokenizer."""
        ...

    @property
    def languages(self) -> frozenset[str]:
        """ISO 639-1 codes that the model was trained on; empty where it is not known (taken as: all)."""
        ...

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        """Embed texts.

        Returns:
            Unit rows of shape (len(texts), dimension), in the order of the texts.

        Raises:
            LimitError: a *document* is longer than ``max_tokens``. A longer query is cut into windows whose vectors
                are averaged.
            BackendError: the model failed.
        """
        ...

    async def close(self) -> None:
        """Free connections and memory."""
        ...


__all__ = [
    "Capability",
    "Completion",
    "CompletionDelta",
    "Embedder",
    "EngineMemory",
    "FloatMatrix",
    "HealthChecked",
    "KVMemory",
    "LanguageModel",
    "Prompt",
    "Sampling",
    "Warmable",
]
