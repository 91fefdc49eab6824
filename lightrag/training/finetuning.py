"""Fine-tuning of a compressive encoder on answers: supervised tokens stand behind a prompt with latents.

Source: FlexRAG (arXiv 2409.15699) section 3.2. The language model is frozen; examples of any length share one packed
pass without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightrag.errors import UsageError
from lightrag.latents.decoder import run_packed
from lightrag.latents.inputs import EncoderInput

IGNORED = -100
"""Label of what is not supervised."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its answer."""

    ids: tuple[int, ...]
    """Prompt, placeholders and answer as the language model reads them."""
    labels: tuple[int, ...]
    """The answer's ids where it stands, :data:`IGNORED` elsewhere."""
    first_state: int
    """Position of the first state in ``ids``; the states are consecutive."""
    inputs: tuple[EncoderInput, ...]
    keep: tuple[tuple[int, ...], ...]
    """Ascending kept positions per encoder input."""

    @property
    def states(self) -> int:
        """Number of states."""
        return sum(len(row) for row in self.keep)


def make_example(
    before: Sequence[int],
    inputs: Sequence[EncoderInput],
    keep: Sequence[Sequence[int]],
    after: Sequence[int],
    answer: Sequence[int],
    *,
    unsupervised_end: int = 0,
    placeholder: int = 100,
) -> Example:
    """Put an example together.

    Args:
        before: prompt ids in front of the states.
        inputs: what the encoder reads.
        keep: kept positions per input.
        after: prompt ids behind the states.
        answer: supervised ids.
        unsupervised_end: how many of the last answer ids are not supervised (a template's opening of the next turn).
        placeholder: id that stands where the states go; never embedded.
    """
    count = sum(len(row) for row in keep)
    ids = (*before, *[placeholder] * count, *after, *answer)
    supervised = len(answer) - unsupervised_end
    labels = [IGNORED] * (len(ids) - len(answer)) + list(answer[:supervised]) + [IGNORED] * unsupervised_end
    return Example(ids, tuple(labels), len(before), tuple(inputs), tuple(map(tuple, keep)))


def finetuning_loss(encoder: Any, language_model: Any, examples: Sequence[Example]) -> Tensor:
    """Mean cross-entropy over the supervised tokens of all examples; differentiable with respect to the encoder.

    Args:
        encoder: decoder whose states are latents.
        language_model: causal LM with ``model`` and ``lm_head``.
        examples: one batch.

    Raises:
        UsageError: nothing is supervised, or labels and ids differ in length.
    """
    logits, targets = answer_logits(encoder, language_model, examples)
    return F.cross_entropy(logits, targets)


def answer_logits(encoder: Any, language_model: Any, examples: Sequence[Example]) -> tuple[Tensor, Tensor]:
    """Logits where supervised tokens are predicted, shape (supervised, vocabulary), and those tokens.

    Raises:
        UsageError: as :func:`finetuning_loss`.
    """
    device = language_model.get_input_embeddings().weight.device
    states = _states(encoder, examples, device)
    embeds: list[Tensor] = []
    rows: list[int] = []
    targets: list[int] = []
    at = 0
    for example, own in zip(examples, states, strict=True):
        if len(example.labels) != len(example.ids):
            raise UsageError(f"{len(example.labels)} labels for {len(example.ids)} ids")
        ids = torch.tensor(example.ids, device=device)
        end = example.first_state + len(own)
        embed = language_model.get_input_embeddings()
        embeds.append(torch.cat([embed(ids[: example.first_state]), own, embed(ids[end:])]))
        supervised = supervised_places(example)
        rows.extend(at + place - 1 for place in supervised)
        targets.extend(example.labels[place] for place in supervised)
        at += len(example.ids)
    if not targets:
        raise UsageError("no token of the examples is supervised")
    lengths = [len(example.ids) for example in examples]
    hidden = run_packed(language_model.model, torch.cat(embeds), lengths, rows=torch.tensor(rows, device=device))
    return language_model.lm_head(hidden).float(), torch.tensor(targets, device=device)


def supervised_places(example: Example) -> list[int]:
    """Positions of the supervised tokens; the first position of all is predicted by nothing."""
    return [place for place, label in enumerate(example.labels) if label != IGNORED and place]


def _states(encoder: Any, examples: Sequence[Example], device: torch.device) -> list[Tensor]:
    inputs = [(item, row) for example in examples for item, row in zip(example.inputs, example.keep, strict=True)]
    ids = torch.tensor([token for item, _ in inputs for token in item.ids], device=device)
    rows: list[int] = []
    at = 0
    for item, row in inputs:
        rows.extend(at + position for position in row)
        at += len(item.ids)
    packed = run_packed(encoder, ids, [len(item.ids) for item, _ in inputs], rows=torch.tensor(rows, device=device))
    return list(torch.split(packed, [example.states for example in examples]))


__all__ = ["IGNORED", "Example", "answer_logits", "finetuning_loss", "make_example", "supervised_places"]
