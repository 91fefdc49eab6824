"""Losses of the token estimator: first whole passages against questions, then tokens of one passage.

Source: behaviour of the published TacZip code; vectors are unit vectors, scores cosines over a temperature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightrag.errors import UsageError
from lightrag.latents.decoder import run_packed

TEMPERATURE = 0.02


def sequence_vectors(model: Any, sequences: Sequence[Sequence[int]]) -> Tensor:
    """Unit vectors of sequences, the state of each one's last token, shape (sequences, hidden)."""
    ids, lengths = _packed(model, sequences)
    ends = torch.tensor(lengths, device=ids.device).cumsum(0) - 1
    return F.normalize(run_packed(model, ids, lengths, rows=ends), dim=-1)


def token_vectors(model: Any, sequence: Sequence[int]) -> Tensor:
    """Unit vectors of a sequence's tokens, shape (tokens, hidden)."""
    ids, lengths = _packed(model, [sequence])
    return F.normalize(run_packed(model, ids, lengths), dim=-1)


def passage_scores(queries: Tensor, passages: Tensor, *, temperature: float = TEMPERATURE) -> Tensor:
    """Scores of every passage for every question, shape (queries, passages)."""
    return queries @ passages.T / temperature


def passage_loss(scores: Tensor) -> Tensor:
    """Contrastive loss where each question's own passages follow each other, its positive first.

    Args:
        scores: shape (queries, queries * group): all other passages are negatives too.

    Raises:
        UsageError: the passages do not divide over the questions.
    """
    queries, passages = scores.shape
    if passages % queries:
        raise UsageError(f"{passages} passages do not divide over {queries} questions")
    positives = torch.arange(queries, device=scores.device) * (passages // queries)
    return F.cross_entropy(scores, positives)


def token_loss(scores: Tensor, gold: Sequence[int]) -> Tensor:
    """Mean negative log-probability of the gold tokens under a softmax over all tokens of the passage.

    Args:
        scores: shape (tokens,).
        gold: positions of the tokens that answer.

    Raises:
        UsageError: there is no gold token.
    """
    if not gold:
        raise UsageError("a passage without gold tokens teaches nothing; leave it out")
    return -scores.log_softmax(0)[torch.tensor(list(gold), device=scores.device)].mean()


def _packed(model: Any, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, list[int]]:
    device = model.embed_tokens.weight.device
    ids = torch.tensor([token for sequence in sequences for token in sequence], device=device)
    return ids, [len(sequence) for sequence in sequences]


__all__ = ["TEMPERATURE", "passage_loss", "passage_scores", "sequence_vectors", "token_loss", "token_vectors"]
