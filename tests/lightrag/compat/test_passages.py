"""Cutting, embedding and searching one text, with the bundled encoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.compat.passages import Passages, embed
from lightrag.compat.readers import text_identity
from lightrag.config import EmbedderSettings
from lightrag.errors import ArtifactError, UsageError
from lightrag.models import HashingEmbedder, open_embedder
from lightrag.models.base import Embedder
from tests.lightrag.compat.checkpoints import BOOK, CHINESE_BOOK


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return open_embedder(EmbedderSettings())


@pytest.fixture(scope="module")
def passages(embedder: Embedder) -> Passages:
    return Passages.of(BOOK, embedder, max_tokens=64, language="en")


def test_each_text_brings_its_best_passages_and_the_first_text_counts_first(passages: Passages) -> None:
    rows = passages.find(["voted to build the observatory", "voted to build a lighthouse"], 1)
    assert ["the observatory" in passages.texts[rows[0]], "a lighthouse" in passages.texts[rows[1]]] == [True, True]
    more = passages.find(["voted to build the observatory", "voted to build a lighthouse"], 3)
    assert more[:2] == rows
    assert len(more) == len(set(more)) <= 6
    assert passages.find(["", "  "], 3) == []


def test_a_passage_longer_than_the_encoder_reads_is_embedded_whole(embedder: Embedder) -> None:
    long = "Nothing happened in Lindholm that year. " * 60 + "Then a comet fell into the harbour."
    one = Passages.of(long, embedder, max_tokens=2000, language="en")
    assert len(one.chunks) == 1 < one.chunks[0].tokens / embedder.max_tokens
    cut = Passages.of(long.replace("Then a comet fell into the harbour.", ""), embedder, max_tokens=2000, language="en")
    assert not np.allclose(one.vectors, cut.vectors, atol=1e-3)
    assert np.allclose(np.linalg.norm(one.vectors, axis=1), 1, atol=1e-5)


def test_words_find_passages_in_a_language_that_the_encoder_does_not_speak(embedder: Embedder) -> None:
    chinese = Passages.of(CHINESE_BOOK, embedder, max_tokens=64, language="zh")
    assert any("水手学校" in chinese.texts[row] for row in chinese.find(["水手学校"], 1))


def test_what_was_stored_is_found_the_same_way(passages: Passages, embedder: Embedder) -> None:
    again = Passages.restored(passages.texts, passages.vectors, embedder, trusted=True)
    clues = ["the mayor opened a theatre", "crowns for the flags"]
    assert again.find(clues, 3) == passages.find(clues, 3)
    with pytest.raises(ArtifactError, match="do not belong together"):
        Passages.restored(passages.texts[1:], passages.vectors, embedder, trusted=True)


def test_half_precision_counts_as_the_same_vectors(
    passages: Passages, embedder: Embedder, caplog: pytest.LogCaptureFixture
) -> None:
    Passages.restored(passages.texts, passages.vectors.astype(np.float16).astype(np.float32), embedder, trusted=False)
    assert "embedded anew" not in caplog.text


def test_an_empty_text_has_no_passages(embedder: Embedder) -> None:
    with pytest.raises(UsageError, match="nothing to memorise"):
        Passages.of(" \n ", embedder, max_tokens=64, language="und")


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=400))
@settings(max_examples=40, deadline=None)
def test_passages_together_have_the_identity_of_their_text(text: str) -> None:
    if not text.strip():
        return
    made = Passages.of(text, HashingEmbedder(), max_tokens=16, language="und")
    assert text_identity("".join(made.texts)) == text_identity(text)
    assert embed(made.chunks, HashingEmbedder()).shape[0] == len(made.chunks)


@given(st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_passages_from_all_over_are_in_order_and_reach_both_ends(count: int) -> None:
    made = Passages.of(BOOK, HashingEmbedder(), max_tokens=32, language="en")
    rows = made.evenly(count)
    assert rows == sorted(set(rows))
    assert len(rows) <= count
    assert rows[0] == 0
    assert count == 1 or rows[-1] == len(made.chunks) - 1
