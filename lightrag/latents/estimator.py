"""TacZip's token estimator: a bi-encoder that scores every passage token against the question.

Passage vectors do not depend on the question, so they can be computed offline, quantised and stored like latents;
then a question costs its own encoding and one matrix-vector product. Source: behaviour of the published TacZip code.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import UsageError
from lightrag.latents.checkpoint import find_part
from lightrag.latents.encoder import LatentEncoder, Precision
from lightrag.latents.inputs import EncoderInput
from lightrag.models.tokenization import HuggingFaceTokenizer

if TYPE_CHECKING:
    from torch import Tensor


class TokenEstimator:
    """Makes unit vectors of passage tokens and of questions. Not safe to share between threads.

    Args:
        model: decoder without head.
        temperature: divides the cosine.
        end_ids: appended to a question; its vector is the state of the last of them, as in training.
        bos: id in front of every question and passage, where the tokenizer has one.
        max_query_tokens: longest question, BOS and end included; longer ones lose their middle, never their end.
    """

    def __init__(
        self,
        model: Any,
        *,
        temperature: float = 0.02,
        end_ids: Sequence[int] = (),
        bos: int | None = None,
        max_query_tokens: int = 256,
    ) -> None:
        self._encoder = LatentEncoder(model)
        self.temperature = temperature
        self.end_ids = tuple(end_ids)
        self.bos = bos
        self.max_query_tokens = max_query_tokens

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        base: str | Path | None = None,
        dtype: Precision = "auto",
        device: str = "cpu",
        **options: Any,
    ) -> TokenEstimator:
        """Load the estimator of a TacZip checkpoint, adapters merged where they are stored apart.

        Args:
            path: checkpoint folder in any published layout, or a bare decoder.
            base: folder that describes the architecture where the checkpoint does not.
            dtype: ``auto`` keeps the stored precision.
            device: as torch names it.
            options: see the class.

        Raises:
            ArtifactError: the checkpoint is damaged or has no estimator.
        """
        import torch

        from lightrag.models.packing import pack_linear_layers

        part = find_part(path, "estimator", base=base)
        model = part.build(None, None if dtype == "auto" else getattr(torch, dtype), device)
        pack_linear_layers(model)
        return cls(model, **options)

    @property
    def hidden_size(self) -> int:
        """Width of a vector."""
        return self._encoder.hidden_size

    @cached_property
    def fingerprint(self) -> str:
        """Changes whenever an equal passage may get other vectors."""
        return f"{self._encoder.fingerprint}-{self.bos}"

    def token_vectors(self, passages: Sequence[Sequence[int]]) -> list[Tensor]:
        """Unit vectors of every token of every passage, each read by itself; shape (tokens, hidden) each.

        A passage is one sequence however long it is; BOS, where there is one, is put in front and its vector left out.
        """
        prefix = () if self.bos is None else (self.bos,)
        return [_unit(states) for states in self._states([(*prefix, *ids) for ids in passages], len(prefix))]

    def raw_vectors(self, ids: Sequence[int]) -> Tensor:
        """Unit vectors of a sequence exactly as given, shape (tokens, hidden)."""
        return _unit(self._states([tuple(ids)], 0)[0])

    def query_ids(self, ids: Sequence[int]) -> tuple[int, ...]:
        """A question's ids with BOS and end, shortened in its middle where it is too long."""
        prefix = () if self.bos is None else (self.bos,)
        room = self.max_query_tokens - len(prefix) - len(self.end_ids)
        if room < 2:
            raise UsageError(f"max_query_tokens {self.max_query_tokens} leaves no room for a question")
        if len(ids) > room:
            ids = [*ids[: room - room // 2], *ids[len(ids) - room // 2 :]]
        return (*prefix, *ids, *self.end_ids)

    def query_vector(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Unit vector of a question given with BOS and end: the state of its last token, shape (hidden,)."""
        states = self._encoder.encode([EncoderInput(tuple(ids))], [[len(ids) - 1]])[0]
        return _unit(states)[0].float().cpu().numpy()

    def scores(self, query: NDArray[np.float32], vectors: Tensor) -> NDArray[np.float32]:
        """Scores of passage tokens: cosine over temperature, shape (tokens,)."""
        return vectors.float().cpu().numpy() @ query / self.temperature

    def _states(self, sequences: Sequence[tuple[int, ...]], head: int) -> list[Tensor]:
        return self._encoder.encode([EncoderInput(ids, head) for ids in sequences])


def published_end(tokenizer: HuggingFaceTokenizer, bos: int | None) -> tuple[int, ...]:
    """Ids that the released estimators expect behind a question.

    A space and ``</s>`` for Llama; ``<|endoftext|>`` for Qwen3, whose tokenizer has no BOS; nothing where neither is in
    the vocabulary.
    """
    fast = tokenizer.fast
    qwen, llama = fast.token_to_id("<|endoftext|>"), fast.token_to_id("</s>")
    if bos is None and qwen is not None:
        return (qwen,)
    if llama is None:
        return ()
    mark = fast.token_to_id("▁")
    return (*([mark] if mark is not None else tokenizer.ids_of([" "])[0]), llama)


def _unit(states: Tensor) -> Tensor:
    import torch

    return torch.nn.functional.normalize(states, dim=-1)


__all__ = ["TokenEstimator", "published_end"]
