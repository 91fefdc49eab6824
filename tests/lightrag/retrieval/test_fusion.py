"""Evidence in nats."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.retrieval.fusion import UNSPOKEN_PASSAGE, dense_evidence, fuse, trust_in_passages

cosines = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=30)


@settings(max_examples=60, deadline=None)
@given(cosines, cosines)
def test_more_similar_is_never_less_evidence(similarities: list[float], background: list[float]) -> None:
    ordered = np.sort(np.array(similarities, np.float32))
    assert (np.diff(dense_evidence(ordered, np.array(background, np.float32))) >= 0).all()


def test_three_deviations_carry_four_and_a_half_nats() -> None:
    background = np.random.default_rng(0).normal(0.1, 0.05, 100_000).astype(np.float32)
    nats = dense_evidence(np.array([0.1, 0.25, -0.05], np.float32), background)
    np.testing.assert_allclose(nats, [0, 4.5, -4.5], atol=0.05)


def test_a_corpus_of_one_passage_has_finite_evidence() -> None:
    one = np.array([0.5], np.float32)
    assert np.isfinite(dense_evidence(one, one)).all()
    assert np.isfinite(dense_evidence(one, np.zeros(0, np.float32))).all()


def test_where_similarities_stand_out_they_outweigh_words_and_elsewhere_they_do_not() -> None:
    words = np.array([0.0, 6.0], np.float32)
    background = np.random.default_rng(0).normal(0.0, 0.1, 10_000).astype(np.float32)
    clear = dense_evidence(np.array([0.8, 0.1], np.float32), background)
    vague = dense_evidence(np.array([0.25, 0.1], np.float32), background)
    assert np.argmax(fuse(clear, words)) == 0
    assert np.argmax(fuse(vague, words)) == 1


def test_passages_in_a_language_that_the_embedder_does_not_speak_are_hardly_trusted() -> None:
    trust = trust_in_passages(["en", "th", "und"], frozenset({"en"}))
    np.testing.assert_allclose(trust, [1, UNSPOKEN_PASSAGE, 1])
    np.testing.assert_allclose(trust_in_passages(["en", "th"], frozenset()), [1, 1])
