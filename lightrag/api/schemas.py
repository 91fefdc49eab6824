"""What goes over HTTP that is not already a value of :mod:`lightrag.types`."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from lightrag.compression import Allocation, CompressionRequest
from lightrag.config import CompressionMethod
from lightrag.memory.base import RecallRequest
from lightrag.rag import AskRequest
from lightrag.retrieval.base import RetrievalRequest
from lightrag.types import Chunk, CorpusVersion, Evidence, Task

LONGEST_QUESTION = 100_000
"""Characters."""

LARGEST_VERSION: Final = 2**63 - 1


class Body(BaseModel):
    """Base of request bodies: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class AskBody(Body):
    """One question."""

    question: str = Field(default="", max_length=LONGEST_QUESTION)
    """May be empty for the task ``summarize`` only."""
    task: Task = "memorag"
    version: int | None = Field(default=None, ge=0, le=LARGEST_VERSION)
    """A committed version of the corpus; the newest where left out."""
    draft: bool = False
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    top_k: int | None = Field(default=None, ge=1, le=200)
    token_budget: int | None = Field(default=None, ge=16, le=1_000_000)
    order: Literal["score", "corpus"] | None = None
    filter: dict[str, Any] | None = None
    compress_to: int | None = Field(default=None, ge=1, le=1_000_000)
    """Tokens that the evidence may take in the generator's prompt; as it is where left out."""
    compress_method: CompressionMethod | None = None
    """How it is made to fit; as configured where left out."""
    max_tokens: int | None = Field(default=None, ge=1, le=100_000)
    temperature: float | None = Field(default=None, ge=0, le=2)
    instructions: str = Field(default="", max_length=20_000)
    seconds: float | None = Field(default=None, gt=0, le=600)
    """Deadline; the service's own applies where left out."""
    stream: bool = False
    """Answer as server-sent events: ``clues``, ``evidence``, ``text`` …, ``answer``; ``error`` ends a failed one."""

    def request(self, corpus: CorpusVersion) -> AskRequest:
        """The same question for the pipeline, pinned to a version."""
        return AskRequest(corpus, **self.model_dump(exclude={"version", "stream"}))


class RetrieveBody(Body):
    """A search for evidence, without an answer."""

    question: str = Field(max_length=LONGEST_QUESTION)
    version: int | None = Field(default=None, ge=0, le=LARGEST_VERSION)
    mode: Literal["hybrid", "dense", "lexical"] = "hybrid"
    top_k: int | None = Field(default=None, ge=1, le=200)
    token_budget: int | None = Field(default=None, ge=16, le=1_000_000)
    order: Literal["score", "corpus"] | None = None
    spread: bool | None = None
    filter: dict[str, Any] | None = None

    def request(self, corpus: CorpusVersion) -> RetrievalRequest:
        """The same search for the stage, pinned to a version."""
        return RetrievalRequest(corpus, **self.model_dump(exclude={"version"}))


class RecallBody(Body):
    """A question to the memory alone."""

    question: str = Field(default="", max_length=LONGEST_QUESTION)
    version: int | None = Field(default=None, ge=0, le=LARGEST_VERSION)
    task: Task = "memorag"
    draft: bool = False

    def request(self, corpus: CorpusVersion) -> RecallRequest:
        """The same question for the stage, pinned to a version."""
        return RecallRequest(corpus, **self.model_dump(exclude={"version"}))


class CompressBody(Body):
    """Passages to fit into a budget."""

    passages: list[str] = Field(min_length=1, max_length=1000)
    budget: int = Field(ge=1, le=1_000_000)
    """Tokens of the generator."""
    query: str = Field(default="", max_length=LONGEST_QUESTION)
    compress_method: CompressionMethod | None = None
    """As configured where left out."""

    def request(self) -> CompressionRequest:
        """The passages as evidence for the stage, the first one the best."""
        evidence = tuple(
            Evidence(Chunk(str(index), "", index, text, 0, len(text), tokens=0), 1.0 / (index + 1))
            for index, text in enumerate(self.passages)
        )
        return CompressionRequest(evidence, self.budget, self.query, method=self.compress_method)


class Compressed(BaseModel):
    """Passages as text within a budget."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    text: str
    tokens: int
    source_tokens: int
    method: str
    allocation: list[Allocation]
    """What each span was given, and why; ``chunk_id`` is the position of the passage."""
    notes: list[str]


class CorpusInfo(BaseModel):
    """A corpus and its newest version."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    corpus: str
    version: int
    committed_at: str
    """ISO 8601."""
    counts: dict[str, int]
    """Documents, chunks, gists and so on, as the job counted them."""


class CorpusPage(BaseModel):
    """Corpora of the tenant, in order of name."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    corpora: list[CorpusInfo]
    next: str | None = None
    """Pass as ``cursor`` for the following page; null on the last one."""


class Health(BaseModel):
    """Whether the service works."""

    status: Literal["ok"]


class VersionInfo(BaseModel):
    """What runs."""

    name: str
    version: str


__all__ = [
    "AskBody",
    "Body",
    "CompressBody",
    "Compressed",
    "CorpusInfo",
    "CorpusPage",
    "Health",
    "RecallBody",
    "RetrieveBody",
    "VersionInfo",
]
