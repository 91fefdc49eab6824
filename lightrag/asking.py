"""What is asked of the pipeline, and what it tells while it answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from lightrag.config import CompressionMethod
from lightrag.memory.base import Recollection
from lightrag.types import Answer, ChatMessage, CorpusVersion, Evidence, Task


@dataclass(frozen=True, slots=True)
class AskRequest:
    """One question to one pinned version of a corpus. ``None`` means: as configured."""

    corpus: CorpusVersion
    question: str
    """May be empty for ``summarize``: then the whole corpus is summarised."""
    _: KW_ONLY
    task: Task = "memorag"
    draft: bool = False
    """Let memory also answer by itself, and use that draft as one more clue."""
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    top_k: int | None = None
    token_budget: int | None = None
    order: Literal["score", "corpus"] | None = None
    filter: Mapping[str, Any] | None = None
    compress_to: int | None = None
    """Tokens that the evidence may take in the generator's prompt; ``None``: as it is."""
    compress_method: CompressionMethod | None = None
    """How it is made to fit."""
    max_tokens: int | None = None
    temperature: float | None = None
    instructions: str = ""
    history: tuple[ChatMessage, ...] = ()
    """Earlier messages of the conversation that the question belongs to, for generators that read them."""
    search: str = ""
    """What is looked for where the question does not say it without those messages; empty: the question itself."""
    known: tuple[Evidence, ...] = ()
    """Evidence that the caller brings, for example what is remembered of a user. It goes before what is retrieved."""
    only_known: bool = False
    """Rest the answer on ``known`` alone: nothing is recalled or retrieved, and the corpus need not exist."""
    seconds: float | None = None
    """Deadline of the whole request."""

    @property
    def searched(self) -> str:
        """What recall, retrieval and compression look for."""
        return self.search or self.question


@dataclass(frozen=True, slots=True)
class Recalled:
    """Memory gave its clues."""

    recollection: Recollection


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The evidence is known."""

    evidence: tuple[Evidence, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerText:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole answer; always the last event."""

    answer: Answer


AskEvent = Recalled | Retrieved | AnswerText | Finished


__all__ = ["AnswerText", "AskEvent", "AskRequest", "Finished", "Recalled", "Retrieved"]
