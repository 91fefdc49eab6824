"""Token-by-token generation for a batch of sequences that are read through any session.

Knows nothing of models, memories or text. Sequences that have ended cost nothing while the others go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from lightrag.errors import UsageError


class ReadingSession(Protocol):
    """Reads further tokens of several sequences and predicts what follows."""

    def __len__(self) -> int:
        """How many sequences there are."""
        ...

    def read(self, token_ids: Sequence[Sequence[int]], *, protect: bool = False) -> list[Tensor]:
        """Read tokens (none for an empty list) and return float32 logits, the last row for the last token."""
        ...


@dataclass(frozen=True, slots=True)
class Decoding:
    """How to choose tokens. Temperature 0 is greedy."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop_ids: tuple[int, ...] = ()
    """Tokens that end a sequence; they are not part of the result."""
    suppressed_ids: tuple[int, ...] = ()
    """Tokens that are never chosen."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise UsageError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.temperature < 0 or not 0 < self.top_p <= 1:
            raise UsageError(
                f"temperature must not be negative and top_p lie in (0, 1], got {self.temperature} and {self.top_p}"
            )


@dataclass(frozen=True, slots=True)
class GeneratedTokens:
    """What one sequence was continued with."""

    token_ids: tuple[int, ...]
    """Without the one that ended it."""
    finish_reason: Literal["stop", "length"]

    @property
    def generated(self) -> int:
        """Tokens that the model wrote, which is what engines and remote models count, too: with the one at the end."""
        return len(self.token_ids) + (self.finish_reason == "stop")


def generate(
    session: ReadingSession, prompts: Sequence[Sequence[int]], decoding: Decoding, *, protect: bool = True
) -> list[GeneratedTokens]:
    """Read a prompt into every sequence of a session and continue each.

    Args:
        session: over whatever memories; it is advanced past the prompts and most of the answers.
        prompts: one per sequence, none empty.
        decoding: how to choose, for all.
        protect: keep prompts and answers uncompressed where the session would compress them.

    Raises:
        UsageError: a prompt is empty, or there are not as many prompts as sequences.
    """
    if len(prompts) != len(session) or not all(len(prompt) for prompt in prompts):
        raise UsageError(f"{len(session)} sequences need as many prompts, none empty; got {len(prompts)}")
    chooser = _Chooser(decoding)
    answers: list[list[int]] = [[] for _ in prompts]
    reasons: list[Literal["stop", "length"] | None] = [None] * len(prompts)
    pending: list[Sequence[int]] = list(prompts)
    while any(reason is None for reason in reasons):
        scores = session.read(pending, protect=protect)
        running = [index for index, reason in enumerate(reasons) if reason is None]
        chosen = chooser.choose(torch.stack([scores[index][-1] for index in running]))
        pending = [()] * len(prompts)
        for index, token in zip(running, chosen, strict=True):
            if token in decoding.stop_ids:
                reasons[index] = "stop"
                continue
            answers[index].append(token)
            if len(answers[index]) == decoding.max_tokens:
                reasons[index] = "length"
            else:
                pending[index] = (token,)
    return [GeneratedTokens(tuple(answer), reason or "length") for answer, reason in zip(answers, reasons, strict=True)]


class _Chooser:
    """Picks one token per row."""

    def __init__(self, decoding: Decoding) -> None:
        self._decoding = decoding
        self._generator: torch.Generator | None = None

    def choose(self, logits: Tensor) -> list[int]:
        decoding = self._decoding
        if decoding.suppressed_ids:
            logits = logits.clone()
            logits[:, list(decoding.suppressed_ids)] = float("-inf")
        if decoding.temperature == 0:
            return [int(token) for token in logits.argmax(-1).tolist()]
        probabilities = (logits / decoding.temperature).softmax(-1)
        if decoding.top_p < 1:
            probabilities = _nucleus(probabilities, decoding.top_p)
        return [int(token) for token in self._sample(probabilities).tolist()]

    def _sample(self, probabilities: Tensor) -> Tensor:
        if self._generator is None and self._decoding.seed is not None:
            self._generator = torch.Generator(probabilities.device).manual_seed(self._decoding.seed)
        return torch.multinomial(probabilities, 1, generator=self._generator)[:, 0]


def _nucleus(probabilities: Tensor, top_p: float) -> Tensor:
    """Zero all but the smallest set of tokens that together have ``top_p``."""
    ordered, places = probabilities.sort(dim=-1, descending=True)
    before = ordered.cumsum(-1) - ordered
    ordered = ordered.masked_fill(before >= top_p, 0.0)
    return torch.zeros_like(probabilities).scatter(-1, places, ordered)


__all__ = ["Decoding", "GeneratedTokens", "ReadingSession", "generate"]
