"""How passages of different worth share a prompt: raw, or as latents at a ratio, written in one line.

``raw:2, 4x:3, 16x`` means: the two best passages as text, the next three at 4x, all others at 16x. Without a last entry
for all others, the others are left out. Knows no text and no model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lightrag.errors import UsageError
from lightrag.latents.allocation import split_budget
from lightrag.latents.positions import count_at_ratio

_TIER = re.compile(r"(?:(?P<raw>raw)|(?P<ratio>\d+(?:\.\d+)?)x)(?::(?P<count>\d+))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Tier:
    """Passages that are treated alike."""

    ratio: float | None
    """``None`` for text as it is."""
    count: int | None = None
    """How many; ``None`` for all that are left."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one passage gets."""

    raw: bool
    states: int
    """0 for raw passages and for those left out."""
    reason: str


@dataclass(frozen=True, slots=True)
class LayoutPlan:
    """What every passage gets, in the order of the passages."""

    shares: tuple[Share, ...]
    notes: tuple[str, ...] = ()


def parse_layout(line: str) -> tuple[Tier, ...]:
    """Read a layout.

    Example:
        >>> parse_layout("raw:2, 4x:3, 16x")
        (Tier(ratio=None, count=2), Tier(ratio=4.0, count=3), Tier(ratio=16.0, count=None))

    Raises:
        UsageError: it is not one, or an entry follows the one for all others.
    """
    tiers = []
    for entry in line.split(","):
        match = _TIER.fullmatch(entry.strip())
        if match is None or (match["ratio"] and float(match["ratio"]) < 1):
            raise UsageError(
                f"layout {line!r}: {entry.strip()!r} is not 'raw' or a ratio from 1 such as '4x', with ':count'"
            )
        tiers.append(
            Tier(None if match["raw"] else float(match["ratio"]), int(match["count"]) if match["count"] else None)
        )
    if any(tier.count is None for tier in tiers[:-1]):
        raise UsageError(f"layout {line!r}: only the last entry may be without a count")
    return tuple(tiers)


def plan_layout(
    tiers: Sequence[Tier],
    latent_tokens: Sequence[int],
    raw_tokens: Sequence[int],
    frame_tokens: int,
    ranking: Sequence[int],
    budget: int,
) -> LayoutPlan:
    """Give every passage its tier, and where that exceeds the budget, less.

    Raw passages that do not fit are compressed like the first compressed tier; compressed ones then share what is left
    in proportion to what their tiers ask for.

    Args:
        tiers: best first.
        latent_tokens: length of each passage in the encoder's tokens.
        raw_tokens: length of each passage as text in the prompt.
        frame_tokens: tokens around each passage (its number).
        ranking: indices of the passages, best first.
        budget: tokens in all.
    """
    wanted = _assign(tiers, ranking)
    fallback = next((tier.ratio for tier in tiers if tier.ratio is not None), 4.0)
    raw: set[int] = set()
    compressed: dict[int, int] = {}
    left, notes = budget, []
    for position, index in enumerate(ranking):
        if index not in wanted:
            continue
        # Every passage behind this one still needs its frame and one state.
        behind = sum(1 for other in ranking[position + 1 :] if other in wanted) * (frame_tokens + 1)
        cost = frame_tokens + raw_tokens[index]
        if wanted[index] is None and cost <= max(left - behind, 0):
            raw.add(index)
            left -= cost
        elif left >= frame_tokens + 1 and latent_tokens[index]:
            compressed[index] = count_at_ratio(latent_tokens[index], wanted[index] or fallback)
            left -= frame_tokens + 1
    asked = sum(compressed.values())
    room = left + len(compressed)
    states = dict(compressed)
    if asked > room:
        parts = split_budget(room, list(compressed.values()), [1.0] * len(compressed), [1] * len(compressed))
        states = dict(zip(compressed, parts, strict=True))
        notes.append(f"the layout asks for {asked} states and the budget of {budget} tokens leaves {room}")
    demoted = sum(1 for index, ratio in wanted.items() if ratio is None and index not in raw)
    if demoted:
        notes.append(f"{demoted} passages that the layout wants raw do not fit the budget as text")
    dropped = len(latent_tokens) - len(raw) - len(states)
    if dropped:
        notes.append(f"{dropped} of {len(latent_tokens)} passages are left out")
    return LayoutPlan(tuple(_share(i, raw, states, wanted, fallback) for i in range(len(latent_tokens))), tuple(notes))


def _assign(tiers: Sequence[Tier], ranking: Sequence[int]) -> dict[int, float | None]:
    wanted: dict[int, float | None] = {}
    rest = list(ranking)
    for tier in tiers:
        taken, rest = (rest, []) if tier.count is None else (rest[: tier.count], rest[tier.count :])
        wanted.update(dict.fromkeys(taken, tier.ratio))
    return wanted


def _share(
    index: int, raw: set[int], states: dict[int, int], wanted: dict[int, float | None], fallback: float
) -> Share:
    if index in raw:
        return Share(True, 0, "layout: raw")
    if index in states:
        return Share(False, states[index], f"layout: {wanted[index] or fallback:g}x")
    return Share(False, 0, "left out: not in the layout" if index not in wanted else "left out: the budget is used up")


__all__ = ["LayoutPlan", "Share", "Tier", "parse_layout", "plan_layout"]
