"""The nouns of the system as frozen values; nothing here computes, loads or talks to anything.

Floor 0: every other module may import this one, and it imports only ``errors``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import lightrag.errors as errors

MetadataValue = str | int | float | bool | tuple[str, ...]
"""A filterable value. Dates are ISO 8601 strings, which compare in time order."""

Metadata = Mapping[str, MetadataValue]

Task = Literal["memorag", "rag", "qa", "summarize"]
"""``memorag``: recall, retrieve, generate. ``rag``: retrieve, generate. ``qa``: from memory alone. ``summarize``."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")


def check_name(value: str, what: str) -> str:
    """Return ``value`` if it is a legal tenant, corpus or collection name.

    Names become path segments in object storage, so they are restricted to letters, digits, ``.``, ``_`` and ``-``,
    start with a letter or digit, and have at most 63 characters.

    Raises:
        UsageError: the name is anything else.
    """
    if not _NAME.match(value) or ".." in value:
        raise errors.UsageError(
            f"{what} {value!r} is not a valid name: use 1 to 63 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit",
            subject=value,
        )
    return value


# --- Identity ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class CorpusId:
    """A corpus of one tenant. Its text form is ``tenant/corpus``."""

    tenant: str
    corpus: str

    def __post_init__(self) -> None:
        check_name(self.tenant, "tenant")
        check_name(self.corpus, "corpus")

    def __str__(self) -> str:
        return f"{self.tenant}/{self.corpus}"

    def at(self, version: int) -> CorpusVersion:
        """Pin a version of this corpus."""
        return CorpusVersion(self.tenant, self.corpus, version)


@dataclass(frozen=True, slots=True, order=True)
class CorpusVersion:
    """One committed, immutable state of a corpus. Its text form, ``tenant/corpus@version``, is also the cache salt."""

    tenant: str
    corpus: str
    version: int

    def __str__(self) -> str:
        return f"{self.tenant}/{self.corpus}@{self.version}"

    @property
    def corpus_id(self) -> CorpusId:
        """The corpus this is a version of."""
        return CorpusId(self.tenant, self.corpus)


# --- Documents --------------------------------------------------------------------------------------------------------


class Span(NamedTuple):
    """Half-open range of characters ``[start, end)`` in ``Document.text``."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Section:
    """A page or a heading's part of a document, as a character range of its text."""

    kind: Literal["page", "heading"]
    label: str
    """The page number as shown, or the heading's text."""
    start: int
    end: int
    level: int = 0
    """Heading depth, 1 for the outermost; 0 for pages."""


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed document: its plain text and where its pages and headings lie in it."""

    document_id: str
    """Stable: derived from the source within its corpus, so that a changed file keeps its id."""
    source: str
    """Where it came from, as the user knows it (relative path or URI)."""
    title: str
    text: str
    content_hash: str
    """blake3 of the original bytes, hexadecimal."""
    _: KW_ONLY
    media_type: str = "text/plain"
    language: str = "und"
    """ISO 639-1 code; ``und`` where it cannot be told."""
    sections: tuple[Section, ...] = ()
    """In order of ``start``; pages and headings may overlap each other."""
    metadata: Metadata = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage of a document: ``document.text[start:end] == text``, always."""

    chunk_id: str
    """Stable: equal content at an equal place in an equal document has an equal id."""
    document_id: str
    ordinal: int
    """Position among the chunks of its document, from 0."""
    text: str
    start: int
    end: int
    _: KW_ONLY
    tokens: int
    """Length under the embedder's tokenizer, special tokens not counted."""
    title: str = ""
    """Title of the document."""
    source: str = ""
    page: str = ""
    heading: str = ""
    """Path of headings above the chunk, outermost first, joined by `` › ``."""
    language: str = "und"
    metadata: Metadata = field(default_factory=dict)


