"""FlexRAG's own allocation rules, defects included, so that its published numbers can be reproduced.

Source: behaviour of the code published with arXiv 2409.15699. For anything else use :mod:`lightrag.latents.allocation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from lightrag.errors import LimitError, UsageError
from lightrag.latents.inputs import EncoderInput, Framing
from lightrag.latents.published.plan import (
    Method,
    PublishedPlan,
    Sampler,
    choose_positions,
    count_positions,
    merge,
    stride_positions,
    thin,
)
from lightrag.latents.published.prompt import PromptCut

_SPECIAL = 2  # BOS and EOS of every encoder input.
_SENTENCE_STRIDE_LIMIT = 100
_TOKEN_STRIDE_LIMIT = 40


@dataclass(frozen=True, slots=True)
class SentenceImportance:
    """Sentences of the encoder inputs and their order of importance."""

    boundaries: tuple[tuple[int, int], ...]
    """(input, first position) per sentence; each input ends with an extra entry that holds its length."""
    priority: tuple[int, ...]
    """Indices into ``boundaries``, most important first."""
    groups: tuple[tuple[int, ...], ...]
    """Sentences of each input, as indices into ``boundaries``."""

    def span(self, sentence: int) -> tuple[int, int]:
        """Positions ``[start, end)`` of a sentence in its input."""
        return self.boundaries[sentence][1], self.boundaries[sentence + 1][1]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A prompt after truncation and the split into raw and encoded context."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    context: tuple[int, ...]
    """Truncated context, raw ends included."""
    inputs: tuple[EncoderInput, ...]
    encoded: int
    """Context tokens that are encoded."""
    over: int
    """Tokens by which the raw prompt exceeds the LM's limit; negative where it fits."""
    room: int
    """LM tokens left for states."""

    @property
    def total(self) -> int:
        return sum(len(item.ids) for item in self.inputs)

    def plan(self, keep: Sequence[Sequence[int]], *notes: str) -> PublishedPlan:
        return PublishedPlan(self.before, self.inputs, tuple(map(tuple, keep)), self.after, notes)

    def uniform(self, ratio: int, *notes: str) -> PublishedPlan:
        return self.plan([stride_positions(len(item.ids), ratio) for item in self.inputs], *notes)

    def budget(self, ratio: int) -> int:
        return ceil(self.encoded / ratio) if self.over < 0 else self.room


def framing(bos: int | None, eos: int | None, encoder_max_length: int = 4096) -> Framing:
    """Surroundings as FlexRAG makes them: an id of 0 counts as missing, and without BOS there is no EOS either."""
    return Framing(encoder_max_length, bos or None, (eos or None) if bos else None)


def plan_uniform(
    cut: PromptCut,
    ratio: int,
    frame: Framing,
    *,
    lm_max_length: int = 4096,
    method: Method = "stride",
    sampler: Sampler | None = None,
) -> PublishedPlan:
    """Compress the whole context at one ratio; where that does not fill the LM, keep its two ends raw.

    Raises:
        UsageError: the ratio is below 1, or head and tail alone fill the LM.
    """
    prepared = _prepare(cut, ratio, frame, lm_max_length)
    keep = [choose_positions(len(item.ids), ratio, 0, method, sampler) for item in prepared.inputs]
    return prepared.plan(keep)


def plan_sentences(
    cut: PromptCut,
    ratio: int,
    frame: Framing,
    importance: SentenceImportance,
    *,
    proportion: float,
    low: int = 1,
    lm_max_length: int = 4096,
) -> PublishedPlan:
    """Keep the most important sentences at ratio ``low`` and raise the stride of the rest until all fits.

    Raises:
        UsageError: as :func:`plan_uniform`.
        LimitError: the rule itself ends above its budget (the published code stops there too).
    """
    prepared = _prepare(cut, ratio, frame, lm_max_length)
    selected, used, low_count = _select_sentences(prepared, importance, proportion, low)
    budget = prepared.budget(ratio)
    rest = budget - low_count
    if prepared.over >= 0:
        rest -= 2 * len(selected) + len(prepared.inputs)
    high = ceil((prepared.total - used) / rest) if rest > 0 else 0
    if not selected or high == 0:
        return _checked(
            prepared.uniform(ratio, "nothing could be selected: uniform"), budget + len(prepared.inputs), "sentences"
        )
    while high <= _SENTENCE_STRIDE_LIMIT:
        keep = _sentence_positions(importance, dict.fromkeys(selected, low), high)
        if sum(map(len, keep)) <= budget:
            return prepared.plan(keep)
        high += 1
    plan = prepared.uniform(ratio, "no stride fits the budget: uniform")
    return _checked(plan, budget + len(prepared.inputs), "sentences")


