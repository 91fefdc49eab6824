"""Nearest neighbours, exactly and within a filter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError
from lightrag.retrieval.dense import DenseIndex


def unit(rows: int, dimension: int = 8, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dimension)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**40 - 1))
def test_search_within_a_filter_equals_sorting_everything(passages: int, depth: int, bits: int) -> None:
    vectors, question = unit(passages), unit(1, seed=1)
    mask = np.array([bool(bits >> row & 1) for row in range(passages)])
    hits = DenseIndex.build(vectors).search(question, depth, mask)
    found = [row for row in hits.rows[0].tolist() if row >= 0]
    exact = vectors @ question[0]
    allowed = sorted(np.flatnonzero(mask).tolist(), key=lambda row: -exact[row])[:depth]
    assert len(found) == len(allowed)
    np.testing.assert_allclose(exact[found], exact[allowed], atol=1e-6)
    assert mask[found].all()


def test_vectors_come_back_as_they_went_in() -> None:
    vectors = unit(5)
    index = DenseIndex.load(DenseIndex.build(vectors).save())
    np.testing.assert_array_equal(index.vectors(np.array([3, 0])), vectors[[3, 0]])
    assert index.nbytes >= vectors.nbytes


def test_an_empty_index_finds_nothing() -> None:
    index = DenseIndex.load(DenseIndex.build(np.zeros((0, 8), np.float32)).save())
    assert index.search(unit(2), 10).rows.shape == (2, 0)
    assert index.background(unit(2)).shape == (2, 0)


def test_the_background_covers_the_whole_corpus() -> None:
    vectors, question = unit(5000), unit(1, seed=3)
    sample = DenseIndex.build(vectors).background(question)[0]
    exact = vectors @ question[0]
    assert abs(sample.mean() - exact.mean()) < 0.02
    assert abs(sample.std() / exact.std() - 1) < 0.05


def test_a_damaged_buffer_is_refused() -> None:
    with pytest.raises(ArtifactError, match="damaged"):
        DenseIndex.load({"dense.faiss": b"not an index, certainly not one"})
