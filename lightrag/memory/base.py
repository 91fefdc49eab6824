"""What a global memory is asked to recall and what it gives back, whatever the memory is made of."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal, Protocol

from lightrag.types import Clue, CorpusVersion, Task, Usage


@dataclass(frozen=True, slots=True)
class RecallRequest:
    """One question to the memory of one corpus version."""

    corpus: CorpusVersion
    question: str
    """May be empty for the task ``summarize``: then key points of the whole corpus are recalled."""
    _: KW_ONLY
    task: Task = "memorag"
    draft: bool = False
    """Also answer from memory alone; the draft comes back as a clue of kind ``draft``."""


@dataclass(frozen=True, slots=True)
class Recollection:
    """What the memory recalled, best first."""

    clues: tuple[Clue, ...]
    method: Literal["extractive", "prompted", "kv_memory"]
    usage: Usage = Usage()
    notes: tuple[str, ...] = ()


class Recaller(Protocol):
    """Recalls clues, surrogate queries and drafts from a global memory."""

    async def recall(self, request: RecallRequest) -> Recollection:
        """Recall what helps to find evidence for a question.

        Raises:
            NotFoundError: this version has no memory.
            UsageError: the question is empty and the task needs one.
        """
        ...


__all__ = ["RecallRequest", "Recaller", "Recollection"]
