"""Divides a budget of states over documents, and inside them over what matters; spends it exactly.

Knows document lengths and importance values, not where either comes from. Source of the idea: selective compression,
FlexRAG (arXiv 2409.15699) section 3.3; unlike the released code, no budget is left over or overdrawn, every token is
covered, and nothing falls back to uniform in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor

import numpy as np

from lightrag.compression import Allocation
from lightrag.errors import UsageError
from lightrag.latents.positions import Positions, kept_positions, nested_order


@dataclass(frozen=True, slots=True)
class Shape:
    """What allocation needs to know of a document."""

    chunk_id: str
    tokens: int
    density: float = 1.0
    """How densely to keep it relative to the others; positive."""
    reason: str = "uniform"


@dataclass(frozen=True, slots=True)
class FocusSpan:
    """A stretch of a document that matters more than the rest."""

    document: int
    """Index of its document."""
    start: int
    end: int
    importance: float


@dataclass(frozen=True, slots=True)
class DocumentPlan:
    """What is kept of one document."""

    chunk_id: str
    tokens: int
    positions: Positions
    """Ascending."""
    prefix: bool
    """Whether ``positions`` are the document's first so many in nested order, hence one range of a stored object."""
    allocation: tuple[Allocation, ...]


@dataclass(frozen=True, slots=True)
class BudgetPlan:
    """What is kept of all documents."""

    documents: tuple[DocumentPlan, ...]
    notes: tuple[str, ...] = ()

    @property
    def kept(self) -> int:
        """States in all."""
        return sum(len(document.positions) for document in self.documents)


@dataclass(slots=True)
class _Focus:
    """Chosen spans of one document and the positions that stand for them."""

    spans: list[tuple[int, int, str]] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)


def densities_from_scores(scores: Sequence[float], contrast: float = 4.0) -> list[float]:
    """Turn retrieval scores of any scale into densities: the best document is ``contrast`` times as dense as the worst.

    Raises:
        UsageError: the contrast is below 1.
    """
    if contrast < 1:
        raise UsageError(f"contrast must be at least 1, not {contrast}")
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    if high <= low:
        return [1.0] * len(scores)
    return [contrast ** ((score - low) / (high - low)) for score in scores]


def split_budget(
    budget: int, sizes: Sequence[int], densities: Sequence[float], least: Sequence[int] | None = None
) -> list[int]:
    """Divide a budget in proportion to size times density, each part between its least and its size.

    Args:
        budget: at least the sum of ``least``; what exceeds the sum of sizes is not spent.
        sizes: most that each part can take.
        densities: positive weights per unit of size.
        least: fewest that each part must get; zeros by default.

    Returns:
        Whole numbers that add up to ``min(budget, sum(sizes))`` exactly.

    Raises:
        UsageError: the budget does not cover the least parts, or a density is not positive.
    """
    floors = np.array(least if least is not None else [0] * len(sizes), dtype=np.int64)
    limits = np.array(sizes, dtype=np.int64)
    weights = np.array(densities, dtype=np.float64) * limits
    if budget < floors.sum():
        raise UsageError(f"a budget of {budget} does not cover the least parts, {int(floors.sum())} together")
    if any(not density > 0 for density in densities):
        raise UsageError("densities must be positive")
    budget = min(budget, int(limits.sum()))
    shares = _level(budget, weights, floors, limits)
    parts = np.clip(np.floor(shares + 1e-9).astype(np.int64), floors, limits)
    # Largest remainders first; a few rounds, because clipping can move more than one unit.
    order = np.argsort(-(shares - parts), kind="stable")
    while (rest := budget - int(parts.sum())) != 0:
        step = 1 if rest > 0 else -1
        movable = [i for i in order if (parts[i] < limits[i] if step > 0 else parts[i] > floors[i])]
        for index in movable[: abs(rest)]:
            parts[index] += step
    return [int(part) for part in parts]


def allocate(
    budget: int,
    shapes: Sequence[Shape],
    focus: Sequence[FocusSpan] = (),
    *,
    focus_share: float = 0.5,
    focus_ratio: float = 1.0,
) -> BudgetPlan:
    """Decide which positions of every document are kept.

    Args:
        budget: states in all; spent exactly unless the documents are shorter than that.
        shapes: the documents, best first where a budget below their number must leave some out.
        focus: what matters more, in any order, not overlapping; the most important are taken first.
        focus_share: most of the budget that goes to them.
        focus_ratio: compression ratio inside them.

    Raises:
        UsageError: the budget is not positive, or a share or ratio is out of range.
    """
    if budget < 1:
        raise UsageError(f"budget must be at least 1, not {budget}")
    if not 0 <= focus_share <= 1 or not focus_ratio >= 1:
        raise UsageError("focus_share must lie between 0 and 1, and focus_ratio must be at least 1")
    present = [index for index, shape in enumerate(shapes) if shape.tokens]
    budget = min(budget, sum(shape.tokens for shape in shapes))
    covered = set(present[:budget])
    notes = []
    if len(covered) < len(present):
        notes.append(f"{len(present) - len(covered)} of {len(present)} passages got no state of a budget of {budget}")
    chosen = _choose(shapes, focus, covered, min(floor(budget * focus_share), budget - len(covered)), focus_ratio)
    plans = _spend(budget, shapes, chosen, covered)
    return BudgetPlan(tuple(plans), tuple(notes))


