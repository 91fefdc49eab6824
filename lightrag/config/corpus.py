"""Settings of what is stored: documents, gists, retrieval, ingestion, conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr

from lightrag.config.section import Section


class StorageSettings(Section):
    """Where artifacts live."""

    url: str = ""
    """``file:///path``, ``s3://bucket/prefix``, ``gs://…`` or ``az://…``. Empty: the folder ``objects`` in ``home``."""
    options: dict[str, str] = Field(default_factory=dict)
    """Passed to the object store client, for example ``{"endpoint": "http://127.0.0.1:9000"}``. No secrets: those
    come from the cloud's own environment variables."""
    retain_versions: int = Field(default=5, ge=1)
    """Versions of a corpus that ``vacuum`` keeps besides pinned ones."""
    max_pins: int = Field(default=100, ge=0)
    """Pins of a corpus: what they keep is kept for ever, so whoever may write should not make ever more of them."""
    grace_seconds: float = Field(default=3600.0, ge=0)
    """Unreferenced files younger than this are kept, because a running job may be about to commit them."""


class ChunkingSettings(Section):
    """How documents are cut."""

    max_tokens: int = Field(default=200, ge=16)
    """Longest chunk in tokens of the embedder; lowered, with a note, to what the embedder reads."""


class GistSettings(Section):
    """The global memory of a corpus in its first form."""

    budget_tokens: int = Field(default=6000, ge=64)
    """Tokens that all top-level gists of a corpus may take together."""
    chunks_per_gist: int = Field(default=8, ge=2)
    tokens_per_gist: int = Field(default=96, ge=16)


class RecallSettings(Section):
    """What is recalled from memory before retrieval."""

    max_clues: int = Field(default=12, ge=0)
    max_surrogates: int = Field(default=4, ge=0)


class RetrievalSettings(Section):
    """How evidence is found and how much of it is handed on."""

    top_k: int = Field(default=12, ge=1)
    depth: int = Field(default=100, ge=1)
    """Candidates taken from each index for each query."""
    token_budget: int = Field(default=2000, ge=16)
    """Tokens of evidence handed to compression and generation."""
    order: Literal["score", "corpus"] = "score"
    spread: bool = True
    """Let scores flow along links between chunks."""
    reranker: str = ""
    """Local path or hub id of a cross-encoder; empty for none."""


class IngestSettings(Section):
    """The batch job."""

    max_document_bytes: int = Field(default=200 * 1024 * 1024, ge=1)
    error_limit: float = Field(default=0.5, ge=0, le=1)
    """Share of failed documents above which the job fails before its commit."""
    batch_bytes: int = Field(default=512 * 1024, ge=1)
    """Source bytes that a worker takes at a time, unless one document has more. Several workers of a small job take
    less, those of a large one up to 16 times as much. Work that a killed worker repeats, and its memory, grow with
    it."""
    parse_workers: int = Field(default=1, ge=1)
    embed_workers: int = Field(default=1, ge=1)
    embed_gpus: float = Field(default=0.0, ge=0)
    """GPUs that one embedding worker claims; a fraction lets several share one."""
    gist_workers: int = Field(default=1, ge=1)
    """Where the generator is ``vllm``: engines."""
    gist_gpus: float = Field(default=0.0, ge=0)
    """GPUs that one gist worker or engine claims."""
    latents: bool = False
    """Store latents of every passage with the corpus, made by the encoder of ``compression``."""
    encode_workers: int = Field(default=1, ge=1)
    """Of KV memories and latents."""
    encode_gpus: float = Field(default=0.0, ge=0)
    """GPUs that one encoding worker claims."""


class ConversationSettings(Section):
    """Long-term memory of conversations, by the service's own models unless the options name others."""

    options: dict[str, Any] = Field(default_factory=dict)
    """Options of ``LightMemory`` in the published form, for example ``{"messages_use": "hybrid"}``."""
    options_file: Path | None = None
    """A LightMem configuration (JSON or YAML); ``options`` are stronger."""
    history_url: SecretStr = SecretStr("")
    """Database of messages and entries: ``postgresql://user@host/name`` or a SQLite file. Empty: a file in ``home``."""
    vectors_url: str = ""
    """Qdrant server. Empty: its engine in process, which one process holds at a time."""
    vectors_api_key: SecretStr | None = None
    collection: str = "conversations"
    replicas: int = Field(default=1, ge=1)
    """More than one needs ``vectors_url``, and a history that all of them reach."""
    user: str = ""
    """User whose memory the MCP server offers, and no other one; empty: whom its clients name, or ``default``."""
    workers: int = Field(default=2, ge=1)
    """Of the jobs that import and consolidate. The engine in process is written to by one."""


__all__ = [
    "ChunkingSettings",
    "ConversationSettings",
    "GistSettings",
    "IngestSettings",
    "RecallSettings",
    "RetrievalSettings",
    "StorageSettings",
]
