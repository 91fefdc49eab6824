"""TacZip's own allocation rules, defects included, so that its published numbers can be reproduced.

Source: behaviour of the published TacZip (AceRAG) code. For anything else use :mod:`lightrag.latents.allocation`.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from lightrag.errors import UsageError
from lightrag.latents.inputs import EncoderInput, Framing
from lightrag.latents.published.flexrag import truncate
from lightrag.latents.published.plan import (
    Method,
    PublishedPlan,
    Sampler,
    choose_positions,
    merge,
    stride_positions,
    thin,
)
from lightrag.latents.published.prompt import PromptCut

_STRIDE_LIMIT = 400
TEMPERATURE = 0.02
"""Divides the cosine in the estimator's score."""
QUERY_TOKENS = 32
"""Longest query; the published code cuts longer ones on the right, the end token included."""


def framing(bos: int | None, instruction: Sequence[int] = (), encoder_max_length: int = 4096) -> Framing:
    """Surroundings as TacZip makes them: BOS where there is one, the task instruction, no EOS."""
    return Framing(encoder_max_length, bos, None, tuple(instruction))


def plan_uniform(
    cut: PromptCut,
    ratio: int,
    frame: Framing,
    *,
    lm_max_length: int = 4096,
    method: Method = "stride",
    sampler: Sampler | None = None,
) -> PublishedPlan:
    """Compress the whole context at one ratio.

    Raises:
        UsageError: the ratio is below 1, or head and tail alone fill the LM.
    """
    inputs = frame.cut(truncated_context(cut, ratio, frame, lm_max_length))
    first = len(frame.instruction)
    keep = [choose_positions(len(item.ids), ratio, first, method, sampler) for item in inputs]
    return _plan(cut, inputs, keep)


def truncated_context(cut: PromptCut, ratio: int, frame: Framing, lm_max_length: int) -> tuple[int, ...]:
    """The context, cut from its middle to what the LM can take at this ratio (the instruction is not counted).

    Raises:
        UsageError: the ratio is below 1, or head and tail alone fill the LM.
    """
    if ratio < 1:
        raise UsageError(f"ratio must be at least 1, not {ratio}")
    if cut.fixed >= lm_max_length:
        raise UsageError(f"the prompt without its context has {cut.fixed} tokens, the limit is {lm_max_length}")
    return truncate(cut.context, (lm_max_length - cut.fixed) * ratio, frame.max_length, special=1)


def passage_ids(context: Sequence[int], frame: Framing) -> tuple[int, ...]:
    """The context as the estimator reads it: inputs without instruction, one behind the other, BOS included."""
    bare = Framing(frame.max_length, frame.bos, None)
    return tuple(token for item in bare.cut(context) for token in item.ids)


def plan_tokens(
    cut: PromptCut,
    ratio: int,
    frame: Framing,
    scores: Sequence[float],
    *,
    proportion: float = 0.1,
    low: int = 1,
    lm_max_length: int = 4096,
) -> PublishedPlan:
    """Keep the tokens that score best against the query, and a uniform stride over everything.

    Args:
        cut: the prompt.
        ratio: of the whole context.
        frame: surroundings of the encoder inputs.
        scores: one per token of :func:`passage_ids`.
        proportion: share of those tokens that is kept.
        low: keep every so many of the best, in the order of their scores.
        lm_max_length: LM tokens for prompt and states.

    Raises:
        UsageError: as :func:`plan_uniform`, or there is not one score per passage token.
    """
    context = truncated_context(cut, ratio, frame, lm_max_length)
    passage = len(passage_ids(context, frame))
    if len(scores) != passage:
        raise UsageError(f"{len(scores)} scores for {passage} passage tokens")
    inputs = frame.cut(context)
    best = sorted(range(passage), key=lambda index: -scores[index])[: int(proportion * passage)]
    rows = _shift(_by_input(best, passage, frame.max_length), len(frame.instruction), frame.max_length)
    chosen = [thin(row, low) for row in rows]
    low_count = sum(map(len, chosen))
    budget = ceil(len(context) / ratio)
    first = len(frame.instruction)
    total = sum(len(item.ids) - first - 1 for item in inputs)
    rest = budget - low_count
    high = ceil((total - low_count) / rest) if rest > 0 else 0
    if low_count and 0 < high < _STRIDE_LIMIT:
        while high <= _STRIDE_LIMIT:
            keep = _positions(inputs, chosen, high, first)
            if sum(map(len, keep)) <= budget:
                return _plan(cut, inputs, keep)
            high += 1
    uniform = [stride_positions(len(item.ids), ratio, first) for item in inputs]
    return _plan(cut, inputs, uniform, "no stride fits the budget: uniform")


def _plan(cut: PromptCut, inputs: Sequence[EncoderInput], keep: Sequence[Sequence[int]], *notes: str) -> PublishedPlan:
    return PublishedPlan(cut.head, tuple(inputs), tuple(map(tuple, keep)), cut.tail, notes)


def _by_input(best: Sequence[int], passage: int, max_length: int) -> list[list[int]]:
    if passage <= max_length:
        return [list(best)]
    rows: list[list[int]] = [[] for _ in range(passage // max_length + 1)]
    for index in best:
        rows[index // max_length].append(index % max_length)
    return rows


def _shift(rows: Sequence[Sequence[int]], instruction: int, max_length: int) -> list[list[int]]:
    """Move positions behind the instruction; as published, right for the first input only."""
    if not instruction:
        return [list(row) for row in rows]
    shifted: list[list[int]] = [[] for _ in range(len(rows) + 1)]
    for index, row in enumerate(rows):
        for position in row:
            moved = position + instruction
            if moved < max_length:
                shifted[index].append(moved)
            else:
                shifted[index + 1].append(moved + 1 - max_length)
    return shifted


def _positions(
    inputs: Sequence[EncoderInput], chosen: Sequence[Sequence[int]], high: int, first: int
) -> list[Sequence[int]]:
    keep: list[Sequence[int]] = []
    for index, item in enumerate(inputs):
        uniform = stride_positions(len(item.ids), high, first)
        keep.append(merge(uniform, chosen[index]) if index < len(chosen) else uniform)
    return keep


__all__ = [
    "QUERY_TOKENS",
    "TEMPERATURE",
    "framing",
    "passage_ids",
    "plan_tokens",
    "plan_uniform",
    "truncated_context",
]
