"""Letting scores flow along links, once: what stands near a good passage or is named by it is evidence too.

The same flow serves documents and conversations, retrieval and recall. It does not know how the scores were made: they
come in scaled so that the best passage has 1, and gains come out on the same scale.

Two flows are added up:

- along the *chain* (reading order), from every passage that matches, fading with the distance in tokens. What flows is
  the score above the corpus average, so a passage among many that match a little gains, and noise cancels out.
- along *typed links*, from the few best passages only (seeds), fading with their rank. A passage comes close behind the
  one that leads to it, never before it, so links add evidence and never displace what answers by itself. A mention of
  what the question names already leads nowhere new and is not followed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightrag.retrieval.fusion import Scores
from lightrag.retrieval.graph import Chain, LinkGraph
from lightrag.types import LinkKind

Rows = NDArray[np.int64]

OwnScores = Callable[[Rows], Scores]
"""Scores of any passages by themselves, on the scale on which the best passage of the question has 1."""


class FlowRule(NamedTuple):
    """How much flows along one kind of link."""

    share: float
    """Part of the seed's score that a link of weight 1 hands on."""
    gated: bool = False
    """Scale by the target's own score: for links that lead to many passages of which few are meant."""


BEHIND = 1 - 1e-4
"""A passage that a link leads to stays behind its source by this factor."""

DEFAULT_RULES: Mapping[LinkKind, FlowRule] = MappingProxyType(
    {
        "mention": FlowRule(1.0),
        "mentioned_by": FlowRule(0.1, gated=True),
        "relation": FlowRule(0.5),
        "shared_name": FlowRule(0.5),
    }
)


@dataclass(frozen=True, slots=True)
class SpreadWeights:
    """How strongly scores flow. Defaults were chosen on the halves of the reference sets that no table reports."""

    rules: Mapping[LinkKind, FlowRule] = field(default_factory=lambda: DEFAULT_RULES)
    """Kinds that are absent carry nothing."""
    neighbour: float = 0.3
    """Part of its score that a passage hands to one right beside it, times its bond (see ``Chain``)."""
    reach_tokens: float = 250.0
    """Distance over which that fades by a factor e: topics last for a length of text, not for a number of passages."""
    named: float = 0.3
    """What a passage gains when the question names what it is about."""
    speaker: float = 0.5
    """Part of its own score by which a turn comes up when the question names who speaks it."""
    seeds: int = 5
    """Best passages from which typed links are followed."""


class Gain(NamedTuple):
    """What one passage handed to another."""

    amount: float
    source: int
    kind: LinkKind
    weight: float
    label: str


class Seed(NamedTuple):
    """A passage from which links are followed."""

    row: int
    score: float
    strength: float


class Reached(NamedTuple):
    """What a passage gained over typed links."""

    amount: float
    """At most what brings it up to the best passage that leads to it."""
    strongest: Gain


@dataclass(frozen=True, slots=True)
class Flow:
    """Gains of all reached passages."""

    along_chain: Scores
    """Shape (passages,); may be slightly negative among passages that match less than average."""
    along_links: Mapping[int, Reached]

    def rows(self) -> Rows:
        """Passages that typed links reached."""
        return np.fromiter(self.along_links, dtype=np.int64, count=len(self.along_links))

    def total(self, rows: Rows) -> Scores:
        """Gain of some passages over both flows."""
        linked = [self.along_links[row].amount if row in self.along_links else 0.0 for row in rows.tolist()]
        return self.along_chain[rows] + np.array(linked, dtype=np.float32)


def spread(
    graph: LinkGraph,
    rows: Rows,
    scores: Scores,
    own: OwnScores,
    weights: SpreadWeights,
    asked: frozenset[int] = frozenset(),
) -> Flow:
    """Let the scores of the matching passages flow.

    Args:
        graph: links and reading order.
        rows: matching passages, each once.
        scores: theirs, at least 0, the best 1.
        own: scores of any passages.
        weights: how strongly.
        asked: passages that the question itself names.
    """
    chain = neighbour_flow(graph.chain, rows, scores, weights)
    return Flow(chain, follow_links(graph, seeds_of(rows, scores, weights.seeds), own, weights.rules, asked))


