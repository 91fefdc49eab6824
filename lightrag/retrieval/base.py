"""What retrieval is asked and what it gives back; no index is known here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, Protocol

from lightrag.types import Clue, CorpusVersion, Evidence


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """One question to one version of a corpus. ``None`` means: as configured."""

    corpus: CorpusVersion
    question: str
    _: KW_ONLY
    clues: tuple[Clue, ...] = ()
    """Recalled clues and surrogate queries, searched beside the question."""
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    top_k: int | None = None
    depth: int | None = None
    token_budget: int | None = None
    order: Literal["score", "corpus"] | None = None
    spread: bool | None = None
    filter: Mapping[str, Any] | None = None
    """JSON form of a metadata filter, see ``lightrag.retrieval.filters``."""


@dataclass(frozen=True, slots=True)
class RetrievalResult:
    """Evidence, best first or in corpus order as asked."""

    evidence: tuple[Evidence, ...]
    notes: tuple[str, ...] = ()
    """What the user should know, for example a language that the embedder does not speak."""
    seconds: Mapping[str, float] = field(default_factory=dict)


class Retriever(Protocol):
    """Finds evidence."""

    async def retrieve(self, request: RetrievalRequest) -> RetrievalResult:
        """Search one corpus version.

        Raises:
            NotFoundError: the version does not exist.
            UsageError: the question is empty, or the filter is not valid.
        """
        ...

    async def retrieve_many(self, requests: Sequence[RetrievalRequest]) -> tuple[RetrievalResult, ...]:
        """Search for several things at once; raises as :meth:`retrieve` where one of the searches does."""
        ...


__all__ = ["RetrievalRequest", "RetrievalResult", "Retriever"]
