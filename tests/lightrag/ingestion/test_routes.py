"""Directions by which questions find a group."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.ingestion.routes import choose_routes, windows
from lightrag.models import HashingEmbedder
from lightrag.models.base import FloatMatrix


def unit(seed: int, count: int, width: int = 8) -> FloatMatrix:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 1000), st.integers(0, 60), st.integers(1, 16))
def test_routes_are_few_unit_vectors_and_always_the_same(seed: int, count: int, most: int) -> None:
    vectors = unit(seed, count)
    routes = choose_routes(vectors, most)
    assert len(routes) == min(count, most)
    assert np.allclose(np.linalg.norm(routes, axis=1), 1, atol=1e-5)
    assert np.array_equal(routes, choose_routes(vectors, most))


def test_every_cluster_has_a_route_near_it() -> None:
    centres = np.eye(8, dtype=np.float32)[:5]
    noise = unit(1, 200) * 0.1
    vectors = np.repeat(centres, 40, axis=0) + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    assert ((centres @ choose_routes(vectors, 5).T).max(axis=1) > 0.98).all()


def test_equal_vectors_give_routes_all_the_same() -> None:
    same = np.repeat(unit(3, 1), 30, axis=0)
    assert np.allclose(choose_routes(same, 4) @ same[0], 1, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["bell", "Lindholm", "1874", "海", "…"]), max_size=60), st.integers(2, 12))
def test_long_texts_are_cut_into_windows_that_the_embedder_reads(words: list[str], most: int) -> None:
    embedder = HashingEmbedder(max_tokens=most)
    text = " ".join(words)
    pieces = windows(text, embedder)
    if embedder.tokenizer.count(text) <= most:
        assert pieces == [text]
    assert all(embedder.tokenizer.count(piece) <= most for piece in pieces)
