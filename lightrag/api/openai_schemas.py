"""What the OpenAI-compatible routes accept; answers are written as plain mappings beside the routes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from lightrag.config import CompressionMethod
from lightrag.errors import UsageError
from lightrag.types import ChatMessage, Task

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (None, 1),
    "top_p": (None, 1),
    "presence_penalty": (None, 0),
    "frequency_penalty": (None, 0),
    "logprobs": (None, False),
    "response_format": (None, {"type": "text"}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "stop": (None, []),
    "seed": (None,),
    "store": (None, False),
    "service_tier": (None, "auto", "default"),
}
"""Fields that clients send with their default values; any other value would change the answer, and is refused."""


class TextPart(BaseModel):
    """A textual part of a message."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One message of a chat."""

    model_config = ConfigDict(extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    def to_chat(self) -> ChatMessage:
        """The same message for a language model."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return ChatMessage("system" if self.role == "developer" else self.role, text)


class StreamOptions(BaseModel):
    """How to stream."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class Extra(BaseModel):
    """What goes beyond OpenAI's fields: ``extra_body={"lightrag": {…}}`` in the official client."""

    model_config = ConfigDict(extra="forbid")

    task: Task | None = None
    conversation: str = Field(default="chat", min_length=1, max_length=200)
    """Which of the user's conversations this is."""
    top_k: int | None = Field(default=None, ge=1, le=200)
    token_budget: int | None = Field(default=None, ge=16, le=1_000_000)
    compress_to: int | None = Field(default=None, ge=1, le=1_000_000)
    compress_method: CompressionMethod | None = None
    filter: dict[str, Any] | None = None


class ChatBody(BaseModel):
    """A request to ``/v1/chat/completions``."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(min_length=1)
    messages: list[Message] = Field(min_length=1, max_length=2000)
    stream: bool = False
    stream_options: StreamOptions | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    max_completion_tokens: int | None = Field(default=None, ge=1, le=100_000)
    user: str = Field(default="", max_length=500)
    lightrag: Extra = Extra()

    @model_validator(mode="after")
    def _refuse_what_would_have_no_effect(self) -> ChatBody:
        for name, value in (self.model_extra or {}).items():
            if name == "metadata":
                continue
            if not any(value == neutral for neutral in _NEUTRAL.get(name, ())):
                raise ValueError(f"{name}={value!r} is not supported")
        return self

    def options(self) -> dict[str, Any]:
        """Further fields of :class:`lightrag.rag.AskRequest`."""
        options = self.lightrag.model_dump(exclude={"conversation"}, exclude_none=True)
        options |= {"max_tokens": self.max_completion_tokens or self.max_tokens, "temperature": self.temperature}
        return options


class EmbeddingsBody(BaseModel):
    """A request to ``/v1/embeddings``."""

    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1)
    input: str | list[str]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    user: str = ""

    def texts(self) -> list[str]:
        """The texts to embed.

        Raises:
            UsageError: there is none, or one is empty.
        """
        texts = [self.input] if isinstance(self.input, str) else self.input
        if not texts or not all(text.strip() for text in texts):
            raise UsageError("input must be a text, or texts, that are not empty", subject="input")
        if len(texts) > LARGEST_BATCH:
            raise UsageError(f"input has {len(texts)} texts, more than {LARGEST_BATCH}", subject="input")
        return texts


LARGEST_BATCH = 2048
"""Texts in one embedding request, as with OpenAI."""

__all__ = ["LARGEST_BATCH", "ChatBody", "EmbeddingsBody", "Extra", "Message", "StreamOptions", "TextPart"]