class Tokenizer(Protocol):
    """Counts and locates tokens. Implementations are thread-safe and never add special tokens."""

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints mean equal tokenisation."""
        ...

    def count(self, text: str) -> int:
        """Number of tokens in ``text``."""
        ...

    def spans(self, text: str) -> list[Span]:
        """Character range of each token, in order; ranges never overlap and may leave gaps at white space."""
        ...


# --- Memory and retrieval ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gist:
    """A short account of a range of chunks, or of other gists one level below."""

    gist_id: str
    text: str
    level: int
    """0 over chunks, 1 over gists of level 0, and so on."""
    chunk_ids: tuple[str, ...]
    """The chunks it covers, directly or through lower gists."""
    document_id: str
    """Empty where it spans several documents."""
    tokens: int
    method: Literal["extractive", "prompted"] = "extractive"


LinkKind = Literal["neighbour", "mention", "shared_name", "relation", "speaker", "mentioned_by"]
"""``mentioned_by`` is a mention followed backwards."""


@dataclass(frozen=True, slots=True)
class LinkStep:
    """One step along a link: how a passage was reached from another one (``specs``: spread along links)."""

    from_id: str
    kind: LinkKind
    weight: float
    label: str = ""
    """What links the two: the shared name, the mentioned title, the relation."""


@dataclass(frozen=True, slots=True)
class Clue:
    """Something recalled from memory that helps to find evidence: a span, a surrogate query, or a draft answer."""

    text: str
    kind: Literal["span", "surrogate", "draft"] = "span"
    _: KW_ONLY
    score: float = 1.0
    chunk_ids: tuple[str, ...] = ()
    """Chunks the clue was read from, where known."""
    via: tuple[LinkStep, ...] = ()
    """Path that led to it, for clues recalled by following links."""


@dataclass(frozen=True, slots=True)
class FoundBy:
    """Which query found a passage in which index, at which rank."""

    query: str
    index: Literal["dense", "lexical", "clue", "spread", "image"]
    rank: int
    score: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """A retrieved passage with the reasons why it is here."""

    chunk: Chunk
    score: float
    """Comparable within one answer only."""
    found_by: tuple[FoundBy, ...] = ()
    via: tuple[LinkStep, ...] = ()
    """Empty for passages found directly."""


# --- Language models --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LatentPart:
    """Part of a prompt given as embeddings instead of text (a compressed passage)."""

    states: Any
    """Array or tensor of shape (tokens, hidden), in the generator's embedding space."""
    source: str = ""
    """The chunk it stands for, for citations."""


ContentPart = str | LatentPart


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a prompt for a language model."""

    role: Literal["system", "user", "assistant"]
    content: str | tuple[ContentPart, ...]

    @property
    def text(self) -> str:
        """The textual parts joined; latent parts are left out."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part for part in self.content if isinstance(part, str))


@dataclass(frozen=True, slots=True)
class Usage:
    """What a call cost. Add them up with ``+``."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    """Part of ``prompt_tokens`` that came from a memory or a prefix cache."""
    calls: int = 0
    """Calls of a language model."""

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.calls + other.calls,
        )


# --- Answers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Fallback:
    """A declared fallback that was used, and why."""

    stage: Literal["recall", "retrieve", "compress", "generate"]
    used: str
    """What was done instead, for example ``plain retrieval``."""
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a question, with everything needed to check it."""

    text: str
    _: KW_ONLY
    task: Task
    kind: Literal["extractive", "generated"]
    """``extractive`` answers are quotes; ``generated`` ones were written by a language model."""
    corpus: CorpusVersion
    evidence: tuple[Evidence, ...] = ()
    clues: tuple[Clue, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Wall-clock time per stage."""
    usage: Usage = Usage()
    model: str = ""
    """Name of the generator, empty for extractive answers."""
    limited: bool = False
    """Whether the generator was stopped at its limit of tokens, so that the text may end in the middle."""
    notes: tuple[str, ...] = ()
    """What the user should know: a language the embedder does not speak, text cut to a limit."""


Vector = Sequence[float]

__all__ = [
    "Answer",
    "ChatMessage",
    "Chunk",
    "Clue",
    "ContentPart",
    "CorpusId",
    "CorpusVersion",
    "Document",
    "Evidence",
    "Fallback",
    "FoundBy",
    "Gist",
    "LatentPart",
    "LinkKind",
    "LinkStep",
    "Metadata",
    "MetadataValue",
    "Section",
    "Span",
    "Task",
    "Tokenizer",
    "Usage",
    "Vector",
    "check_name",
]
