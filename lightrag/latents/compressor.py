"""Fits evidence into a budget as latents, raw text, or both; implements :class:`lightrag.compression.Compressor`.

It composes: tokenise, value parts, allocate, fetch or encode states, lay out. Each of these is a module of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lightrag.compression import SEPARATOR, Allocation, CompressedContext, label
from lightrag.errors import ArtifactError, UsageError
from lightrag.latents.allocation import DocumentPlan, FocusSpan, Shape, allocate, densities_from_scores
from lightrag.latents.importance import Importance, Passage
from lightrag.latents.layout import Tier, plan_layout
from lightrag.latents.passages import PassageEncoder
from lightrag.latents.positions import count_at_ratio, kept_positions
from lightrag.latents.shared import SharedEncoder
from lightrag.latents.stored import StoredLatents
from lightrag.types import ContentPart, Evidence, LatentPart

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class LatentOptions:
    """How the budget is spent."""

    _: KW_ONLY
    layout: tuple[Tier, ...] = ()
    """Fixed tiers, see :mod:`lightrag.latents.layout`; empty: the whole budget is allocated."""
    contrast: float = 4.0
    """How many times denser the best retrieved passage is kept than the worst; 1 treats all alike."""
    focus_share: float = 0.5
    """Most of the budget that goes to what ``importance`` values most."""
    focus_ratio: float = 1.0
    """Compression ratio there."""
    joint: bool = False
    """Encode passages as one text, as the published systems do; their states are then good for this call only."""
    remember_bytes: int = 256 * 1024**2
    """States of passages without stored latents that are kept for the next question; 0 for none."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """One passage on its way into the prompt."""

    evidence: Evidence
    passage: Passage
    plan: DocumentPlan
    raw: bool = False
    numbered: bool = True
    stored: bool = False


class LatentCompressor:
    """Compresses evidence for a generator that takes latents. Safe for concurrent calls, which share their passes.

    Args:
        encoder: must belong to the generator: same hidden size and tokenizer.
        importance: what inside passages matters; ``None`` keeps each passage evenly.
        stored: latents of the corpus; passages that are not there are encoded now.
        options: how the budget is spent.

    Raises:
        ArtifactError: the stored latents are another encoder's.
        UsageError: passages are to be encoded as one text, which stored latents are not.
    """

    def __init__(
        self,
        encoder: PassageEncoder,
        *,
        importance: Importance | None = None,
        stored: StoredLatents | None = None,
        options: LatentOptions | None = None,
    ) -> None:
        self._encoder = encoder
        self._importance = importance
        self._stored = stored
        self._options = options or LatentOptions()
        if stored is not None and self._options.joint:
            raise UsageError("stored latents were made passage by passage; leave out stored= or joint=True")
        if stored is not None and stored.fingerprint != encoder.fingerprint:
            raise ArtifactError(f"stored latents were made by encoder {stored.fingerprint}, not {encoder.fingerprint}")
        self.shared = SharedEncoder(encoder, self._options.remember_bytes)
        """Encodes for all requests, and for all compressors made of this one."""

    @property
    def fingerprint(self) -> str:
        """Of the encoder; see :attr:`PassageEncoder.fingerprint`."""
        return self._encoder.fingerprint

    def with_stored(self, stored: StoredLatents | None) -> LatentCompressor:
        """The same compressor over another corpus version's latents; the encoder is shared."""
        return self._sharing(stored, self._options)

    def with_options(self, options: LatentOptions) -> LatentCompressor:
        """The same compressor, spending budgets otherwise; the encoder and what it remembers are shared."""
        return self._sharing(self._stored, options)

    def budget_at(self, ratio: float, evidence: Sequence[Evidence]) -> int:
        """Budget at which the passages' tokens are compressed at a ratio; their numbers come on top.

        Raises:
            UsageError: the ratio is below 1.
        """
        lengths = [len(item.tokenized.ids) for item in self._passages(evidence)]
        return sum(self._frames(len(lengths))) + max(1, count_at_ratio(sum(lengths), ratio))

    def raw_tokens(self, evidence: Sequence[Evidence]) -> int:
        """Tokens of the passages as text with their numbers; a budget from here on compresses nothing."""
        return self._raw(evidence, self._passages(evidence)).tokens

    def _sharing(self, stored: StoredLatents | None, options: LatentOptions) -> LatentCompressor:
        other = LatentCompressor(self._encoder, importance=self._importance, stored=stored, options=options)
        other.shared = self.shared
        return other

    async def compress(self, evidence: Sequence[Evidence], budget: int, query: str) -> CompressedContext:
        """See :class:`lightrag.compression.Compressor`."""
        if budget < 1:
            raise UsageError(f"budget must be at least 1 token, not {budget}")
        if not evidence:
            raise UsageError("there is no evidence to compress")
        passages = await asyncio.to_thread(self._passages, evidence)
        whole = self._raw(evidence, passages)
        if whole.tokens <= budget:
            return whole
        if self._options.layout:
            planned, notes = self._plan_layout(evidence, passages, budget)
        if not self._options.layout or not planned:
            planned, notes = await self._plan_budget(evidence, passages, budget, query)
        planned = [self._with_origin(item) for item in planned]
        states = await asyncio.to_thread(self._states, planned)
        return self._context(planned, states, evidence, passages, (*notes, *self._origins(planned)))

    # --- planning -----------------------------------------------------------------------------------------------------

    def _passages(self, evidence: Sequence[Evidence]) -> list[Passage]:
        tokenized = self._encoder.tokenize([item.chunk.text for item in evidence])
        return [
            Passage(item.chunk.chunk_id, item.chunk.text, row) for item, row in zip(evidence, tokenized, strict=True)
        ]

    async def _plan_budget(
        self, evidence: Sequence[Evidence], passages: Sequence[Passage], budget: int, query: str
    ) -> tuple[list[_Planned], tuple[str, ...]]:
        # Numbers may take half of the budget; with less room, worse passages go, and the last one loses its number.
        frames = [0, *self._frames(len(evidence))]
        count = max(n for n in range(len(frames)) if sum(frames[: n + 1]) <= budget // 2)
        chosen = sorted(_ranking(evidence)[: max(1, count)])
        states = budget - sum(frames[: count + 1])
        scores = densities_from_scores([evidence[index].score for index in chosen], self._options.contrast)
        reason = "retrieval score" if self._options.contrast > 1 and len(set(scores)) > 1 else "uniform"
        shapes = [
            Shape(passages[index].chunk_id, len(passages[index].tokenized.ids), density, reason)
            for index, density in zip(chosen, scores, strict=True)
        ]
        focus = await self._focus(query, [passages[index] for index in chosen])
        plan = allocate(
            states, shapes, focus, focus_share=self._options.focus_share, focus_ratio=self._options.focus_ratio
        )
        planned = [
            _Planned(evidence[index], passages[index], document, numbered=count > 0)
            for index, document in zip(chosen, plan.documents, strict=True)
            if len(document.positions)
        ]
        dropped = len(evidence) - len(planned)
        notes = (f"{dropped} of {len(evidence)} passages are left out of a budget of {budget} tokens",)
        return planned, notes if dropped else ()

    async def _focus(self, query: str, passages: Sequence[Passage]) -> list[FocusSpan]:
        if self._importance is None or self._options.focus_share == 0:
            return []
        return await self._importance.focus(query, passages)

    def _plan_layout(
        self, evidence: Sequence[Evidence], passages: Sequence[Passage], budget: int
    ) -> tuple[list[_Planned], tuple[str, ...]]:
        lengths = [len(passage.tokenized.ids) for passage in passages]
        frame = max(self._frames(len(evidence)))
        raw = [self._text_tokens(passage, len(evidence)) - frame for passage in passages]
        plan = plan_layout(self._options.layout, lengths, raw, frame, _ranking(evidence), budget)
        planned = []
        for item, passage, share, length in zip(evidence, passages, plan.shares, lengths, strict=True):
            positions = np.arange(length) if share.raw else kept_positions(length, share.states)
            piece = Allocation(passage.chunk_id, 0, length, len(positions), share.reason)
            if len(positions):
                document = DocumentPlan(passage.chunk_id, length, positions, True, (piece,))
                planned.append(_Planned(item, passage, document, share.raw))
        return planned, plan.notes

    def _frames(self, passages: int) -> list[int]:
        """Tokens of what stands before each of the passages."""
        return [self._encoder.tokenizer.count(_heading(number)) for number in range(1, passages + 1)]

    def _text_tokens(self, passage: Passage, number: int) -> int:
        """Tokens of a passage as text under the longest number; never fewer than its parts have."""
        together = self._encoder.tokenizer.count(_heading(number) + passage.text)
        return max(together, self._encoder.tokenizer.count(_heading(number)) + len(passage.tokenized.ids))

    # --- states -------------------------------------------------------------------------------------------------------

    def _with_origin(self, item: _Planned) -> _Planned:
        """Say of every span whether its latents are there already."""
        if item.raw:
            return item
        # A passage whose text is cut otherwise now has another number of tokens.
        known = self._stored is not None and self._stored.tokens(item.plan.chunk_id) == item.plan.tokens
        pieces = tuple(
            replace(piece, latents=("stored" if known else "encoded") if piece.kept else "")
            for piece in item.plan.allocation
        )
        return replace(item, plan=replace(item.plan, allocation=pieces), stored=known)

    def _origins(self, planned: Sequence[_Planned]) -> tuple[str, ...]:
        latents = [item for item in planned if not item.raw]
        if self._stored is None or not latents:
            return ()
        stored = sum(item.stored for item in latents)
        rest = f", {len(latents) - stored} had none and were encoded now" if stored < len(latents) else ""
        return (f"latents of {stored} of {len(latents)} passages were read from storage{rest}",)

    def _states(self, planned: Sequence[_Planned]) -> dict[int, Tensor]:
        """States by number of the planned passage."""
        stored = [number for number, item in enumerate(planned) if item.stored]
        fresh = [number for number, item in enumerate(planned) if not (item.raw or item.stored)]
        states: dict[int, Tensor] = {}
        if stored and self._stored is not None:
            rows = self._stored.states([(planned[n].plan.chunk_id, planned[n].plan.positions) for n in stored])
            states.update(zip(stored, rows, strict=True))
        passages = [planned[n].passage.tokenized.ids for n in fresh]
        positions = [planned[n].plan.positions.tolist() for n in fresh]
        made = self.shared.states(passages, positions, joint=self._options.joint)
        states.update(zip(fresh, made, strict=True))
        return states

    # --- layout -------------------------------------------------------------------------------------------------------

    def _context(
        self,
        planned: Sequence[_Planned],
        states: dict[int, Tensor],
        evidence: Sequence[Evidence],
        passages: Sequence[Passage],
        notes: tuple[str, ...],
    ) -> CompressedContext:
        parts: list[ContentPart] = []
        tokens = 0
        for number, item in enumerate(planned):
            text = (_heading(number + 1) if item.numbered else "") + (item.passage.text if item.raw else "")
            parts.extend([text] if text else [])
            tokens += self._encoder.tokenizer.count(text)
            if not item.raw:
                parts.append(LatentPart(states[number], item.plan.chunk_id))
                tokens += len(item.plan.positions)
        represented = {item.plan.chunk_id for item in planned}
        missing = [
            Allocation(passage.chunk_id, 0, len(passage.tokenized.ids), 0, "left out: the budget is used up")
            for passage in passages
            if passage.chunk_id not in represented
        ]
        raw = sum(item.raw for item in planned)
        return CompressedContext(
            parts=tuple(parts),
            kind="raw" if raw == len(planned) else "mixed" if raw else "latents",
            tokens=tokens,
            source_tokens=sum(len(passage.tokenized.ids) for passage in passages),
            allocation=(*(piece for item in planned for piece in item.plan.allocation), *missing),
            evidence=tuple(item.evidence for item in planned),
            method=self._method(),
            notes=notes,
        )

    def _method(self) -> str:
        if self._options.layout:
            return "latents: layout"
        return f"latents: {self._importance.name}" if self._importance is not None else "latents: even"

    def _raw(self, evidence: Sequence[Evidence], passages: Sequence[Passage]) -> CompressedContext:
        texts = [_heading(number) + passage.text for number, passage in enumerate(passages, 1)]
        lengths = [len(passage.tokenized.ids) for passage in passages]
        return CompressedContext(
            parts=tuple(texts),
            kind="raw",
            tokens=self._encoder.tokenizer.count("".join(texts)),
            source_tokens=sum(lengths),
            allocation=tuple(
                Allocation(passage.chunk_id, 0, n, n, "fits as it is")
                for passage, n in zip(passages, lengths, strict=True)
            ),
            evidence=tuple(evidence),
            method="raw",
        )


def _heading(number: int) -> str:
    return (SEPARATOR if number > 1 else "") + label(number)


def _ranking(evidence: Sequence[Evidence]) -> list[int]:
    return sorted(range(len(evidence)), key=lambda index: (-evidence[index].score, index))


__all__ = ["LatentCompressor", "LatentOptions"]
