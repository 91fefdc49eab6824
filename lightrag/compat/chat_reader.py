"""Memory through a chat API: the text, or gists of it where it is too long, is sent in front of every instruction."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lightrag.compat.condensing import condense
from lightrag.compat.context_file import read_context, write_context
from lightrag.compat.readers import Remembered
from lightrag.errors import ArtifactError
from lightrag.memory.gists import PromptedGister
from lightrag.memory.prompts import PromptSet
from lightrag.models.base import LanguageModel, Prompt, Sampling
from lightrag.models.concurrency import run_blocking
from lightrag.types import Tokenizer

_ROOM_TOKENS: Final = 2048
"""Left free in the window for an instruction, its answer and the prompt around the text."""


class ChatReader:
    """Remembers with any language model, however remote. See :class:`~lightrag.compat.readers.Reader`.

    Args:
        model: any backend.
        temperature: 0 is greedy.
    """

    def __init__(self, model: LanguageModel, *, temperature: float = 0.0) -> None:
        self._model = model
        self._temperature = temperature

    @property
    def window(self) -> int | None:
        """What the model is known or taken to have."""
        return self._model.context_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        """An estimate for remote models, never below the true count by design."""
        return self._model.tokenizer

    def memorise(self, text: str, language: str, prompts: PromptSet) -> Remembered:
        """Keep a text that fits the window as it is, and gists of a longer one.

        Raises:
            LimitError: the window is too small even for gists.
            BackendError: the service failed.
        """
        tokens, window = self.tokenizer.count(text), self._model.context_tokens
        budget = window - min(_ROOM_TOKENS, window // 2)
        if tokens <= budget:
            return Remembered(language, tokens, text=text)
        gister = PromptedGister(self._model, self.tokenizer, prompts=prompts)
        work = condense(text, language, gister, window=window, budget=budget)
        return Remembered(language, tokens, text=run_blocking(work))

    def ask(self, held: Remembered, instructions: Sequence[str], max_tokens: int, prompts: PromptSet) -> list[str]:
        """Follow instructions at once; services that cache prefixes read the text once."""
        context = prompts.fill("context", context=held.text)
        return self._complete([f"{context}\n\n{instruction}" for instruction in instructions], max_tokens)

    def generate(self, prompts: Sequence[str], max_tokens: int, held: Remembered | None) -> list[str]:
        """Answer prompts, without the text in front."""
        return self._complete(prompts, max_tokens)

    def save(self, held: Remembered, folder: Path) -> None:
        """Write the text."""
        write_context(held, folder)

    def load(self, path: Path) -> Remembered:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: it is damaged, or it was made by a local model and holds no text.
        """
        held = read_context(path) if path.is_dir() else Remembered("und", 0)
        if not held.text:
            raise ArtifactError(
                f"{str(path)!r} holds cells of a local model, which no chat model can read: load it with the model "
                "that made it, or memorise again",
                subject=str(path),
            )
        return held

    def _complete(self, prompts: Sequence[str], max_tokens: int) -> list[str]:
        asked = [Prompt.of(prompt) for prompt in prompts]
        sampling = Sampling(max_tokens=max_tokens, temperature=self._temperature)
        return [done.text.strip() for done in run_blocking(self._model.complete(asked, sampling))]


__all__ = ["ChatReader"]
