"""Many links as columns of numbers: what linking a large corpus hands to its graph.

Iterating gives :class:`Link` values, for those who look at few.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import UsageError
from lightrag.types import LinkKind

KINDS: tuple[LinkKind, ...] = get_args(LinkKind)
"""The order in which kinds are numbered in stored graphs; new kinds go to the end."""
_ALPHABETICAL = np.argsort(np.argsort(KINDS))
"""Place of each kind in the order of its name, in which the links of a passage are stored."""


class Link(NamedTuple):
    """One directed link: who finds ``source`` is told of ``target``."""

    source: int
    target: int
    kind: LinkKind
    weight: float
    label: str = ""
    """What links the two: the shared name, the mentioned title, the relation."""


@dataclass(frozen=True, slots=True)
class LinkColumns:
    """Links in any order. All columns have one entry per link."""

    sources: NDArray[np.int32]
    targets: NDArray[np.int32]
    kinds: NDArray[np.uint8]
    """Index into :data:`KINDS`."""
    weights: NDArray[np.float64]
    codes: NDArray[np.int32]
    """Index into ``labels``."""
    labels: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[Link]:
        columns = (self.sources, self.targets, self.kinds, self.weights, self.codes)
        for source, target, kind, weight, code in zip(*(column.tolist() for column in columns), strict=True):
            yield Link(source, target, KINDS[kind], weight, self.labels[code])

    @classmethod
    def of(cls, links: Iterable[Link]) -> LinkColumns:
        """Collect links that are given one by one."""
        if isinstance(links, LinkColumns):
            return links
        given = list(links)
        labels: dict[str, int] = {}
        codes = [labels.setdefault(link.label, len(labels)) for link in given]
        return cls(
            np.array([link.source for link in given], np.int32),
            np.array([link.target for link in given], np.int32),
            np.array([KINDS.index(link.kind) for link in given], np.uint8),
            np.array([link.weight for link in given], np.float64),
            np.array(codes, np.int32),
            tuple(labels),
        )

    @classmethod
    def joined(cls, parts: Sequence[LinkColumns]) -> LinkColumns:
        """All links of some parts, one part after the other."""
        labels: dict[str, int] = {}
        codes = []
        for part in parts:
            numbers = np.array([labels.setdefault(label, len(labels)) for label in part.labels], np.int32)
            codes.append(numbers[part.codes] if len(numbers) else part.codes)
        return cls(
            np.concatenate([part.sources for part in parts]),
            np.concatenate([part.targets for part in parts]),
            np.concatenate([part.kinds for part in parts]),
            np.concatenate([part.weights for part in parts]),
            np.concatenate(codes),
            tuple(labels),
        )

    def require_possible(self, passages: int) -> None:
        """Refuse links between passages that do not exist, and weights outside (0, 1].

        Raises:
            UsageError: there is one.
        """
        rows = (self.sources >= 0) & (self.sources < passages) & (self.targets >= 0) & (self.targets < passages)
        sound = rows & (self.weights > 0) & (self.weights <= 1)
        if not sound.all():
            link = next(iter(self._at(np.flatnonzero(~sound)[:1])))
            raise UsageError(f"{link} is not possible among {passages} passages: rows from 0, weights in (0, 1]")

    def strongest(self) -> LinkColumns:
        """Of several links with equal source, target and kind the strongest, in the order in which they are stored:
        by source, kind, falling weight, and target. Links of a passage to itself are left out.
        """
        kinds = _ALPHABETICAL[self.kinds]
        order = np.lexsort((-self.weights, kinds, self.targets, self.sources))
        order = order[(self.sources != self.targets)[order]]
        columns = (self.sources[order], self.targets[order], kinds[order])
        first = np.ones(len(order), bool)
        first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        kept = order[first]
        by = (self.targets[kept], -self.weights[kept], kinds[kept], self.sources[kept])
        return self._at(kept[np.lexsort(by)])

    def relabelled(self) -> LinkColumns:
        """The same links, with labels numbered in the order in which they occur, from the empty one on."""
        used, first = np.unique(self.codes, return_index=True)
        ordered = used[np.argsort(first)].tolist()
        labels = dict.fromkeys(["", *(self.labels[code] for code in ordered)])
        numbers = {label: number for number, label in enumerate(labels)}
        lookup = np.zeros(len(self.labels) + 1, np.int32)
        for code in ordered:
            lookup[code] = numbers[self.labels[code]]
        return LinkColumns(
            self.sources, self.targets, self.kinds, self.weights, lookup[self.codes].astype(np.int32), tuple(labels)
        )

    def _at(self, chosen: NDArray[np.int64]) -> LinkColumns:
        return LinkColumns(
            self.sources[chosen],
            self.targets[chosen],
            self.kinds[chosen],
            self.weights[chosen],
            self.codes[chosen],
            self.labels,
        )


__all__ = ["KINDS", "Link", "LinkColumns"]
