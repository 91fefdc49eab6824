"""Recall from KV memories: each is asked all its instructions in one batch, and the clues of several are merged.

Knows nothing of where memories are stored, how they are chosen or which engine reads them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lightrag.config import RecallSettings
from lightrag.errors import NotFoundError, UsageError
from lightrag.memory.base import RecallRequest, Recollection
from lightrag.memory.instructions import REPLY_TOKENS, check_question, instructions_for, read_clues
from lightrag.memory.kv_memory import KVMemory
from lightrag.memory.prompts import PromptKey, PromptSet, prompts_for
from lightrag.memory.text_memory import Reply, TextMemory
from lightrag.models.base import EngineMemory, LanguageModel, Prompt, Sampling
from lightrag.models.base import KVMemory as LoadedMemory
from lightrag.models.combining import Combiner
from lightrag.models.concurrency import all_or_none
from lightrag.types import Usage

_ROWS = 32
"""Instructions in one batch, whoever asks them."""


class AskableMemory(Protocol):
    """One memory of a corpus version, loaded only while it is asked."""

    @property
    def language(self) -> str:
        """Language of most of its text."""
        ...

    def lease(self) -> AbstractAsyncContextManager[LoadedMemory | EngineMemory]:
        """Hold the memory: loaded here, or known to the engine."""
        ...


@dataclass(frozen=True, slots=True)
class ChosenMemories:
    """The memories that a request is to be asked of."""

    memories: tuple[AskableMemory, ...]
    """Most relevant first."""
    total: int
    """Memories that the corpus version has."""


Memories = Callable[[RecallRequest], Awaitable[ChosenMemories]]
"""Chooses among the memories of a corpus version; none where it has none."""


class MemoryReader(Protocol):
    """Follows several instructions over one memory."""

    async def ask(
        self, memory: LoadedMemory | EngineMemory, instructions: Sequence[str], max_tokens: int
    ) -> list[Reply]:
        """Return a reply to each instruction."""
        ...


class _Asked(NamedTuple):
    """One instruction on its way to the model."""

    memory: KVMemory
    instruction: str
    max_tokens: int


class LocalReader:
    """Reads memories with a model in this process, one batch at a time.

    Questions that come while a batch runs go into the next one, together where they are asked of the same memory.
    """

    def __init__(self, texts: TextMemory) -> None:
        self._texts = texts
        self.batches: Combiner[_Asked, Reply] = Combiner(self._answer, most=_ROWS)
        """Counts what was combined."""

    async def ask(
        self, memory: LoadedMemory | EngineMemory, instructions: Sequence[str], max_tokens: int
    ) -> list[Reply]:
        """Ask in a thread, so that the event loop stays free.

        Raises:
            UsageError: the memory is not loaded in this process.
        """
        if not isinstance(memory, KVMemory):
            raise UsageError(f"a local model needs a loaded memory, not {type(memory).__name__}")
        asked = [_Asked(memory, instruction, max_tokens) for instruction in instructions]
        return await asyncio.to_thread(self.batches, asked)

    def _answer(self, asked: Sequence[_Asked]) -> list[Reply]:
        alike: dict[tuple[str, int], list[int]] = {}
        for number, item in enumerate(asked):
            alike.setdefault((item.memory.fingerprint, item.max_tokens), []).append(number)
        replies: dict[int, Reply] = {}
        for (_, max_tokens), numbers in alike.items():
            instructions = [asked[number].instruction for number in numbers]
            answers = self._texts.ask(asked[numbers[0]].memory, instructions, max_tokens=max_tokens)
            replies.update(zip(numbers, answers, strict=True))
        return [replies[number] for number in range(len(asked))]


class LanguageModelReader:
    """Reads memories with a language model whose prompts may stand behind one: ``transformers`` or ``vllm``."""

    def __init__(self, model: LanguageModel) -> None:
        if "kv_memory" not in model.capabilities:
            raise UsageError(f"language model {model.name!r} cannot answer over a KV memory")
        self._model = model

    async def ask(
        self, memory: LoadedMemory | EngineMemory, instructions: Sequence[str], max_tokens: int
    ) -> list[Reply]:
        """Ask all at once; the backend batches them."""
        prompts = [Prompt(Prompt.of(instruction).messages, memory) for instruction in instructions]
        completions = await self._model.complete(prompts, Sampling(max_tokens=max_tokens))
        return [Reply(completion.text, completion.usage) for completion in completions]


class KVRecaller:
    """Recalls clues, surrogate queries and drafts from KV memories; see :class:`~lightrag.memory.base.Recaller`.

    Every chosen memory gives clues; a draft comes from the most relevant one alone, because drafts of texts that each
    hold a part of the answer cannot be merged without reading them.

    Args:
        reader: follows instructions over a memory.
        memories: chooses memories of a corpus version.
        settings: how many clues and surrogate queries to keep.
        prompts: replaces the built-in prompts for every language.
    """

    def __init__(
        self,
        reader: MemoryReader,
        memories: Memories,
        settings: RecallSettings | None = None,
        *,
        prompts: PromptSet | None = None,
    ) -> None:
        self._reader = reader
        self._memories = memories
        self._settings = settings or RecallSettings()
        self._prompts = prompts

    async def recall(self, request: RecallRequest) -> Recollection:
        """Recall what helps to find evidence for a question.

        Raises:
            NotFoundError: this version has no memory.
            UsageError: the question is empty and the task needs one.
            BackendError: the model failed.
        """
        check_question(request)
        chosen = await self._memories(request)
        if not chosen.memories:
            raise NotFoundError(f"{request.corpus} has no KV memory to recall from", subject=str(request.corpus))
        keys = instructions_for(request)
        without_draft: list[PromptKey] = [key for key in keys if key != "qa"]
        # Each memory is held only while it is asked: requests that held one and waited for another would wait for ever.
        work = [(memory, without_draft if number else keys) for number, memory in enumerate(chosen.memories)]
        asked = await all_or_none(self._ask(memory, own, request.question) for memory, own in work if own)
        replies = [{key: reply.text for key, reply in each.items()} for each in asked]
        usage = sum((reply.usage for each in asked for reply in each.values()), Usage())
        note = f"recalled from {len(asked)} of {chosen.total} KV memories of {request.corpus}"
        return Recollection(read_clues(replies, self._settings), "kv_memory", usage, (note,))

    async def _ask(self, memory: AskableMemory, keys: Sequence[PromptKey], question: str) -> dict[PromptKey, Reply]:
        prompts = self._prompts or prompts_for(memory.language)
        instructions = [prompts.fill(key, question=question) for key in keys]
        async with memory.lease() as held:
            replies = await self._reader.ask(held, instructions, max(REPLY_TOKENS[key] for key in keys))
        return dict(zip(keys, replies, strict=True))


__all__ = [
    "AskableMemory",
    "ChosenMemories",
    "KVRecaller",
    "LanguageModelReader",
    "LocalReader",
    "Memories",
    "MemoryReader",
]
