"""Links by rare terms, computed with arrays, against the same computed pair by pair."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest

from lightrag.retrieval import shared_terms as module
from lightrag.retrieval.lexical import LexicalIndex
from lightrag.retrieval.shared_terms import LEAST_BOND, RARE, SHARED_NAME_LIMIT, shared_terms


def pair_by_pair(lexical: LexicalIndex, bonds: np.ndarray) -> dict[tuple[int, int], tuple[float, int]]:
    """Weight and rarest term of every link."""
    frequency = lexical.document_frequency()
    offsets, rows = lexical.postings.offsets, lexical.postings.rows
    common: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
    mass: dict[int, float] = defaultdict(float)
    nats = np.log(lexical.passages / frequency)
    for term in np.flatnonzero((frequency >= RARE.start) & (frequency < RARE.stop)).tolist():
        bearers = [row for row in rows[offsets[term] : offsets[term + 1]].tolist() if bonds[row] >= LEAST_BOND]
        for source in bearers:
            mass[source] += nats[term]
            for target in bearers:
                if target != source:
                    common[source][target].append(term)
    links = {}
    for source, targets in common.items():
        told = {target: sum(float(nats[term]) for term in terms) for target, terms in targets.items()}
        for target in sorted(told, key=lambda target: (-told[target], target))[:SHARED_NAME_LIMIT]:
            weight = min(told[target] / mass[source], 1.0) * float(min(bonds[source], bonds[target]))
            rarest = min(targets[target], key=lambda term: (frequency[term], term))
            links[source, target] = (weight, rarest)
    return links


@pytest.mark.parametrize("pairs", [10, 10**9])
def test_arrays_give_what_a_loop_over_pairs_gives(pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    texts = [" ".join(f"w{number}" for number in random.zipf(1.3, 30) % 400) for _ in range(150)]
    lexical = LexicalIndex.build(texts, ["en"] * len(texts))
    bonds = random.choice(np.array([0.1, 0.3, 0.9], np.float32), len(texts))
    monkeypatch.setattr(module, "_PAIRS", pairs)
    shared = shared_terms(lexical, bonds)
    wanted = pair_by_pair(lexical, bonds)
    assert max(sum(source == row for source, _ in wanted) for row in range(len(texts))) == SHARED_NAME_LIMIT
    found = dict(
        zip(
            zip(shared.sources.tolist(), shared.targets.tolist(), strict=True),
            zip(shared.weights.tolist(), shared.terms.tolist(), strict=True),
            strict=True,
        )
    )
    assert found.keys() == wanted.keys()
    assert all(found[pair][1] == wanted[pair][1] for pair in found)
    assert all(math.isclose(found[pair][0], wanted[pair][0], rel_tol=1e-6) for pair in found)
    assert shared.shown_by.keys() == set(shared.terms.tolist())
