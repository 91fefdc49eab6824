"""Rerankers, on a tiny random cross-encoder, against sentence-transformers itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightrag.errors import BackendError, UsageError
from lightrag.models import Reranker, open_reranker
from lightrag.models.cross_encoder import CrossEncoderReranker
from tests.checkpoints import save_causal_lm

TEXTS = ["The council voted.", "Ice. " * 80, "港口办公室", ""]


async def test_scores_are_those_of_the_model_in_the_order_of_the_texts(tiny_cross_encoder: Path) -> None:
    from sentence_transformers import CrossEncoder

    reranker = open_reranker(str(tiny_cross_encoder))
    assert isinstance(reranker, Reranker)
    reference = CrossEncoder(str(tiny_cross_encoder), device="cpu")
    scores = await reranker.score("What did the council decide?", TEXTS)
    expected = [float(reference.predict([("What did the council decide?", text)])[0]) for text in TEXTS]
    assert scores == pytest.approx(expected, abs=1e-5)
    assert len(set(scores)) == len(TEXTS)
    assert await reranker.score("query", []) == []
    await reranker.close()
    with pytest.raises(UsageError, match="closed"):
        await reranker.score("query", TEXTS)


def test_no_name_means_no_reranker() -> None:
    assert open_reranker("") is None


async def test_what_is_not_a_reranker_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="/no/such/model"):
        await CrossEncoderReranker("/no/such/model").score("query", TEXTS)
    folder = save_causal_lm(tmp_path, "llama", num_labels=3)
    with pytest.raises(BackendError, match=str(folder)):
        await CrossEncoderReranker(str(folder)).score("query", TEXTS)
