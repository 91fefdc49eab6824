"""Cuts a templated prompt into head, context and tail ids the way the published systems do.

A prompt is tokenised twice, once with a tag in place of the context; what the two have in common in front and behind
is head and tail. A token that merges across the border belongs to the context.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lightrag.errors import UsageError

CONTEXT_TAG = "<|context:9f2c|>"
"""Stands for the context while a prompt is cut; added to a copy of the tokenizer as one special token."""


@dataclass(frozen=True, slots=True)
class PromptCut:
    """Token ids of one prompt in three pieces."""

    head: tuple[int, ...]
    context: tuple[int, ...]
    tail: tuple[int, ...]

    @property
    def fixed(self) -> int:
        """Tokens that are never compressed."""
        return len(self.head) + len(self.tail)


class PromptCutter:
    """Cuts prompts of one tokenizer.

    Args:
        tokenizer: of ``transformers``; it is copied, not changed.
        wrap: ``chat`` applies the tokenizer's own chat template (TacZip), ``llama-2`` wraps the user's text in the
            instruction marks of Llama-2 (FlexRAG), ``plain`` leaves it as it is.
    """

    def __init__(self, tokenizer: Any, wrap: str = "plain") -> None:
        if wrap not in {"chat", "llama-2", "plain"}:
            raise UsageError(f"wrap must be 'chat', 'llama-2' or 'plain', not {wrap!r}")
        self.tokenizer = copy.deepcopy(tokenizer)
        self.tokenizer.add_special_tokens({"additional_special_tokens": [CONTEXT_TAG]})
        self.wrap = wrap

    def cut(self, template: str, context: str, question: str) -> PromptCut:
        """Fill a template and cut it.

        Args:
            template: text with ``{context}`` and, optionally, ``{question}``.
            context: what will be compressed.
            question: put in first, so it is part of head or tail.

        Raises:
            UsageError: the template has not exactly one ``{context}``.
        """
        if template.count("{context}") != 1:
            raise UsageError(f"the template must hold {{context}} exactly once, this one does not: {template!r}")
        before, after = (part.replace("{question}", question) for part in template.split("{context}"))
        tagged = self.tokenize(before + CONTEXT_TAG + after)
        return cut_ids(tagged, self.tokenize(before + context + after))

    def tokenize(self, user: str) -> list[int]:
        """Token ids of one user message as the model expects it."""
        if self.wrap != "chat":
            text = f"[INST] {user} [/INST]" if self.wrap == "llama-2" else user
            return list(self.tokenizer(text)["input_ids"])
        message = [{"role": "user", "content": user}]
        text = self.tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])


def cut_ids(tagged: Sequence[int], filled: Sequence[int]) -> PromptCut:
    """Cut ``filled`` by its longest common prefix and suffix with ``tagged``."""
    limit = min(len(tagged), len(filled))
    head = next((index for index in range(limit) if tagged[index] != filled[index]), limit)
    tail = next((index for index in range(limit) if tagged[-1 - index] != filled[-1 - index]), limit)
    tail = min(tail, len(filled) - head)
    end = len(filled) - tail
    return PromptCut(tuple(filled[:head]), tuple(filled[head:end]), tuple(filled[end:]))


__all__ = ["CONTEXT_TAG", "PromptCut", "PromptCutter", "cut_ids"]
