"""What retrieval must reach on reference sets; skipped where those are absent.

The whole table is ``python -m tests.benchmarks.retrieval_quality``. Here is one set per mechanism, small enough to run
every time: words in five languages without any model, and links with the bundled encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lightrag.config import EmbedderSettings
from lightrag.models import open_embedder
from lightrag.retrieval.lexical import LexicalIndex, best
from tests.benchmarks.retrieval_quality import run_set
from tests.benchmarks.retrieval_sets import reference_sets, xquad

SETS = {wanted.name: wanted for wanted in reference_sets()}


@pytest.mark.parametrize(
    ("language", "required"), [("en", 0.93), ("es", 0.91), ("zh", 0.92), ("ar", 0.86), ("th", 0.92)]
)
def test_words_alone_find_the_paragraph(shared: Callable[[str], Path], language: str, required: float) -> None:
    (corpus,) = xquad(language)(shared("data"))
    index = LexicalIndex.build([passage.text for passage in corpus.passages], [language] * len(corpus.passages))
    hits = [
        corpus.passages[best(index.scores(question.text), 1)[0]].passage_id in question.relevant
        for question in corpus.questions
        if index.query_terms(question.text)
    ]
    assert np.sum(hits) / len(corpus.questions) >= required


@pytest.mark.slow
async def test_links_find_the_second_hop_that_no_query_names(shared: Callable[[str], Path]) -> None:
    embedder = open_embedder(EmbedderSettings())
    table = await run_set(SETS["hotpotqa"], shared("data"), "reported", embedder, "")
    await embedder.close()
    assert table["clues"]["recall@2"] >= 0.77
    assert table["clues"]["recall@5"] >= 0.94
    for name, hybrid in table["hybrid"].items():
        assert hybrid >= max(table["dense"][name], table["bm25"][name])
