"""Which passages share rare terms, from postings alone, with arrays instead of a loop over pairs.

It does not know how a term is written. Pairs are looked at for some passages at a time, so that memory does not grow
with their number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightrag.retrieval.lexical import LexicalIndex

Bonds = NDArray[np.float32]
"""Shape (passages,)."""

RARE: Final = range(2, 13)
"""Passages that a rare term occurs in: one links nothing, many link everything."""
LEAST_BOND: Final = 0.25
"""Bond of a passage below which shared names say nothing about it."""
SHARED_NAME_LIMIT: Final = 16
"""Strongest shared-name links kept per passage."""
_PAIRS: Final = 2_000_000
"""Pairs that are looked at together, about: 200 MB while they are sorted."""


class SharedTerms(NamedTuple):
    """Links from passages to others that share rare terms with them; columns of one entry per link."""

    sources: NDArray[np.int32]
    targets: NDArray[np.int32]
    weights: NDArray[np.float64]
    terms: NDArray[np.int32]
    """The rarest term that both have."""
    shown_by: Mapping[int, int]
    """Passage that shows how a term is written, by term."""


class _Rare(NamedTuple):
    """Postings of rare terms in passages with enough of a bond, by term and then by row."""

    terms: NDArray[np.int32]
    rows: NDArray[np.int32]
    starts: NDArray[np.int64]
    """Where the postings of each posting's term begin."""
    counts: NDArray[np.int64]
    """How many passages share each posting's term, itself among them."""


def shared_terms(lexical: LexicalIndex, bonds: Bonds) -> SharedTerms:
    """Find the strongest links of every passage.

    The weight is the part of the source's rare information that is common to both, scaled by the lesser bond; a term in
    ``df`` of ``n`` passages carries ``log(n / df)`` nats.
    """
    frequency = lexical.document_frequency()
    with np.errstate(divide="ignore"):  # every term of an index is somewhere
        nats = np.log(lexical.passages / frequency)
    rare = _rare(lexical, frequency, bonds)
    mass = np.bincount(rare.rows, weights=nats[rare.terms], minlength=lexical.passages)
    parts = [_linked(rare, chosen, frequency, nats) for chosen in _by_passages(rare)]
    if not parts:
        none = np.zeros(0, np.int32)
        return SharedTerms(none, none, np.zeros(0), none, {})
    sources, targets, common, terms = (np.concatenate(column) for column in zip(*parts, strict=True))
    weights = np.minimum(common / np.maximum(mass[sources], 1e-9), 1.0) * np.minimum(bonds[sources], bonds[targets])
    kept = weights > 0
    sources, targets, weights, terms = (column[kept] for column in (sources, targets, weights, terms))
    return SharedTerms(sources, targets, weights, terms, _shown_by(rare, sources, terms))


def _rare(lexical: LexicalIndex, frequency: NDArray[np.int64], bonds: Bonds) -> _Rare:
    rare = (frequency >= RARE.start) & (frequency < RARE.stop)
    of_rare = np.repeat(rare, frequency)
    terms = np.repeat(np.arange(len(frequency), dtype=np.int32)[rare], frequency[rare])
    rows = lexical.postings.rows[of_rare]
    bonded = bonds[rows] >= LEAST_BOND
    terms, rows = terms[bonded], rows[bonded]
    _, firsts, counts = np.unique(terms, return_index=True, return_counts=True)
    return _Rare(terms, rows, np.repeat(firsts, counts), np.repeat(counts, counts))


def _by_passages(rare: _Rare) -> Iterator[NDArray[np.int64]]:
    """Postings in portions: all of a passage in one portion, by row and then by term."""
    order = np.argsort(rare.rows, kind="stable")
    pairs = np.cumsum(rare.counts[order])
    starts = np.flatnonzero(np.diff(rare.rows[order], prepend=-1))  # where a new passage begins
    at = 0
    while at < len(order):
        done = pairs[at - 1] if at else 0
        later = starts[starts > at]
        enough = later[pairs[later - 1] - done >= _PAIRS]
        end = int(enough[0]) if len(enough) else len(order)
        yield order[at:end]
        at = end


def _linked(
    rare: _Rare, chosen: NDArray[np.int64], frequency: NDArray[np.int64], nats: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64], NDArray[np.int32]]:
    """Sources, targets, nats in common and rarest terms of the strongest links from some passages."""
    counts = rare.counts[chosen]
    before = np.cumsum(counts) - counts
    partners = np.arange(int(counts.sum())) + np.repeat(rare.starts[chosen] - before, counts)
    sources, targets = np.repeat(rare.rows[chosen], counts), rare.rows[partners]
    terms = rare.terms[partners]
    others = sources != targets
    sources, targets, terms = sources[others], targets[others], terms[others]
    order = np.lexsort((targets, sources))  # stable: terms of a pair stay in their order
    sources, targets, terms = sources[order], targets[order], terms[order]
    begins = np.ones(len(sources), bool)
    begins[1:] = (sources[1:] != sources[:-1]) | (targets[1:] != targets[:-1])
    pair = np.cumsum(begins) - 1
    common = np.bincount(pair, weights=nats[terms], minlength=0)
    rarest = terms[np.lexsort((frequency[terms], pair))[begins]]
    sources, targets = sources[begins], targets[begins]
    best = np.lexsort((targets, -common, sources))
    first = np.flatnonzero(np.diff(sources[best], prepend=-1))
    place = np.arange(len(best)) - np.repeat(first, np.diff(np.append(first, len(best))))
    kept = best[place < SHARED_NAME_LIMIT]
    return sources[kept], targets[kept], common[kept], rarest[kept]


def _shown_by(rare: _Rare, sources: NDArray[np.int32], terms: NDArray[np.int32]) -> dict[int, int]:
    """The passage with the first rare term of all, among those that a term links."""
    rows, firsts = np.unique(rare.rows, return_index=True)  # postings are by term, so the first is of the first term
    earliest = firsts[np.searchsorted(rows, sources)]
    order = np.lexsort((earliest, terms))
    distinct, first = np.unique(terms[order], return_index=True)
    return dict(zip(distinct.tolist(), sources[order][first].tolist(), strict=True))


__all__ = ["LEAST_BOND", "RARE", "SHARED_NAME_LIMIT", "Bonds", "SharedTerms", "shared_terms"]
