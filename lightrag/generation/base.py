"""What answering is asked and what it gives back; extractive and prompted answerers live beside it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import KW_ONLY, dataclass
from typing import Literal, Protocol

from lightrag.compression import CompressedContext
from lightrag.types import ChatMessage, Clue, CorpusVersion, Evidence, Task, Usage


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """Everything needed to write one answer."""

    corpus: CorpusVersion
    task: Task
    question: str
    """Empty for an open summary."""
    evidence: tuple[Evidence, ...]
    _: KW_ONLY
    context: CompressedContext | None = None
    """The evidence as compressed for this generator; ``None``: use it as it is."""
    clues: tuple[Clue, ...] = ()
    max_tokens: int | None = None
    temperature: float | None = None
    instructions: str = ""
    """Replaces the built-in instructions; may hold ``{question}`` and ``{context}``."""
    history: tuple[ChatMessage, ...] = ()
    """Earlier messages of the conversation that the question belongs to."""
    search: str = ""
    """The question with what it refers back to, for who does not read those messages; empty: the question itself."""

    @property
    def searched(self) -> str:
        """What the evidence was looked for with."""
        return self.search or self.question

    @property
    def source_tokens(self) -> int:
        """Tokens of the evidence as it will be read; the question and the instructions are short beside it."""
        return self.context.tokens if self.context else sum(item.chunk.tokens for item in self.evidence)


@dataclass(frozen=True, slots=True)
class GenerationDelta:
    """A piece of an answer. The last one has ``done`` set and carries the totals."""

    text: str
    done: bool = False
    kind: Literal["extractive", "generated"] = "extractive"
    model: str = ""
    usage: Usage = Usage()
    cited: tuple[str, ...] = ()
    """Chunk ids that the answer quotes or cites, where known."""
    limited: bool = False
    """Whether the answer was stopped at its limit of tokens."""
    notes: tuple[str, ...] = ()


class Answerer(Protocol):
    """Writes answers from evidence."""

    def answer(self, request: GenerationRequest) -> AsyncIterator[GenerationDelta]:
        """Write the answer piece by piece; closing the iterator stops the work.

        Raises:
            BackendError: the generator failed.
        """
        ...


__all__ = ["Answerer", "GenerationDelta", "GenerationRequest"]
