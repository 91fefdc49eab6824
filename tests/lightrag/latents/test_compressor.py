from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, UsageError
from lightrag.latents.allocation import FocusSpan
from lightrag.latents.compressor import LatentCompressor, LatentOptions
from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.estimator import TokenEstimator
from lightrag.latents.importance import (
    EmbeddingImportance,
    EstimatorImportance,
    Importance,
    LexicalImportance,
    Passage,
    RerankerImportance,
    SurprisalImportance,
)
from lightrag.latents.layout import parse_layout
from lightrag.latents.memo import StateMemo
from lightrag.latents.passages import PassageEncoder
from lightrag.latents.resident import ResidentLatents
from lightrag.latents.store import LatentStore, PartWriter, below, write_header
from lightrag.lexical import SurprisalScorer
from lightrag.models import HashingEmbedder
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.storage.objects import open_object_store
from lightrag.types import Chunk, Evidence, LatentPart

TEXTS = (
    "The harbour office keeps the records of every ship. In the first winter the ice closed the bay. " * 2,
    "The council voted to build a longer pier. It was opened by the mayor in 1874, at noon. " * 2,
    "Answer with the words of the text: who, what, where, when. The spring of 1871 was wet. " * 2,
)


def evidence(texts: Sequence[str] = TEXTS) -> list[Evidence]:
    chunks = [Chunk(f"c{i}", "d", i, text, 0, len(text), tokens=len(text) // 4) for i, text in enumerate(texts)]
    return [Evidence(chunk, score=1.0 / (index + 1)) for index, chunk in enumerate(chunks)]


@pytest.fixture(scope="module")
def encoder(tiny_llama: Path) -> PassageEncoder:
    return PassageEncoder(LatentEncoder.load(tiny_llama), HuggingFaceTokenizer.open(tiny_llama), max_length=64)


def latents(context_parts: Sequence[object]) -> list[LatentPart]:
    return [part for part in context_parts if isinstance(part, LatentPart)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 160), st.sampled_from(["", "raw:1, 4x:1, 16x", "8x"]), st.booleans())
def test_no_budget_is_exceeded_and_an_allocated_one_is_spent(
    encoder: PassageEncoder, budget: int, layout: str, joint: bool
) -> None:
    options = LatentOptions(layout=parse_layout(layout) if layout else (), joint=joint)
    compressor = LatentCompressor(encoder, importance=LexicalImportance(), options=options)
    context = asyncio.run(compressor.compress(evidence(), budget, "Who opened the pier?"))
    assert context.tokens <= budget
    counted = sum(
        len(part.states) if isinstance(part, LatentPart) else encoder.tokenizer.count(part) for part in context.parts
    )
    assert counted == context.tokens
    if not layout and context.kind == "latents":
        assert context.tokens == budget
    assert {item.chunk_id for item in context.allocation} == {"c0", "c1", "c2"}
    for part in latents(context.parts):
        pieces = [item for item in context.allocation if item.chunk_id == part.source]
        assert sum(item.kept for item in pieces) == len(part.states)


async def test_stored_latents_give_what_encoding_now_gives(encoder: PassageEncoder) -> None:
    store, locate = open_object_store("memory://"), below("x")
    writer = PartWriter("p0", encoder.hidden_size, "float32")
    ids = [row.ids for row in encoder.tokenize(TEXTS[:2])]
    for number, states in enumerate(encoder.encode(ids)):
        writer.add(f"c{number}", states)
    writer.write(store, locate)
    write_header(store, locate, [writer], encoder.fingerprint, encoder.hidden_size, "float32")
    stored = ResidentLatents(LatentStore(store, locate, fingerprint=encoder.fingerprint))
    online = LatentCompressor(encoder, importance=LexicalImportance())
    fresh = await online.compress(evidence(), 60, "pier")
    reread = await online.with_stored(stored).compress(evidence(), 60, "pier")
    assert reread.notes == ("latents of 2 of 3 passages were read from storage, 1 had none and were encoded now",)
    origins = {piece.chunk_id: piece.latents for piece in reread.allocation if piece.kept}
    assert origins == {"c0": "stored", "c1": "stored", "c2": "encoded"}
    assert {piece.latents for piece in fresh.allocation if piece.kept} == {"encoded"}
    shares = [(piece.chunk_id, piece.start, piece.end, piece.kept) for piece in reread.allocation]
    assert shares == [(piece.chunk_id, piece.start, piece.end, piece.kept) for piece in fresh.allocation]
    for first, second in zip(latents(fresh.parts), latents(reread.parts), strict=True):
        torch.testing.assert_close(first.states, second.states, atol=1e-4, rtol=1e-4)
    assert stored.fetched_bytes > 0
    with pytest.raises(UsageError, match="joint"):
        LatentCompressor(encoder, stored=stored, options=LatentOptions(joint=True))
    other = PassageEncoder(encoder.encoder, encoder.tokenizer, max_length=32)
    with pytest.raises(ArtifactError, match="made by encoder"):
        LatentCompressor(other, stored=stored)


async def test_a_passage_is_encoded_for_one_question_only(encoder: PassageEncoder) -> None:
    passages = [row.ids for row in encoder.tokenize(TEXTS)]
    size = encoder.hidden_size * 4
    memo = StateMemo(encoder, (len(passages[0]) + len(passages[1])) * size)
    keep = [[0, 5], [3], [1, 2, 7]]
    first = memo.states(passages, keep)
    assert memo.encoded == 3
    assert torch.equal(first[2], memo.states(passages[2:], keep[2:])[0])
    assert memo.encoded == 3
    memo.states(passages[:1], keep[:1])
    assert memo.encoded == 4  # The least recently used one had to go.
    plain = StateMemo(encoder, 0).states(passages, keep)
    for one, other in zip(first, plain, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


async def test_a_layout_line_mixes_raw_and_compressed(encoder: PassageEncoder) -> None:
    compressor = LatentCompressor(encoder, options=LatentOptions(layout=parse_layout("raw:1, 4x:1, 16x")))
    context = await compressor.compress(evidence(), 90, "q")
    assert context.kind == "mixed"
    assert [type(part).__name__ for part in context.parts] == ["str", "str", "LatentPart", "str", "LatentPart"]
    assert context.parts[0] == f"[1]\n{TEXTS[0]}"
    ratios = [item.ratio for item in context.allocation]
    assert ratios[0] == 1
    assert 3 < ratios[1] <= 4
    assert 12 < ratios[2] <= 16


async def test_evidence_that_fits_stays_text(encoder: PassageEncoder) -> None:
    context = await LatentCompressor(encoder).compress(evidence(), 5000, "q")
    assert context.kind == "raw"
    assert context.notes == ()


class LengthReranker:
    name = "length"

    async def score(self, query: str, texts: Sequence[str]) -> list[float]:
        return [float(len(text)) for text in texts]

    async def close(self) -> None:
        pass


def sources(encoder: PassageEncoder, folder: Path) -> list[Importance]:
    estimator = TokenEstimator.load(folder)
    return [
        LexicalImportance(),
        EmbeddingImportance(HashingEmbedder()),
        RerankerImportance(LengthReranker()),
        SurprisalImportance(SurprisalScorer(folder)),
        SurprisalImportance(SurprisalScorer(folder), "sentence"),
        EstimatorImportance(estimator, encoder.tokenizer),
        EstimatorImportance(estimator, encoder.tokenizer, unit="sentence"),
    ]


async def test_every_source_values_spans_of_tokens(encoder: PassageEncoder, tiny_llama: Path) -> None:
    passages = [
        Passage(f"c{i}", text, row) for i, (text, row) in enumerate(zip(TEXTS, encoder.tokenize(TEXTS), strict=True))
    ]
    for source in sources(encoder, tiny_llama):
        spans = await source.focus("When was the pier opened?", passages)
        assert spans, source.name
        for number in range(len(passages)):
            own = sorted((span.start, span.end) for span in spans if span.document == number)
            assert all(0 <= start < end <= len(passages[number].tokenized.ids) for start, end in own)
            assert all(first[1] <= second[0] for first, second in pairwise(own)), source.name
        context = await LatentCompressor(encoder, importance=source).compress(evidence(), 70, "When was the pier?")
        assert context.tokens == 70
        assert source.name in context.method


async def test_the_sentence_that_answers_keeps_every_token(encoder: PassageEncoder) -> None:
    compressor = LatentCompressor(encoder, importance=LexicalImportance())
    context = await compressor.compress(evidence(), 80, "What did the council vote to build, a longer pier?")
    whole = [item for item in context.allocation if item.reason == "whole" and item.end - item.start > 3]
    text = encoder.tokenize([TEXTS[1]])[0]
    pieces = [TEXTS[1][text.spans[item.start].start : text.spans[item.end - 1].end].strip() for item in whole]
    assert "The council voted to build a longer pier." in pieces


async def test_offline_estimator_vectors_give_the_online_values(encoder: PassageEncoder, tiny_llama: Path) -> None:
    estimator = TokenEstimator.load(tiny_llama)
    passages = [Passage("c0", TEXTS[0], encoder.tokenize(TEXTS[:1])[0])]
    online = await EstimatorImportance(estimator, encoder.tokenizer).focus("ice", passages)
    best = {span.start for span in sorted(online, key=lambda span: -span.importance)[:6]}
    for encoding, least in (("float32", 6), ("int8", 5), ("sign", 3)):
        store = open_object_store("memory://")
        writer = PartWriter("v", estimator.hidden_size, encoding)  # type: ignore[arg-type]  # one of its values
        writer.add("c0", estimator.token_vectors([passages[0].tokenized.ids])[0])
        writer.write(store, below("v"))
        write_header(store, below("v"), [writer], estimator.fingerprint, estimator.hidden_size, encoding)  # type: ignore[arg-type]
        vectors = ResidentLatents(LatentStore(store, below("v")))
        offline = await EstimatorImportance(estimator, encoder.tokenizer, vectors).focus("ice", passages)
        chosen = {span.start for span in sorted(offline, key=lambda span: -span.importance)[:6]}
        assert len(best & chosen) >= least, encoding


async def test_misuse_is_refused(encoder: PassageEncoder) -> None:
    with pytest.raises(UsageError, match="budget"):
        await LatentCompressor(encoder).compress(evidence(), 0, "q")
    with pytest.raises(UsageError, match="no evidence"):
        await LatentCompressor(encoder).compress([], 5, "q")
    assert FocusSpan(0, 1, 2, 0.5).importance == 0.5
