"""Typed, weighted links between passages as one row-compressed matrix.

It does not know why two passages are linked; ``links`` builds it at ingestion and ``spread`` lets scores flow along it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError
from lightrag.retrieval.arrays import pack_arrays, unpack_arrays, write_arrays
from lightrag.retrieval.link_columns import KINDS, Link, LinkColumns

ONE_TOPIC = 1000
"""Tokens of a segment in which topics change about as much as they stay."""


@dataclass(frozen=True, slots=True)
class Chain:
    """The order in which passages are read: which ones follow each other, and how far apart they are."""

    segments: NDArray[np.int32]
    """Number of the document, section or session of each passage; passages of a segment are consecutive rows."""
    centres: NDArray[np.float64]
    """Where the middle of each passage lies, in tokens from the start of the corpus."""

    bonds: NDArray[np.float32]
    """How much each passage has to say about its neighbours, in [0, 1]."""

    @classmethod
    def of(cls, segments: Sequence[str], tokens: Sequence[int]) -> Chain:
        """Lay out passages of the given lengths; a new segment starts where the label changes.

        In a short segment everything is about one thing, which the score of each passage tells already; in a long one
        topics change, and neighbours tell which part they stand in. Bonds are the segment's tokens over those and
        :data:`ONE_TOPIC`.
        """
        starts = [row == 0 or label != segments[row - 1] for row, label in enumerate(segments)]
        return cls.numbered(np.cumsum(starts, dtype=np.int32), tokens)

    @classmethod
    def numbered(cls, numbers: NDArray[np.int32], tokens: Sequence[int] | NDArray[np.int32]) -> Chain:
        """The same, given the number of each passage's segment: 1 for those of the first one."""
        # A separator's worth of distance keeps empty passages apart.
        lengths = np.asarray(tokens, dtype=np.float64) + 4
        centres = np.cumsum(lengths) - lengths / 2
        extents = np.bincount(numbers, weights=lengths)[numbers] if len(numbers) else lengths
        return cls(numbers, centres, (extents / (extents + ONE_TOPIC)).astype(np.float32))


@dataclass(frozen=True, slots=True)
class LinkGraph:
    """Links sorted by source, and the reading order. Immutable and safe to share."""

    chain: Chain
    offsets: NDArray[np.int64]
    """Shape (passages + 1,): the links of passage ``p`` are ``offsets[p] … offsets[p + 1]``."""
    targets: NDArray[np.int32]
    kinds: NDArray[np.uint8]
    """Index into :data:`KINDS`."""
    weights: NDArray[np.float32]
    """Strength in (0, 1], comparable within one kind."""
    label_codes: NDArray[np.int32]
    labels: tuple[str, ...] = ("",)

    @classmethod
    def build(cls, chain: Chain, links: Iterable[Link]) -> LinkGraph:
        """Collect links; of several with equal source, target and kind the strongest is kept.

        Raises:
            UsageError: a link names a passage that does not exist, or has a weight outside (0, 1].
        """
        passages = len(chain.segments)
        given = LinkColumns.of(links)
        given.require_possible(passages)
        kept = given.strongest().relabelled()
        counts = np.bincount(kept.sources, minlength=passages)
        return cls(
            chain=chain,
            offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            targets=kept.targets,
            kinds=kept.kinds,
            weights=kept.weights.astype(np.float32),
            label_codes=kept.codes,
            labels=tuple(kept.labels),
        )

    @property
    def passages(self) -> int:
        """Number of passages, linked or not."""
        return len(self.offsets) - 1

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays and labels."""
        return sum(array.nbytes for array in self._arrays().values()) + sum(len(label) + 60 for label in self.labels)

    def from_passage(self, passage: int) -> list[Link]:
        """Links that leave one passage."""
        return [self.link(number, passage) for number in range(self.offsets[passage], self.offsets[passage + 1])]

    def link(self, number: int, source: int) -> Link:
        """The link with this number, which must leave ``source``."""
        kind = KINDS[self.kinds[number]]
        label = self.labels[self.label_codes[number]]
        return Link(source, int(self.targets[number]), kind, float(self.weights[number]), label)

    def check_integrity(self) -> None:
        """Prove that the arrays fit together.

        Raises:
            ArtifactError: they do not.
        """
        count = len(self.targets)
        sound = (
            len(self.offsets) > 0
            and self.offsets[0] == 0
            and bool((np.diff(self.offsets) >= 0).all())
            and self.offsets[-1] == count == len(self.kinds) == len(self.weights) == len(self.label_codes)
            and len(self.chain.segments) == len(self.chain.centres) == len(self.chain.bonds) == self.passages
            and bool((np.diff(self.chain.segments) >= 0).all() and (np.diff(self.chain.centres) > 0).all())
            and bool(((self.chain.bonds >= 0) & (self.chain.bonds <= 1)).all())
            and _within(self.targets, self.passages)
            and _within(self.kinds, len(KINDS))
            and _within(self.label_codes, len(self.labels))
            and bool(((self.weights > 0) & (self.weights <= 1)).all())
        )
        if not sound:
            raise ArtifactError("the links are damaged: build the corpus version again", subject="links")

    def save(self) -> dict[str, bytes]:
        """Return named buffers: arrays as safetensors, labels as JSON."""
        return {"links.safetensors": pack_arrays(self._arrays()), "links.json": self._head()}

    def write(self, folder: Path) -> None:
        """Write what :meth:`save` returns to files of these names, without a second copy in memory."""
        write_arrays(folder / "links.safetensors", self._arrays())
        (folder / "links.json").write_bytes(self._head())

    def _head(self) -> bytes:
        return json.dumps({"kinds": KINDS, "labels": self.labels}, ensure_ascii=False).encode()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "segments": self.chain.segments,
            "centres": self.chain.centres,
            "bonds": self.chain.bonds,
            "offsets": self.offsets,
            "targets": self.targets,
            "kinds": self.kinds,
            "weights": self.weights,
            "label_codes": self.label_codes,
        }

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> LinkGraph:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: it has link kinds that this version does not know.
        """
        head = json.loads(files["links.json"])
        if tuple(head["kinds"]) != KINDS[: len(head["kinds"])]:
            raise ArtifactError(f"unknown kinds of links {head['kinds']!r}: ingest the corpus again", subject="links")
        arrays = unpack_arrays(files, "links.safetensors")
        chain = Chain(arrays.pop("segments"), arrays.pop("centres"), arrays.pop("bonds"))
        return cls(chain, **arrays, labels=tuple(head["labels"]))


def _within(codes: Sequence[int] | NDArray[np.generic], limit: int) -> bool:
    return len(codes) == 0 or bool(np.min(codes) >= 0 and np.max(codes) < limit)


__all__ = ["KINDS", "Chain", "Link", "LinkGraph"]
