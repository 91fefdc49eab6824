"""FlexRAG and TacZip as a user takes them: from passages to an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import lightrag
from lightrag.errors import ArtifactError, UsageError
from lightrag.latents.importance import EmbeddingImportance, LexicalImportance
from lightrag.latents.published.plan import PublishedPlan
from lightrag.latents.systems import FlexRAG, SystemOptions, TacZip
from lightrag.models import HashingEmbedder
from lightrag.types import Chunk, Document, Evidence

from .parity import Reference, Shared, read_reference

QUESTION = "Who opened the pier?"
TEXTS = [
    "The harbour office keeps the records of every ship. In the first winter the ice closed the bay. " * 2,
    "The council voted to build a longer pier. It was opened by the mayor in 1874, at noon. " * 2,
]


@pytest.fixture(scope="module")
def rag(tiny_llama: Path) -> Iterator[FlexRAG]:
    with FlexRAG(tiny_llama, tiny_llama) as system:
        yield system


def template_of(reference: Reference) -> str:
    return reference.about["template"].replace("{C}", "{context}").replace("{Q}", "{question}")


def test_both_are_public() -> None:
    assert lightrag.FlexRAG is FlexRAG
    assert lightrag.TacZip is TacZip


def test_a_ratio_compresses_the_passages_and_the_question_is_answered_from_it(rag: FlexRAG) -> None:
    context = rag.compress(TEXTS, ratio=4, question=QUESTION)
    assert context.kind == "latents"
    kept = sum(item.kept for item in context.allocation)
    assert kept == -(-context.source_tokens // 4)
    answer = rag.generate(QUESTION, context, max_new_tokens=3)
    assert answer.compressed is context
    assert answer.usage.completion_tokens > 0
    again = rag.answer(QUESTION, TEXTS, ratio=4, max_new_tokens=3)
    assert again.text == answer.text


def test_a_budget_and_a_layout_are_kept(rag: FlexRAG) -> None:
    assert rag.compress(TEXTS, budget=50, question=QUESTION).tokens == 50
    mixed = rag.compress(TEXTS, layout="raw:1, 8x", question=QUESTION)
    assert mixed.kind == "mixed"
    assert {item.reason for item in mixed.allocation} == {"layout: raw", "layout: 8x"}
    assert rag.compress(TEXTS, layout="4x", budget=40).tokens <= 40


def test_passages_that_are_not_compressed_are_read_as_text(rag: FlexRAG) -> None:
    assert rag.generate(QUESTION, TEXTS, max_new_tokens=2).compressed.kind == "raw"


def test_documents_files_and_evidence_are_passages_too(rag: FlexRAG, tmp_path: Path) -> None:
    file = tmp_path / "pier.txt"
    file.write_text(TEXTS[1], encoding="utf-8")
    document = Document("d", "d.txt", "D", TEXTS[0], "0" * 64)
    chunk = Chunk("c", "d", 0, TEXTS[0], 0, len(TEXTS[0]), tokens=50)
    context = rag.compress([file, document, chunk, Evidence(chunk, 0.2), TEXTS[1]], ratio=4, question=QUESTION)
    assert len(context.evidence) == 5


def test_a_closed_object_says_so(tiny_llama: Path) -> None:
    system = FlexRAG(tiny_llama, tiny_llama)
    system.close()
    system.close()
    with pytest.raises(UsageError, match="closed"):
        system.compress(TEXTS, ratio=2)


async def test_it_works_where_an_event_loop_runs(rag: FlexRAG) -> None:
    await asyncio.sleep(0)
    assert rag.compress(TEXTS, ratio=8).tokens > 0


def test_misuse_is_named(rag: FlexRAG, tiny_llama: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="how much"):
        rag.compress(TEXTS)
    with pytest.raises(UsageError, match="how much"):
        rag.compress(TEXTS, ratio=4, budget=10)
    with pytest.raises(UsageError, match="at least 1"):
        rag.compress(TEXTS, ratio=0.5)
    with pytest.raises(UsageError, match="list"):
        rag.compress("one text", ratio=2)  # type: ignore[arg-type]  # the mistake that is tested
    with pytest.raises(ArtifactError, match="does not name its language model"):
        FlexRAG(tiny_llama)
    with pytest.raises(UsageError, match="embeddings"):
        FlexRAG(tiny_llama, tiny_llama, importance=LexicalImportance(), options=SystemOptions(compat="published"))


@pytest.mark.parametrize("importance", [None, EmbeddingImportance(HashingEmbedder())])
def test_published_flexrag_reproduces_the_first_token(importance: EmbeddingImportance | None, shared: Shared) -> None:
    reference, folder = read_reference(shared, "flexrag"), shared("parity/flexrag_ckpt")
    options = SystemOptions(compat="published", template=template_of(reference), proportion=0.25)
    with FlexRAG(folder / "encoder", folder / "lm", importance=importance, options=options) as system:
        question, text = reference.about["question"], reference.about["contexts"]["short"]
        plan = system.compress([text], ratio=4, question=question)
        assert isinstance(plan, PublishedPlan)
        if importance is None:
            assert list(plan.input_ids) == reference.rows("uniform_r4", "input_ids")[0]
        answer = system.generate(question, plan, max_new_tokens=4)
        assert answer.usage.completion_tokens > 0
        with pytest.raises(UsageError, match="whole ratios"):
            system.compress([text], budget=20, question=question)


def test_published_taczip_reproduces_the_input(shared: Shared) -> None:
    reference, folder = read_reference(shared, "taczip_llama"), shared("parity/taczip_llama_ckpt/full")
    case = reference.cases["adapt_r8"]
    options = SystemOptions(compat="published", template=template_of(reference), proportion=case["proportion"])
    with TacZip(folder, instruction=case["instruction"], options=options) as system:
        question, text = reference.about["question"], reference.about["contexts"]["short"]
        plan = system.compress([text], ratio=8, question=question)
        assert list(plan.input_ids) == reference.rows("adapt_r8", "input_ids")[0]
        with TacZip(folder, instruction=case["instruction"]) as corrected:
            context = corrected.compress([text], ratio=8, question=question)
            assert context.method == "latents: token estimator"
            assert corrected.generate(question, context, max_new_tokens=2).usage.completion_tokens > 0
            with pytest.raises(UsageError, match="published"):
                corrected.generate(question, plan)
