"""LLMLingua-2: a small encoder that says for every token how likely it is to be worth keeping.

Source: arXiv 2403.12968; reads any token-classification checkpoint of that kind (multilingual BERT, XLM-RoBERTa).
Unlike the released package it tokenises once, pads next to nothing, glues words in scripts without spaces correctly,
keeps unknown characters, and gives out the attention of the same pass.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError, LimitError
from lightrag.lexical.units import Unit
from lightrag.lexical.words import find_convention, group_words, trim
from lightrag.models.combining import Combiner
from lightrag.models.files import resolve_model
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.types import Span

if TYPE_CHECKING:
    import torch

_PADDING_SHARE = 0.125  # Longest share of a batch that may be padding.
_PASSES = 4  # Most passes for calls that are combined: nobody should wait long for others.
_WINDOW_ENDS = (".", "\n")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the model saw in one text."""

    tokens: tuple[str, ...]
    """As spelt in the vocabulary, special tokens left out."""
    spans: tuple[Span, ...]
    """Character range of each token."""
    probabilities: NDArray[np.float32]
    """Probability of being worth keeping, shape (tokens,)."""
    windows: tuple[int, ...]
    """Pass in which each token was read."""


@dataclass(frozen=True, slots=True)
class JointReading:
    """Several texts read in one pass, with the attention between them."""

    readings: tuple[Reading, ...]
    attention: NDArray[np.float32]
    """Mean over the asked layers and all heads, shape (sequence, sequence), special tokens included; row attends."""
    ranges: tuple[tuple[int, int], ...]
    """Rows of each text in ``attention``."""


