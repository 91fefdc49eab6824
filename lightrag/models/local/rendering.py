"""From a prompt's messages to token ids and latents, by the model's own chat template. Knows nothing of weights.

What users and documents say stays text: where a message contains the spelling of a special token, such as the one that
ends a turn, it is encoded letter by letter and cannot end the turn.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lightrag.errors import BackendError, UsageError
from lightrag.models.base import Prompt
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.types import ChatMessage, LatentPart

PLAIN_TEMPLATE_NOTE = (
    "model {name!r} has no chat template; prompts are written as plain 'User: … Assistant:' turns, "
    "which suits base models only roughly"
)


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as the model reads it: runs of token ids and latents, in order."""

    segments: tuple[tuple[int, ...] | LatentPart, ...]

    @property
    def length(self) -> int:
        """Positions that the prompt takes; a latent takes one."""
        return sum(map(segment_length, self.segments))

    @property
    def has_latents(self) -> bool:
        """Whether any part is given as embeddings."""
        return any(isinstance(segment, LatentPart) for segment in self.segments)

    @property
    def token_ids(self) -> list[int]:
        """All ids of a prompt without latents."""
        return [token for segment in self.segments if not isinstance(segment, LatentPart) for token in segment]


def segment_length(segment: tuple[int, ...] | LatentPart) -> int:
    """Positions that a segment takes."""
    return len(segment) if not isinstance(segment, LatentPart) else int(segment.states.shape[0])


class PromptRenderer:
    """Renders prompts for one model.

    Args:
        folder: of the model; its tokenizer and chat template are read at the first use.
        name: of the model, for messages.
        template_options: further variables of the chat template, for example ``{"enable_thinking": False}``.
    """

    def __init__(self, folder: Path, name: str, template_options: Mapping[str, Any] | None = None) -> None:
        self._folder = folder
        self._name = name
        self._options = dict(template_options or {})

    @classmethod
    def of(cls, tokenizer: Any, name: str) -> PromptRenderer:
        """Render with a fast transformers tokenizer that is open already."""
        renderer = cls(Path(), name)
        renderer.__dict__["pretrained"] = tokenizer
        return renderer

    @cached_property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """Counts as the model does."""
        return HuggingFaceTokenizer(self.pretrained.backend_tokenizer)

    @cached_property
    def pretrained(self) -> Any:
        """The transformers tokenizer."""
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(str(self._folder), use_fast=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise BackendError(f"tokenizer of {self._name!r} cannot be read: {error}", subject=self._name) from error
        if not tokenizer.is_fast:
            raise BackendError(f"model {self._name!r} has no fast tokenizer; save it once as tokenizer.json")
        return tokenizer

    @property
    def notes(self) -> tuple[str, ...]:
        """What users should know about how prompts are written."""
        return () if self.pretrained.chat_template else (PLAIN_TEMPLATE_NOTE.format(name=self._name),)

    def render(self, prompt: Prompt) -> RenderedPrompt:
        """Write a prompt as token ids and latents.

        Raises:
            UsageError: there is no message, or the template cannot take this order of roles.
        """
        if not prompt.messages:
            raise UsageError(f"a prompt for model {self._name!r} needs at least one message")
        marked = _Marked(self._special, literal=not prompt.raw)
        turns = [{"role": message.role, "content": marked.content(message)} for message in prompt.messages]
        text = "".join(turn["content"] for turn in turns) if prompt.raw else self._templated(turns)
        return RenderedPrompt(tuple(self._segments(text, marked)))

    def _templated(self, turns: list[dict[str, str]]) -> str:
        from jinja2 import TemplateError

        if not self.pretrained.chat_template:
            return self._plain(turns)
        try:
            return self._apply(turns)
        except TemplateError as error:
            if len(turns) < 2 or turns[0]["role"] != "system":
                raise self._refused(error) from error
        # Some templates (Gemma's) know no system role; there the instructions open the first user turn.
        first = {"role": turns[1]["role"], "content": f"{turns[0]['content']}\n\n{turns[1]['content']}"}
        try:
            return self._apply([first, *turns[2:]])
        except TemplateError as error:
            raise self._refused(error) from error

    def _apply(self, turns: list[dict[str, str]]) -> str:
        text = self.pretrained.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **self._options)
        return str(text)

    def _refused(self, error: Exception) -> UsageError:
        return UsageError(
            f"the chat template of model {self._name!r} does not take these messages: {error}", subject=self._name
        )

    def _plain(self, turns: Sequence[Mapping[str, str]]) -> str:
        heads = {"system": "", "user": "User: ", "assistant": "Assistant: "}
        opening = self.pretrained.bos_token or "" if self.pretrained("")["input_ids"] else ""
        return opening + "".join(f"{heads[turn['role']]}{turn['content']}\n\n" for turn in turns) + "Assistant:"

    def _segments(self, text: str, marked: _Marked) -> list[tuple[int, ...] | LatentPart]:
        segments: list[tuple[int, ...] | LatentPart] = []
        run: list[int] = []
        used = 0
        for index, piece in enumerate(marked.pattern.split(text)):
            if index % 2 == 0:
                run += self.pretrained.backend_tokenizer.encode(piece, add_special_tokens=False).ids
                continue
            item = marked.items[int(piece)]
            if isinstance(item, LatentPart):
                used += 1
                segments += [tuple(run)] if run else []
                segments.append(item)
                run = []
            else:
                run += self.tokenizer.ids_of([item])[0]
        if used != marked.latents:
            raise UsageError(f"the chat template of model {self._name!r} drops or repeats latents", subject=self._name)
        return [*segments, tuple(run)] if run else segments

    @cached_property
    def _special(self) -> re.Pattern[str] | None:
        added = self.pretrained.backend_tokenizer.get_added_tokens_decoder().values()
        spellings = sorted({token.content for token in added if token.special}, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, spellings))) if spellings else None


class _Marked:
    """Replaces what must not pass through template and tokenizer as it is by marks that nobody can guess."""

    def __init__(self, special: re.Pattern[str] | None, *, literal: bool) -> None:
        nonce = secrets.token_hex(8)
        self._mark = f"\ue000{nonce}:{{}}\ue001"
        self.pattern = re.compile(f"\ue000{nonce}:(\\d+)\ue001")
        self.items: list[str | LatentPart] = []
        self._special = special if literal else None

    @property
    def latents(self) -> int:
        return sum(isinstance(item, LatentPart) for item in self.items)

    def content(self, message: ChatMessage) -> str:
        parts = (message.content,) if isinstance(message.content, str) else message.content
        return "".join(self._put(part) if isinstance(part, LatentPart) else self._text(part) for part in parts)

    def _text(self, text: str) -> str:
        return self._special.sub(lambda found: self._put(found.group()), text) if self._special else text

    def _put(self, item: str | LatentPart) -> str:
        self.items.append(item)
        return self._mark.format(len(self.items) - 1)


__all__ = ["PLAIN_TEMPLATE_NOTE", "PromptRenderer", "RenderedPrompt", "segment_length"]