def plan_tokens(
    cut: PromptCut,
    ratio: int,
    frame: Framing,
    important: Sequence[Sequence[int]],
    *,
    low: int = 1,
    lm_max_length: int = 4096,
) -> PublishedPlan:
    """Keep important positions, thinned by ``low``, and a uniform stride over everything.

    Args:
        cut: the prompt.
        ratio: of the whole encoded context.
        frame: surroundings of the encoder inputs.
        important: ascending positions per encoder input.
        low: keep every so many of them.
        lm_max_length: LM tokens for prompt and states.

    Raises:
        UsageError: as :func:`plan_uniform`.
        LimitError: the rule itself ends above its budget (the published code stops there too).
    """
    prepared = _prepare(cut, ratio, frame, lm_max_length)
    chosen = [thin(row, low) for row in important]
    low_count = sum(map(len, chosen))
    budget = prepared.budget(ratio)
    rest = budget - low_count - (len(prepared.inputs) if prepared.over >= 0 else 0)
    high = ceil((prepared.total - low_count) / rest) if rest > 0 else 0
    limit = budget + 2 + len(prepared.inputs)
    if not 0 < high < _TOKEN_STRIDE_LIMIT or not low_count:
        return _checked(prepared.uniform(ratio, "nothing could be selected: uniform"), limit, "tokens")
    while high <= _TOKEN_STRIDE_LIMIT:
        keep = _token_positions(prepared.inputs, chosen, high)
        if sum(map(len, keep)) <= budget:
            return prepared.plan(keep)
        high += 1
    return _checked(prepared.uniform(ratio, "no stride fits the budget: uniform"), limit, "tokens")


def _prepare(cut: PromptCut, ratio: int, frame: Framing, lm_max_length: int) -> _Prepared:
    if ratio < 1:
        raise UsageError(f"ratio must be at least 1, not {ratio}")
    if cut.fixed >= lm_max_length:
        raise UsageError(f"the prompt without its context has {cut.fixed} tokens, the limit is {lm_max_length}")
    context = truncate(cut.context, (lm_max_length - cut.fixed) * ratio, frame.max_length, _SPECIAL)
    over = len(context) + cut.fixed - lm_max_length + 1
    half = _raw_half(len(context), over, ratio, frame.max_length) if ratio >= 2 and over > 0 else 0
    middle = context[half : len(context) - half]
    return _Prepared(
        before=cut.head + context[:half],
        after=context[len(context) - half :] + cut.tail,
        context=context,
        inputs=tuple(frame.cut(middle)),
        encoded=len(middle),
        over=over,
        room=lm_max_length - cut.fixed - 2 * half,
    )


def truncate(context: tuple[int, ...], room: int, encoder_max_length: int, special: int) -> tuple[int, ...]:
    """Cut a context from its middle to what the LM can take at this ratio, less special tokens per input."""
    room -= ceil(room / encoder_max_length) * special
    if len(context) <= room:
        return context
    half = room // 2
    return context[:half] + context[len(context) - half :]


def _raw_half(length: int, over: int, ratio: int, encoder_max_length: int) -> int:
    """Tokens that stay raw at each end: encode just enough (``E``) that raw, states and prompt fill the LM."""
    numerator, denominator = encoder_max_length * ratio * over, encoder_max_length * (ratio - 1) - _SPECIAL
    encode = numerator // denominator if denominator > 0 else length
    return max(0, (length - encode) // 2)


def _select_sentences(
    prepared: _Prepared, importance: SentenceImportance, proportion: float, low: int
) -> tuple[list[int], int, int]:
    """Greedy choice by priority: (sentences, tokens used, states they take)."""
    room = int(prepared.total * proportion)
    selected: list[int] = []
    used = low_count = 0
    for sentence in importance.priority:
        start, end = importance.span(sentence)
        # The published code measures in the context instead of the encoder input, so the last sentences come out short.
        length = len(prepared.context[start:end])
        if used + length > room:
            continue
        selected.append(sentence)
        used += length
        low_count += count_positions(length, low)
    return selected, used, low_count


def _sentence_positions(importance: SentenceImportance, low: Mapping[int, int], high: int) -> list[list[int]]:
    keep = []
    for group in importance.groups:
        row: list[int] = []
        for sentence in group:
            stride = low.get(sentence, high)
            if sentence not in low and high >= _SENTENCE_STRIDE_LIMIT:
                continue
            start, end = importance.span(sentence)
            row.extend(start + position for position in stride_positions(end - start, stride))
        keep.append(row)
    return keep


def _token_positions(inputs: Sequence[EncoderInput], chosen: Sequence[Sequence[int]], high: int) -> list[Sequence[int]]:
    keep: list[Sequence[int]] = []
    for index, item in enumerate(inputs):
        uniform = stride_positions(len(item.ids), high)
        keep.append(merge(uniform, chosen[index]) if index < len(chosen) and chosen[index] else uniform)
    return keep


def _checked(plan: PublishedPlan, limit: int, rule: str) -> PublishedPlan:
    if plan.kept > limit:
        raise LimitError(f"the published rule for {rule} keeps {plan.kept} states where {limit} are allowed")
    return plan


def group_sentences(boundaries: Sequence[tuple[int, int]]) -> tuple[tuple[int, ...], ...]:
    """Sentences per input from boundaries whose inputs each end with an extra entry."""
    groups: dict[int, list[int]] = {}
    for index, (this, following) in enumerate(pairwise(boundaries)):
        if this[0] == following[0]:
            groups.setdefault(this[0], []).append(index)
    return tuple(tuple(groups[key]) for key in sorted(groups))


__all__ = [
    "SentenceImportance",
    "framing",
    "group_sentences",
    "plan_sentences",
    "plan_tokens",
    "plan_uniform",
    "truncate",
]
