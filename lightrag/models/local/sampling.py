"""From the logits of the last position to the next token of each sequence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightrag.models.base import Sampling


class Chooser:
    """Chooses the tokens of one sequence; equal seeds choose equally whatever else is in the batch."""

    def __init__(self, sampling: Sampling) -> None:
        self.greedy = sampling.temperature == 0
        self._temperature = sampling.temperature
        self._top_p = sampling.top_p
        self._random = torch.Generator()
        if sampling.seed is None:
            self._random.seed()
        else:
            self._random.manual_seed(sampling.seed)

    def choose(self, logits: Tensor) -> int:
        """Draw a token from logits of shape (vocabulary,): nucleus sampling (Holtzman et al. 2020, section 3.1)."""
        weights, tokens = torch.softmax(logits.float() / self._temperature, dim=-1).sort(descending=True, stable=True)
        reached = weights.cumsum(0)
        # The smallest set of likeliest tokens whose share reaches top_p, at least one.
        kept = int((reached < self._top_p).sum().clamp(max=len(reached) - 1)) + 1
        point = torch.rand((), generator=self._random).item() * float(reached[kept - 1])
        return int(tokens[min(int((reached[:kept] < point).sum()), kept - 1)])


def choose_tokens(logits: Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """Choose the next token of each sequence from logits of shape (sequences, vocabulary)."""
    tokens: list[int] = logits.argmax(dim=-1).tolist()
    for row, chooser in enumerate(choosers):
        if not chooser.greedy:
            tokens[row] = chooser.choose(logits[row].cpu())
    return tokens


__all__ = ["Chooser", "choose_tokens"]
