from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import UsageError
from lightrag.lexical import EvidenceTextCompressor, StatisticalScorer, TextCompressor
from lightrag.models.tokenization import EstimatingTokenizer
from lightrag.types import Chunk, Evidence, LatentPart

from .test_compressor import HARBOUR, ORCHARD


def evidence(*texts: str) -> list[Evidence]:
    chunks = [Chunk(f"c{i}", "d", i, text, 0, len(text), tokens=len(text) // 4) for i, text in enumerate(texts)]
    return [Evidence(chunk, score=1.0 / (index + 1)) for index, chunk in enumerate(chunks)]


@pytest.fixture
def compressor() -> TextCompressor:
    return TextCompressor(StatisticalScorer())


async def test_evidence_fits_its_budget_with_numbers_for_citations(compressor: TextCompressor) -> None:
    context = await EvidenceTextCompressor(compressor).compress(
        evidence(HARBOUR, ORCHARD), 30, "Who opened the harbour?"
    )
    assert context.kind == "text"
    assert context.tokens <= 30
    text = "".join(part for part in context.parts if not isinstance(part, LatentPart))
    assert text.startswith("[1]\nThe harbour was opened")
    assert EstimatingTokenizer().count(text) == context.tokens
    assert [item.chunk_id for item in context.allocation] == ["c0", "c1"]
    assert len(context.parts) == len(context.evidence)


async def test_evidence_that_fits_is_left_alone(compressor: TextCompressor) -> None:
    context = await EvidenceTextCompressor(compressor).compress(evidence(HARBOUR), 500, "")
    assert context.kind == "raw"
    assert context.parts == (f"[1]\n{HARBOUR}",)
    assert context.allocation[0].ratio == 1


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.sampled_from("abc d.\n"), max_size=50), min_size=1, max_size=6), st.integers(1, 60))
def test_no_budget_is_ever_exceeded(texts: list[str], budget: int) -> None:
    compressor = EvidenceTextCompressor(TextCompressor(StatisticalScorer()))
    context = asyncio.run(compressor.compress(evidence(*texts), budget, "a"))
    assert context.tokens <= budget
    assert len(context.evidence) == len(context.parts)


async def test_misuse_is_refused(compressor: TextCompressor) -> None:
    adapter = EvidenceTextCompressor(compressor)
    with pytest.raises(UsageError, match="budget"):
        await adapter.compress(evidence(HARBOUR), 0, "q")
    with pytest.raises(UsageError, match="no evidence"):
        await adapter.compress([], 10, "q")
