"""Structures that are chosen by size: what they find, within filters too, and what comes back from storage."""

from __future__ import annotations

import numpy as np
import pytest

from lightrag.retrieval.dense import DenseIndex
from lightrag.retrieval.dense_kinds import (
    FLAT_LIMIT,
    HNSW_LIMIT,
    IVF_LIMIT,
    IndexKind,
    ListKind,
    choose_kind,
    faiss,
    fill_shard,
    kind_of,
    merge_shards,
    sample_of,
    train_lists,
)
from lightrag.retrieval.vector_codes import VectorCodes

KINDS: tuple[IndexKind, ...] = ("flat", "hnsw", "ivf", "ivfpq")
LIST_KINDS: tuple[ListKind, ...] = ("ivf", "ivfpq")


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
    limits = (FLAT_LIMIT, HNSW_LIMIT, IVF_LIMIT)
    assert [choose_kind(limit) for limit in (0, *limits)] == ["flat", "flat", "hnsw", "ivf"]
    assert [choose_kind(limit + 1) for limit in limits] == ["hnsw", "ivf", "ivfpq"]


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
    assert np.abs(index.vectors(rows) - vectors[rows]).max() <= (0.005 if index.kind in LIST_KINDS else 0)


def test_scores_are_those_of_the_vectors_that_come_back(index: DenseIndex, vectors: np.ndarray) -> None:
    questions = topical(10, seed=4)
    hits = index.search(questions, 20)
    for question, rows, scores in zip(questions, *hits, strict=True):
        np.testing.assert_allclose(scores, index.vectors(rows) @ question, atol=1e-5)
        np.testing.assert_allclose(scores, vectors[rows] @ question, atol=0.005)
        assert (np.diff(scores) <= 0).all()


def test_a_few_are_found_as_surely_as_many(index: DenseIndex, vectors: np.ndarray) -> None:
    assert recall(index, vectors, depth=1) >= 0.95


def of_shards(kind: ListKind, vectors: np.ndarray, shards: int) -> DenseIndex:
    lists = train_lists(sample_of(vectors, kind), len(vectors), kind)
    merged = merge_shards(lists, (fill_shard(lists, part) for part in np.array_split(vectors, shards)))
    assert kind_of(merged) == kind
    return DenseIndex(merged, VectorCodes.of(vectors) if kind == "ivfpq" else None)


@pytest.mark.parametrize("kind", LIST_KINDS)
def test_shards_merged_are_the_index_built_at_once(kind: ListKind) -> None:
    vectors = topical(3000)
    merged, whole = of_shards(kind, vectors, 3), of_shards(kind, vectors, 1)
    questions = topical(20, seed=5)
    np.testing.assert_array_equal(merged.search(questions, 10).rows, whole.search(questions, 10).rows)
    rows = np.arange(len(vectors))
    np.testing.assert_array_equal(merged.vectors(rows), whole.vectors(rows))


@pytest.mark.parametrize("kind", LIST_KINDS)
def test_the_same_vectors_make_the_same_lists(kind: ListKind) -> None:
    vectors = topical(1000)
    assert DenseIndex.build(vectors, kind).save() == DenseIndex.build(vectors, kind).save()


@pytest.mark.parametrize("kind", LIST_KINDS)
def test_gpus_find_the_centres_and_the_list_of_each_vector(kind: ListKind, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here what is copied to them stays where it is; the way there is the one with GPUs."""
    vectors, moved = topical(1000), []
    alone = DenseIndex.build(vectors, kind)
    monkeypatch.setattr(faiss(), "get_num_gpus", lambda: 1)
    monkeypatch.setattr(faiss(), "index_cpu_to_all_gpus", lambda index: moved.append(index.ntotal) or index)
    assert DenseIndex.build(vectors, kind).save() == alone.save()
    assert moved == [0, 63]  # to be trained; centres, to sort by


@pytest.mark.parametrize("kind", KINDS)
def test_a_handful_of_vectors_is_enough_for_every_kind(kind: IndexKind) -> None:
    few = topical(3)
    index = DenseIndex.load(DenseIndex.build(few, kind).save())
    assert sorted(index.search(few[:1], 10).rows[0].tolist()) == [0, 1, 2]
    alone = DenseIndex.load(DenseIndex.build(few[:1], kind).save())
    assert alone.search(few[:1], 10).rows.tolist() == [[0]]


@pytest.mark.parametrize("kind", KINDS)
def test_no_vectors_are_an_index_too(kind: IndexKind) -> None:
    index = DenseIndex.load(DenseIndex.build(topical(0), kind).save())
    assert (index.passages, index.search(topical(2), 10).rows.shape) == (0, (2, 0))


@pytest.mark.parametrize("dimension", [1, 7, 10, 48])
def test_any_number_of_numbers_can_be_quantised(dimension: int) -> None:
    vectors = np.random.default_rng(0).standard_normal((300, dimension), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    scores = DenseIndex.build(vectors, "ivfpq").search(vectors, 1).scores
    np.testing.assert_allclose(scores, 1, atol=0.005)


def test_memory_is_that_of_the_vectors_or_a_fourth_of_it_or_a_fourth_of_that() -> None:
    wide = np.repeat(topical(4000), 4, axis=1)
    taken = {kind: DenseIndex.build(wide, kind).nbytes / wide.nbytes for kind in KINDS}
    # The background sample is half of so few.
    assert taken["ivfpq"] < 0.75 < taken["ivf"] < 0.9 < taken["flat"] < taken["hnsw"] < 2
