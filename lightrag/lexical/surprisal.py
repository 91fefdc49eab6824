"""Entropy-based scoring: a word that a causal language model did not expect carries information.

Source: Selective Context (arXiv 2310.06201) and the entropy filter of LightMem (equation 3). One pass per window; the
surprisal belongs to the token itself, not to its predecessor.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError
from lightrag.lexical.units import Unit
from lightrag.lexical.words import find_convention, group_words, trim
from lightrag.models.files import resolve_model
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.types import Span


class SurprisalScorer:
    """Scores words by their surprisal in bits. Safe to share between threads; passes run one after the other.

    The first token of a text has no prefix to be expected from; it counts as the most surprising one and is so kept.

    Args:
        model: folder or hub id of a causal language model.
        device: as torch names it.
        dtype: precision of the weights.
        window: longest pass in tokens; ``None``: what the model can read, at most 2048.
        overlap: tokens of the window before that are read again as prefix.
        word_score: a word's score is the mean over its tokens, or its first token's.

    Raises:
        BackendError: there is no such model here. Weights are loaded at the first use.
    """

    name = "entropy"

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "cpu",
        dtype: Literal["float32", "bfloat16", "float16"] = "float32",
        window: int | None = None,
        overlap: int = 64,
        word_score: Literal["mean", "first"] = "mean",
    ) -> None:
        self.folder = resolve_model(str(model))
        self._device = device
        self._dtype = dtype
        self._window = window
        self._overlap = overlap
        self._word_score = word_score
        self.tokenizer = HuggingFaceTokenizer.open(self.folder)
        self._convention = find_convention(list(self.tokenizer.fast.get_vocab(with_added_tokens=False)))
        self._lock = threading.Lock()

    def score(self, texts: Sequence[str], query: str = "") -> list[list[Unit]]:
        """Score the words of every text; see :class:`lightrag.lexical.units.Scorer`. Not query-aware."""
        return [self._units(text) for text in texts]

    def token_surprisal(self, text: str) -> tuple[list[Span], NDArray[np.float32]]:
        """Character range and surprisal in bits of every token of a text."""
        encoding = self.tokenizer.fast.encode(text, add_special_tokens=False)
        return [Span(*span) for span in encoding.offsets], self.surprisal(encoding.ids)

    def surprisal(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Surprisal of each token in bits, shape (tokens,); the first gets the largest of all.

        Tokens behind the first window are expected from ``overlap`` tokens before their window and what follows them.
        """
        values = np.zeros(len(ids), np.float32)
        window = self._window or min(2048, int(getattr(self._model.config, "max_position_embeddings", 2048)))
        overlap = min(self._overlap, window // 2)
        start = 0
        while start < len(ids):
            begin = max(0, start - overlap)
            end = min(len(ids), begin + window)
            bits = self._pass(ids[begin:end])  # for tokens begin + 1 … end - 1
            first = max(start, begin + 1)
            values[first:end] = bits[first - begin - 1 :]
            start = end
        if len(ids):
            values[0] = max(values.max(), 1.0)
        return values

    def _pass(self, ids: Sequence[int]) -> NDArray[np.float32]:
        import torch

        row = torch.tensor([ids], device=self._device)
        with self._lock, torch.inference_mode():
            logits = self._model(input_ids=row, use_cache=False).logits[0, :-1].float()
            losses = torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="none")
        return (losses / np.log(2)).cpu().numpy()

    def _units(self, text: str) -> list[Unit]:
        encoding = self.tokenizer.fast.encode(text, add_special_tokens=False)
        spans = [Span(*span) for span in encoding.offsets]
        bits = self.surprisal(encoding.ids)
        units = []
        for word in group_words(text, encoding.tokens, spans, self._convention):
            span = trim(text, Span(spans[word[0]].start, spans[word[-1]].end))
            value = bits[word].mean() if self._word_score == "mean" else bits[word[0]]
            units.append(Unit(span.start, span.end, float(value), len(word)))
        return units

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModelForCausalLM

        from lightrag.models.packing import pack_linear_layers

        try:
            model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=getattr(torch, self._dtype))
        except (OSError, ValueError, RuntimeError) as error:
            raise ArtifactError(
                f"{str(self.folder)!r} is not a causal language model: {error}", subject=str(self.folder)
            ) from error
        model = model.to(self._device).eval()
        pack_linear_layers(model)
        return model


__all__ = ["SurprisalScorer"]
