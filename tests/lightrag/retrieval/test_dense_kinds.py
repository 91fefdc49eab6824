"""Structures that are chosen by size: what they find, within filters too, and what comes back from storage."""

from __future__ import annotations

import numpy as np
import pytest

from lightrag.retrieval.dense import DenseIndex
from lightrag.retrieval.dense_kinds import (
    FLAT_LIMIT,
    HNSW_LIMIT,
    IndexKind,
    choose_kind,
    fill_shard,
    merge_shards,
    sample_of,
    train_lists,
)

KINDS: tuple[IndexKind, ...] = ("flat", "hnsw", "ivf")


def topical(rows: int, seed: int = 0) -> np.ndarray:
    """Unit vectors of 48 numbers that lie around a hundred topics, as embeddings of texts do."""
    random = np.random.default_rng(seed)
    topics = np.random.default_rng(99).normal(size=(100, 48))
    vectors = topics[random.integers(0, 100, rows)] + 0.7 * random.normal(size=(rows, 48))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def recall(index: DenseIndex, vectors: np.ndarray, mask: np.ndarray | None = None, depth: int = 10) -> float:
    questions = topical(40, seed=7)
    scores = questions @ vectors.T
    if mask is not None:
        scores[:, ~mask] = -2
    exact = np.argsort(-scores, axis=1)[:, :depth]
    found = index.search(questions, depth, mask).rows
    return float(np.mean([len(set(a) & set(b)) / depth for a, b in zip(found.tolist(), exact.tolist(), strict=True)]))


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return topical(8000)


@pytest.fixture(scope="module", params=KINDS)
def index(request: pytest.FixtureRequest, vectors: np.ndarray) -> DenseIndex:
    return DenseIndex.load(DenseIndex.build(vectors, request.param).save())


def test_the_kind_grows_with_the_number_of_vectors() -> None:
    sizes = (0, FLAT_LIMIT, FLAT_LIMIT + 1, HNSW_LIMIT, HNSW_LIMIT + 1)
    assert [choose_kind(size) for size in sizes] == ["flat", "flat", "hnsw", "hnsw", "ivf"]


def test_every_kind_finds_what_is_nearest(index: DenseIndex, vectors: np.ndarray) -> None:
    assert recall(index, vectors) >= (1.0 if index.kind == "flat" else 0.95)


@pytest.mark.parametrize("share", [0.5, 0.05, 0.002])
def test_a_filter_costs_no_recall(index: DenseIndex, vectors: np.ndarray, share: float) -> None:
    mask = np.random.default_rng(3).random(len(vectors)) < share
    assert recall(index, vectors, mask) >= (1.0 if index.kind == "flat" else 0.95)
    rows = index.search(topical(5, seed=8), 20, mask).rows
    assert mask[rows[rows >= 0]].all()
    assert (rows >= 0).sum(axis=1).tolist() == [min(20, int(mask.sum()))] * 5


def test_a_filter_that_allows_nothing_finds_nothing(index: DenseIndex, vectors: np.ndarray) -> None:
    assert (index.search(vectors[:2], 5, np.zeros(len(vectors), bool)).rows == -1).all()


def test_vectors_come_back_by_row_after_storage(index: DenseIndex, vectors: np.ndarray) -> None:
    rows = np.array([7999, 0, 4242])
    assert np.abs(index.vectors(rows) - vectors[rows]).max() <= (0.005 if index.kind == "ivf" else 0)


def test_shards_merged_are_the_index_built_at_once(vectors: np.ndarray) -> None:
    lists = train_lists(sample_of(vectors), len(vectors))
    merged = DenseIndex(merge_shards(lists, (fill_shard(lists, part) for part in np.array_split(vectors, 3))))
    whole = DenseIndex(merge_shards(lists, iter([fill_shard(lists, vectors)])))
    questions = topical(20, seed=5)
    np.testing.assert_array_equal(merged.search(questions, 10).rows, whole.search(questions, 10).rows)
    rows = np.arange(len(vectors))
    np.testing.assert_array_equal(merged.vectors(rows), whole.vectors(rows))


@pytest.mark.parametrize("kind", KINDS)
def test_a_handful_of_vectors_is_enough_for_every_kind(kind: IndexKind) -> None:
    few = topical(3)
    index = DenseIndex.load(DenseIndex.build(few, kind).save())
    assert sorted(index.search(few[:1], 10).rows[0].tolist()) == [0, 1, 2]


def test_memory_is_that_of_the_vectors_or_a_fourth_of_it() -> None:
    wide = np.repeat(topical(4000), 8, axis=1)
    taken = {kind: DenseIndex.build(wide, kind).nbytes / wide.nbytes for kind in KINDS}
    assert taken["ivf"] < 0.9 < taken["flat"] < taken["hnsw"] < 2  # the background sample is half of so few
