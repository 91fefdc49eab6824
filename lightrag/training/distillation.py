"""Distillation from the raw-context model: the frozen language model reading latents imitates itself reading text.

Unlike the cross-entropy of answers, it asks of the latents neither more nor less than what the text gave the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightrag.errors import UsageError
from lightrag.latents.decoder import run_packed
from lightrag.training.finetuning import Example, answer_logits, supervised_places


def distillation_loss(
    encoder: Any, language_model: Any, examples: Sequence[Example], raw: Sequence[Sequence[int]]
) -> Tensor:
    """Mean divergence KL(raw context || latents) over the answers' tokens, in nats.

    Args:
        encoder: decoder whose states are latents; gradients flow into it.
        language_model: frozen causal LM, teacher and reader at once.
        examples: one batch.
        raw: per example the token ids that its latents stand for.

    Raises:
        UsageError: the numbers of examples and contexts differ, or nothing is supervised.
    """
    if len(raw) != len(examples):
        raise UsageError(f"{len(raw)} raw contexts for {len(examples)} examples")
    with torch.no_grad():
        target = _teacher_logits(language_model, examples, raw).log_softmax(-1)
    student = answer_logits(encoder, language_model, examples)[0].log_softmax(-1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True)


def _teacher_logits(language_model: Any, examples: Sequence[Example], raw: Sequence[Sequence[int]]) -> Tensor:
    device = language_model.get_input_embeddings().weight.device
    ids: list[int] = []
    rows: list[int] = []
    lengths: list[int] = []
    for example, context in zip(examples, raw, strict=True):
        before, after = example.ids[: example.first_state], example.ids[example.first_state + example.states :]
        shift = len(ids) + len(context) - example.states
        rows.extend(shift + place - 1 for place in supervised_places(example))
        ids += [*before, *context, *after]
        lengths.append(len(before) + len(context) + len(after))
    packed = torch.tensor(ids, device=device)
    hidden = run_packed(language_model.model, packed, lengths, rows=torch.tensor(rows, device=device))
    return language_model.lm_head(hidden).float()


__all__ = ["distillation_loss"]