def seeds_of(rows: Rows, scores: Scores, count: int) -> list[Seed]:
    """The best passages; links are followed from them at the strength ``score / (1 + rank / 2)``."""
    order = np.argsort(-scores, kind="stable")[:count]
    return [
        Seed(int(rows[place]), float(scores[place]), float(scores[place]) / (1 + rank / 2))
        for rank, place in enumerate(order)
    ]


def neighbour_flow(chain: Chain, rows: Rows, scores: Scores, weights: SpreadWeights) -> Scores:
    """Smooth the scores along the reading order within segments; a passage hands nothing to itself.

    Returns:
        Gain of every passage, shape (passages,).
    """
    passages = len(chain.segments)
    gains = np.zeros(passages, dtype=np.float32)
    if len(rows) == 0 or weights.neighbour == 0:
        return gains
    above = (scores - scores.sum() / passages) * chain.bonds[rows]
    steps = _window(chain, weights.reach_tokens)
    targets = rows[:, None] + steps[None, :]  # (matching, window)
    inside = (targets >= 0) & (targets < passages)
    targets = np.where(inside, targets, 0)
    inside &= chain.segments[targets] == chain.segments[rows][:, None]
    distance = np.abs(chain.centres[targets] - chain.centres[rows][:, None])
    handed = weights.neighbour * np.exp(-distance / weights.reach_tokens) * above[:, None]
    np.add.at(gains, targets[inside], handed[inside].astype(np.float32))
    return gains


def follow_links(
    graph: LinkGraph,
    seeds: Sequence[Seed],
    own: OwnScores,
    rules: Mapping[LinkKind, FlowRule],
    asked: frozenset[int] = frozenset(),
) -> dict[int, Reached]:
    """Follow the typed links that leave the seeds, one step.

    Returns:
        What each reached passage gained, by its row.
    """
    followed = [
        (seed, rules[link.kind], link)
        for seed in seeds
        for link in graph.from_passage(seed.row)
        if link.kind in rules and not (link.kind == "mention" and link.target in asked)
    ]
    targets = np.unique(np.array([link.target for _, _, link in followed], dtype=np.int64))
    scores = dict(zip(targets.tolist(), own(targets).tolist(), strict=True))
    gains: dict[int, list[Gain]] = {}
    ceilings: dict[int, float] = {}
    for seed, rule, link in followed:
        amount = seed.strength * rule.share * link.weight * (scores[link.target] if rule.gated else 1.0)
        gains.setdefault(link.target, []).append(Gain(amount, link.source, link.kind, link.weight, link.label))
        ceilings[link.target] = max(ceilings.get(link.target, 0.0), seed.score * BEHIND)
    return {
        target: Reached(amount, max(found, key=lambda gain: gain.amount))
        for target, found in gains.items()
        if (amount := min(sum(gain.amount for gain in found), ceilings[target] - scores[target])) > 0
    }


def strongest_neighbour(chain: Chain, row: int, rows: Rows, scores: Scores, weights: SpreadWeights) -> Gain | None:
    """The matching passage that hands most to ``row`` along the chain, if there is one."""
    near = (chain.segments[rows] == chain.segments[row]) & (rows != row)
    if not near.any():
        return None
    decay = np.exp(-np.abs(chain.centres[rows[near]] - chain.centres[row]) / weights.reach_tokens) * chain.bonds[row]
    handed = weights.neighbour * decay * scores[near]
    best = int(np.argmax(handed))
    weight = float(weights.neighbour * decay[best])
    return Gain(float(handed[best]), int(rows[near][best]), "neighbour", weight, "")


def _window(chain: Chain, reach: float) -> NDArray[np.int64]:
    """Steps to neighbours within four reaches, at most 64 either way; further ones get next to nothing."""
    typical = max(float(chain.centres[-1]) / len(chain.centres), 1.0)
    size = int(min(64, max(1.0, 4 * reach / typical)))
    return np.concatenate([np.arange(-size, 0), np.arange(1, size + 1)])


__all__ = [
    "BEHIND",
    "DEFAULT_RULES",
    "Flow",
    "FlowRule",
    "Gain",
    "OwnScores",
    "Reached",
    "Rows",
    "Seed",
    "SpreadWeights",
    "follow_links",
    "neighbour_flow",
    "seeds_of",
    "spread",
    "strongest_neighbour",
]
