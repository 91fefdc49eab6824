"""Text in, memories out; instructions in, replies out: a memory model together with its tokenizer and chat layout.

Knows nothing of corpora or storage. The layout is the one that the published checkpoints were trained on: the text is a
user turn which the assistant has acknowledged, and every instruction is a conversation of its own behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightrag.errors import UsageError
from lightrag.memory.decoding import Decoding, generate
from lightrag.memory.kv_memory import KVMemory
from lightrag.memory.memory_model import MemoryModel
from lightrag.memory.prompts import PromptSet, prompts_for
from lightrag.models.base import Prompt
from lightrag.models.local.rendering import PromptRenderer
from lightrag.types import ChatMessage, Usage


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model said to one instruction."""

    text: str
    usage: Usage


class TextMemory:
    """Memorises texts and answers instructions over memories. Safe to use from several threads.

    Args:
        model: makes and reads memories.
        tokenizer: of the model, from transformers.
        prompts: replaces the built-in prompts for every language.
        protect: keep instructions and answers uncompressed; ``False`` compresses them as published.
    """

    def __init__(
        self, model: MemoryModel, tokenizer: Any, *, prompts: PromptSet | None = None, protect: bool = True
    ) -> None:
        self.model = model
        self._tokenizer = tokenizer
        self._renderer = PromptRenderer.of(tokenizer, model.identity.architecture)
        self._prompts = prompts
        self._protect = protect

    @classmethod
    def load(cls, folder: str | Path, model: MemoryModel, **options: Any) -> TextMemory:
        """Take the tokenizer from a checkpoint's folder; ``options`` as for the class."""
        from transformers import AutoTokenizer

        return cls(model, AutoTokenizer.from_pretrained(folder, local_files_only=True), **options)

    def memorise(self, text: str, *, language: str = "en", onto: KVMemory | None = None) -> KVMemory:
        """Read a text into a memory; see :meth:`memorise_batch`."""
        return self.memorise_batch([text], language=language, onto=[onto])[0]

    def memorise_batch(
        self, texts: Sequence[str], *, language: str = "en", onto: Sequence[KVMemory | None] | None = None
    ) -> list[KVMemory]:
        """Read several texts together.

        Args:
            texts: one per memory.
            language: of the prompts around them.
            onto: memories to append to; reading goes on exactly where it stopped, with a further turn.

        Raises:
            UsageError: a text is empty.
            ArtifactError: another model made a memory in ``onto``.
        """
        if not all(text.strip() for text in texts):
            raise UsageError("there is nothing to memorise: a text is empty")
        prompts = self.prompts(language)
        return self.model.memorise_batch([self.context_ids(text, prompts) for text in texts], onto=onto)

    def ask(self, memory: KVMemory, instructions: Sequence[str], *, max_tokens: int = 256) -> list[Reply]:
        """Put several instructions to one memory, in one batch, without copying the memory.

        Raises:
            UsageError: there is no instruction.
            ArtifactError: another model made the memory.
        """
        if not instructions:
            raise UsageError("there is no instruction to follow")
        return self._replies([memory] * len(instructions), instructions, max_tokens)

    def complete(self, instructions: Sequence[str], *, max_tokens: int = 256) -> list[Reply]:
        """Follow several instructions in one batch, without any memory.

        Raises:
            UsageError: there is no instruction.
        """
        if not instructions:
            raise UsageError("there is no instruction to follow")
        return self._replies([None] * len(instructions), instructions, max_tokens)

    def _replies(
        self, memories: Sequence[KVMemory | None], instructions: Sequence[str], max_tokens: int
    ) -> list[Reply]:
        asked = [self.instruction_ids(instruction) for instruction in instructions]
        stops = tuple({*self.model.eos_token_ids, self._tokenizer.eos_token_id} - {None})
        decoding = Decoding(max_tokens=max_tokens, stop_ids=stops)
        answers = generate(self.model.session(memories), asked, decoding, protect=self._protect)
        cells = [memory.cells if memory else 0 for memory in memories]
        return [
            Reply(
                self._tokenizer.decode(answer.token_ids, skip_special_tokens=True).strip(),
                Usage(before + len(ids), answer.generated, before, 1),
            )
            for before, ids, answer in zip(cells, asked, answers, strict=True)
        ]

    def prompts(self, language: str) -> PromptSet:
        """Return the prompts for a language."""
        return self._prompts or prompts_for(language)

    def context_ids(self, text: str, prompts: PromptSet) -> list[int]:
        """Return the tokens that a text is memorised as."""
        user = prompts.fill("context", context=text)
        return self._ids([("user", user), ("assistant", prompts.acknowledge)])

    def instruction_ids(self, instruction: str) -> list[int]:
        """Return the tokens that an instruction is asked as."""
        return self._ids([("user", instruction)])

    def _ids(self, turns: Sequence[tuple[Literal["user", "assistant"], str]]) -> list[int]:
        if self._tokenizer.chat_template is None:
            text = "".join(f"{content}\n\n" for _, content in turns)
            options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
            return [int(token) for token in self._tokenizer(text, **options)["input_ids"]]
        # What a text or a question says stays text, also where it spells a special token.
        messages = tuple(ChatMessage(role, content) for role, content in turns)
        return self._renderer.render(Prompt(messages)).token_ids


__all__ = ["Reply", "TextMemory"]