class LLMLingua2:
    """Scores words by the model's probabilities. Safe to share between threads.

    Passes run one after the other; texts of calls that wait at the same time are read in the same passes.

    Example:
        >>> scorer = LLMLingua2("llmlingua-2-xlm-roberta-large-meetingbank")  # doctest: +SKIP
        >>> TextCompressor(scorer).compress(["A long report …"], rate=0.3)[0].text  # doctest: +SKIP

    Args:
        model: folder or hub id of a token-classification checkpoint with two labels, the second meaning *keep*.
        device: as torch names it.
        dtype: precision of the weights.
        max_batch_tokens: tokens of one pass, padding included.
        max_batch_size: sequences of one pass; ``None``: as many as fit its tokens.
        word_score: a word's score is the mean over its tokens, or its first token's.
        compat: ``llmlingua`` frames every sequence as version 0.2.2 of that package does, with ``[CLS]`` and ``[SEP]``
            even where the vocabulary (XLM-RoBERTa's) has other marks and reads these as unknown.

    Raises:
        BackendError: there is no such model here. Weights are loaded at the first use.
    """

    name = "llmlingua2"

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "cpu",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        max_batch_tokens: int = 8192,
        max_batch_size: int | None = None,
        word_score: Literal["mean", "first"] = "mean",
        compat: Literal["", "llmlingua"] = "",
    ) -> None:
        self.folder = resolve_model(str(model))
        self._compat = compat
        self._device = device
        self._dtype = dtype
        self._max_batch_tokens = max_batch_tokens
        self._max_batch_size = max_batch_size
        self._word_score = word_score
        self.tokenizer = HuggingFaceTokenizer.open(self.folder)
        self._convention = find_convention(list(self.tokenizer.fast.get_vocab(with_added_tokens=False)))
        self._lock = threading.Lock()
        most = _PASSES * max_batch_tokens
        self.batches: Combiner[Sequence[int], NDArray[np.float32]] = Combiner(self._run, size=len, most=most)
        """Counts what was combined."""

    def score(self, texts: Sequence[str], query: str = "") -> list[list[Unit]]:
        """Score the words of every text; see :class:`lightrag.lexical.units.Scorer`. Not query-aware."""
        return [self.units(text, reading) for text, reading in zip(texts, self.read(texts), strict=True)]

    def units(self, text: str, reading: Reading) -> list[Unit]:
        """The words of a text with the scores of a reading of it."""
        units = []
        for word in group_words(text, reading.tokens, reading.spans, self._convention):
            scores = reading.probabilities[word]
            span = trim(text, Span(reading.spans[word[0]].start, reading.spans[word[-1]].end))
            value = float(scores.mean() if self._word_score == "mean" else scores[0])
            units.append(Unit(span.start, span.end, value, len(word), reading.windows[word[0]]))
        return units

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Run the model over texts of any length, in windows that end at sentences where they can."""
        encodings = self._encode(texts)
        bounds = [_windows(encoding.tokens, self.window_tokens) for encoding in encodings]
        rows = [
            encoding.ids[start:end]
            for encoding, windows in zip(encodings, bounds, strict=True)
            for start, end in windows
        ]
        probabilities = iter(self.batches(rows))
        return [
            _reading(encoding, [next(probabilities) for _ in windows], windows)
            for encoding, windows in zip(encodings, bounds, strict=True)
        ]

    def read_together(self, texts: Sequence[str], layers: Sequence[int]) -> JointReading:
        """Read several texts as one sequence and return the attention of that same pass, for topic boundaries.

        Args:
            texts: in order; together at most :attr:`window_tokens` tokens.
            layers: whose attention is averaged, counted from 0.

        Raises:
            LimitError: the texts are too long for one pass.
        """
        encodings = self._encode(texts)
        lengths = [len(encoding.ids) for encoding in encodings]
        if sum(lengths) > self.window_tokens:
            raise LimitError(
                f"{sum(lengths)} tokens cannot be read in one pass of {self.window_tokens}; pass fewer or shorter texts"
            )
        joined = [token for encoding in encodings for token in encoding.ids]
        scores, attention = self._attentive_pass(joined, layers)
        starts = np.cumsum([0, *lengths])
        readings = [
            _reading(encoding, [scores[start : start + length]], [(0, length)])
            for encoding, start, length in zip(encodings, starts, lengths, strict=False)
        ]
        ranges = tuple((int(s) + 1, int(s) + 1 + n) for s, n in zip(starts, lengths, strict=False))
        return JointReading(tuple(readings), attention, ranges)

    @cached_property
    def window_tokens(self) -> int:
        """Tokens of text in one pass, special tokens not counted."""
        positions = int(self._model.config.max_position_embeddings)
        # RoBERTa's position table starts behind its padding index.
        offset = self._model.config.pad_token_id + 1 if "roberta" in self._model.config.model_type else 0
        return min(512, positions - offset) - 2

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModelForTokenClassification

        from lightrag.models.packing import pack_linear_layers

        try:
            model = AutoModelForTokenClassification.from_pretrained(
                self.folder, dtype=getattr(torch, self._dtype), attn_implementation="sdpa"
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"{str(self.folder)!r} is not a token-classification checkpoint: {error}", subject=str(self.folder)
            ) from error
        if model.config.num_labels != 2:
            raise ArtifactError(
                f"{str(self.folder)!r} has {model.config.num_labels} labels, LLMLingua-2 needs two (drop, keep)",
                subject=str(self.folder),
            )
        model = model.to(self._device).eval()
        pack_linear_layers(model)
        return model

    @cached_property
    def _frame(self) -> tuple[int, int]:
        """Ids that stand before and behind every sequence."""
        if self._compat:
            vocabulary = self.tokenizer.fast.get_vocab()
            unknown = vocabulary.get("<unk>", 0)
            return vocabulary.get("[CLS]", unknown), vocabulary.get("[SEP]", unknown)
        framed = self.tokenizer.fast.encode("").ids
        if len(framed) != 2:
            raise ArtifactError(
                f"the tokenizer in {str(self.folder)!r} puts {len(framed)} special tokens around a text, not two",
                subject=str(self.folder),
            )
        return framed[0], framed[1]

    def _encode(self, texts: Sequence[str]) -> list[Any]:
        return self.tokenizer.fast.encode_batch(list(texts), add_special_tokens=False)

    def _run(self, rows: Sequence[Sequence[int]]) -> list[NDArray[np.float32]]:
        results: dict[int, NDArray[np.float32]] = {}
        for batch in _batches([len(row) + 2 for row in rows], self._max_batch_tokens, self._max_batch_size):
            logits = self._forward([rows[index] for index in batch])
            for index, row in zip(batch, logits, strict=True):
                results[index] = row[1 : len(rows[index]) + 1]
        return [results[index] for index in range(len(rows))]

    def _forward(self, rows: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        import torch

        first, last = self._frame
        longest = max(len(row) for row in rows) + 2
        padding = self._model.config.pad_token_id or 0
        ids = torch.full((len(rows), longest), padding)
        mask = torch.zeros_like(ids)
        for index, row in enumerate(rows):
            ids[index, : len(row) + 2] = torch.tensor([first, *row, last])
            mask[index, : len(row) + 2] = 1
        with self._lock, torch.inference_mode():
            output = self._model(input_ids=ids.to(self._device), attention_mask=mask.to(self._device))
            return _keep_probability(output.logits)

    def _attentive_pass(
        self, ids: Sequence[int], layers: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        import torch

        first, last = self._frame
        with self._lock, torch.inference_mode():
            # Fused attention kernels do not give their weights out.
            self._model.set_attn_implementation("eager")
            try:
                row = torch.tensor([[first, *ids, last]], device=self._device)
                output = self._model(input_ids=row, output_attentions=True)
            finally:
                self._model.set_attn_implementation("sdpa")
            maps = torch.stack([output.attentions[layer][0].float().mean(0) for layer in layers])
            return _keep_probability(output.logits)[0, 1:-1], maps.mean(0).cpu().numpy()


def _keep_probability(logits: torch.Tensor) -> NDArray[np.float32]:
    return logits.float().softmax(-1)[..., 1].cpu().numpy()


def _reading(encoding: Any, scores: Sequence[NDArray[np.float32]], windows: Sequence[tuple[int, int]]) -> Reading:
    numbers = [number for number, (start, end) in enumerate(windows) for _ in range(start, end)]
    joined = np.concatenate(scores) if scores else np.empty(0, np.float32)
    return Reading(tuple(encoding.tokens), tuple(Span(*span) for span in encoding.offsets), joined, tuple(numbers))


def _windows(tokens: Sequence[str], limit: int) -> list[tuple[int, int]]:
    """Cut a token sequence into windows, each ending at the last sentence end in reach."""
    windows, start = [], 0
    while start < len(tokens):
        end = min(start + limit, len(tokens))
        if end < len(tokens):
            breaks = (at + 1 for at in range(end - 1, start, -1) if tokens[at] in _WINDOW_ENDS)
            end = next(breaks, end)
        windows.append((start, end))
        start = end
    return windows


def _batches(lengths: Sequence[int], limit: int, size: int | None = None) -> Iterator[list[int]]:
    """Group rows of similar length so that little of a batch is padding."""
    batch: list[int] = []
    filled = 0
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        longest = lengths[batch[0]] if batch else lengths[index]
        padded, total = longest * (len(batch) + 1), filled + lengths[index]
        full = padded > limit or len(batch) == size
        if batch and (full or padded - total > _PADDING_SHARE * padded):
            yield batch
            batch, filled = [], 0
        batch.append(index)
        filled += lengths[index]
    if batch:
        yield batch


__all__ = ["JointReading", "LLMLingua2", "Reading"]
