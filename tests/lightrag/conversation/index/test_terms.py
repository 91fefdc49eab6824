"""Indexes that follow each other over mostly the same texts, against indexes made from nothing."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightrag.conversation.index.terms import KnownTerms
from lightrag.retrieval.lexical import K1, B, LexicalIndex

WORDS = ("boats", "boat", "the", "sailing", "sailed", "barcos", "mayor", "Müller's", "1998", "?")
TEXTS = st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=8)
QUESTIONS = ("the boat", "sailing mayor 1998", "barcos Müller")


def scores(index: LexicalIndex) -> list[np.ndarray]:
    return [index.scores(question) for question in QUESTIONS]


@given(st.lists(st.tuples(TEXTS, st.sampled_from(["en", "es", "und"])), min_size=1, max_size=5))
def test_every_index_is_what_it_would_be_alone_and_stays_so(versions: list[tuple[list[str], str]]) -> None:
    terms = KnownTerms()
    made = [terms.index(texts, language, k1=K1, b=B) for texts, language in versions]
    # Compared at the end: later indexes must not have changed what earlier ones say.
    for index, (texts, language) in zip(made, versions, strict=True):
        alone = LexicalIndex.build(texts, [language] * len(texts))
        assert index.passages == len(texts)
        for ours, expected in zip(scores(index), scores(alone), strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-6)
