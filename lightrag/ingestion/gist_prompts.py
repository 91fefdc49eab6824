"""The gist stage in two steps, for engines that answer elsewhere: what it asks, and what it makes of the answers.

Both steps run the very stage that also runs in one piece, so all three agree on every gist. It knows no engine: whoever
answers gets token ids and gives token ids back.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from blake3 import blake3

from lightrag.errors import BackendError, UsageError
from lightrag.ingestion.line import Line, Receipt
from lightrag.ingestion.stages import GistStage
from lightrag.ingestion.states import DocumentState
from lightrag.models.base import Capability, Completion, CompletionDelta, Prompt, Sampling
from lightrag.models.limits import check_length
from lightrag.models.vllm_model import VllmLanguageModel
from lightrag.types import Tokenizer


@dataclass(frozen=True, slots=True)
class EnginePrompt:
    """One prompt as an engine reads it. Greedy: equal prompts have equal answers."""

    token_ids: tuple[int, ...]
    max_tokens: int

    @property
    def key(self) -> str:
        """Names the prompt, so that its answer finds its way back."""
        return blake3(json.dumps([self.token_ids, self.max_tokens]).encode()).hexdigest(16)


class GistPrompts:
    """Prepares documents for an engine, and finishes them with its answers."""

    def __init__(self, line: Line, model: VllmLanguageModel) -> None:
        """Open the stage; no engine is started.

        Args:
            line: of the job; its own model is not used.
            model: of the engine; it renders prompts and reads answers.
        """
        self._asking: Final = _Asking(model)
        self._answered: Final = _Answered(model)
        self._ask: Final = GistStage(line.with_language_model(self._asking).recipe)
        self._finish: Final = line.with_language_model(self._answered).station("gist")

    def ask(self, states: Sequence[DocumentState]) -> list[EnginePrompt]:
        """Tell what the stage asks about documents that have been embedded; nothing twice.

        Texts that do not fit the model's window are left out; :meth:`finish` fails their documents.
        """
        self._asking.prompts = {}
        self._ask.run(states)
        return list(self._asking.prompts.values())

    def finish(self, states: Sequence[DocumentState], answers: Mapping[str, Sequence[int]]) -> Receipt:
        """Put gists of answers into staging.

        Args:
            states: the documents that were asked about.
            answers: token ids that the engine gave, by the key of the prompt.

        Raises:
            BackendError: an answer is missing, or the store failed.
        """
        self._answered.answers = answers
        return Receipt.of(self._finish.run(states))


class _Elsewhere(ABC):
    """A language model whose prompts are answered by somebody else."""

    capabilities: frozenset[Capability] = frozenset()

    def __init__(self, model: VllmLanguageModel) -> None:
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def context_tokens(self) -> int:
        return self._model.context_tokens

    @property
    def tokenizer(self) -> Tokenizer:
        return self._model.tokenizer

    async def complete(self, prompts: Sequence[Prompt], sampling: Sampling | None = None) -> list[Completion]:
        settings = sampling or Sampling()
        if settings.temperature or settings.stop or settings.json:
            raise UsageError("prompts that are answered elsewhere are greedy, without stops and without a grammar")
        return [self._complete(self._prepared(prompt, settings.max_tokens)) for prompt in prompts]

    def stream(self, prompt: Prompt, sampling: Sampling | None = None) -> AsyncGenerator[CompletionDelta, None]:
        raise UsageError("prompts that are answered elsewhere cannot be streamed")

    async def close(self) -> None:
        await self._model.close()

    @abstractmethod
    def _complete(self, prompt: EnginePrompt) -> Completion: ...

    def _prepared(self, prompt: Prompt, max_tokens: int) -> EnginePrompt:
        rendered = self._model.renderer.render(prompt)
        check_length(self.name, rendered.length, max_tokens, self.context_tokens)
        return EnginePrompt(tuple(rendered.token_ids), max_tokens)


class _Asking(_Elsewhere):
    """Notes prompts. Its answers are empty, and mean nothing."""

    prompts: dict[str, EnginePrompt]

    def _complete(self, prompt: EnginePrompt) -> Completion:
        self.prompts[prompt.key] = prompt
        return Completion("")


class _Answered(_Elsewhere):
    """Answers with what it was given."""

    answers: Mapping[str, Sequence[int]]

    def _complete(self, prompt: EnginePrompt) -> Completion:
        if prompt.key not in self.answers:
            raise BackendError(f"an engine of {self.name!r} has left out a prompt", subject=self.name, retryable=True)
        text = self._model.tokenizer.fast.decode(list(self.answers[prompt.key]), skip_special_tokens=True)
        return Completion(text)


__all__ = ["EnginePrompt", "GistPrompts"]