def _level(
    budget: int, weights: np.typing.NDArray[np.float64], floors: Positions, limits: Positions
) -> np.typing.NDArray[np.float64]:
    """Real shares ``clip(level * weight, floor, limit)`` that add up to the budget; the level is found by bisection."""
    low, high = 0.0, 1.0
    while np.clip(high * weights, floors, limits).sum() < budget and high < 1e18:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if np.clip(middle * weights, floors, limits).sum() < budget:
            low = middle
        else:
            high = middle
    return np.clip(high * weights, floors, limits).astype(np.float64)


def _choose(
    shapes: Sequence[Shape], focus: Sequence[FocusSpan], covered: set[int], room: int, ratio: float
) -> list[_Focus]:
    chosen = [_Focus() for _ in shapes]
    for span in sorted(focus, key=lambda item: (-item.importance, item.document, item.start)):
        length = span.end - span.start
        cost = ceil(length / ratio)
        if span.document not in covered or length < 1 or cost > room:
            continue
        if not 0 <= span.start < span.end <= shapes[span.document].tokens:
            raise UsageError(
                f"span {span.start} to {span.end} lies outside a document of {shapes[span.document].tokens}"
            )
        own = chosen[span.document]
        own.spans.append((span.start, span.end, f"important ({span.importance:.3g})"))
        own.positions.extend(int(position) + span.start for position in kept_positions(length, cost))
        room -= cost
    return chosen


def _spend(budget: int, shapes: Sequence[Shape], chosen: Sequence[_Focus], covered: set[int]) -> list[DocumentPlan]:
    free = [_free_order(shape.tokens, own) for shape, own in zip(shapes, chosen, strict=True)]
    least = [
        int(index in covered and (shape.tokens - 1) not in own.positions)
        for index, (shape, own) in enumerate(zip(shapes, chosen, strict=True))
    ]
    sizes = [len(order) if index in covered else 0 for index, order in enumerate(free)]
    rest = budget - sum(len(own.positions) for own in chosen)
    parts = split_budget(rest, sizes, [shape.density for shape in shapes], least)
    positions = [
        np.sort(np.concatenate([np.array(own.positions, dtype=np.int64), order[:part]]))
        for own, order, part in zip(chosen, free, parts, strict=True)
    ]
    spare = rest - sum(parts)  # The rest is kept whole already: densify what was focused at a ratio above 1.
    plans = []
    for index, (shape, own, row) in enumerate(zip(shapes, chosen, positions, strict=True)):
        if spare and index in covered:
            more = np.setdiff1d(nested_order(shape.tokens), row)[:spare]
            row = np.sort(np.concatenate([row, more]))
            spare -= len(more)
        plans.append(_describe(shape, own, row))
    return plans


def _free_order(tokens: int, own: _Focus) -> Positions:
    """Positions outside the chosen spans, in nested order."""
    order = nested_order(tokens)
    if not own.spans:
        return order
    inside = np.zeros(tokens, dtype=bool)
    for start, end, _ in own.spans:
        inside[start:end] = True
    return order[~inside[order]]


def _describe(shape: Shape, own: _Focus, positions: Positions) -> DocumentPlan:
    spans = sorted(own.spans)
    pieces: list[Allocation] = []
    at = 0
    for start, end, reason in [*spans, (shape.tokens, shape.tokens, "")]:
        if at < start:
            pieces.append(_piece(shape, positions, at, start, shape.reason))
        if start < end:
            pieces.append(_piece(shape, positions, start, end, reason))
        at = end
    if not len(positions):
        pieces = [Allocation(shape.chunk_id, 0, shape.tokens, 0, "left out: the budget has fewer states than passages")]
    prefix = bool(np.array_equal(positions, kept_positions(shape.tokens, len(positions))))
    return DocumentPlan(shape.chunk_id, shape.tokens, positions, prefix, tuple(pieces))


def _piece(shape: Shape, positions: Positions, start: int, end: int, reason: str) -> Allocation:
    kept = int(np.searchsorted(positions, end) - np.searchsorted(positions, start))
    return Allocation(shape.chunk_id, start, end, kept, "whole" if kept == end - start else reason)


__all__ = [
    "BudgetPlan",
    "DocumentPlan",
    "FocusSpan",
    "Shape",
    "allocate",
    "densities_from_scores",
    "split_budget",
]
