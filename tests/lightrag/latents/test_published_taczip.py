"""Parity with TacZip's published code (reference run: its own modules on tiny checkpoints, fp32, CPU)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.estimator import TokenEstimator, published_end
from lightrag.latents.passages import find_bos
from lightrag.latents.published import taczip
from lightrag.latents.published.plan import PublishedPlan
from lightrag.latents.published.prompt import PromptCutter
from lightrag.models.tokenization import HuggingFaceTokenizer

from .parity import Reference, Shared, check_states_and_logits, load_lm, read_reference, unpadded

BOS = 1


@pytest.fixture
def reference(shared: Shared) -> Reference:
    return read_reference(shared, "taczip_llama")


@pytest.fixture
def checkpoint(shared: Shared) -> Path:
    return shared("parity/taczip_llama_ckpt")


def plan_case(reference: Reference, name: str, case: dict[str, Any]) -> list[PublishedPlan]:
    instruction = reference.about["instruction_ids"] if case["instruction"] else ()
    frame = taczip.framing(BOS, instruction, case["encoder_max_length"])
    limit = case["lm_max_length"]
    cuts = reference.cuts(name)
    if case["kind"] == "uniform":
        return [taczip.plan_uniform(cut, case["ratio"], frame, lm_max_length=limit) for cut in cuts]
    plans = []
    for row, cut in enumerate(cuts):
        mask = reference.array(name, "passage_mask")[row].astype(bool)
        assert list(taczip.passage_ids(cut.context, frame)) == reference.array(name, "passage_ids")[row][mask].tolist()
        scores = reference.array(name, "scores")[row][mask].tolist()
        options = {"proportion": case["proportion"], "low": case["low"], "lm_max_length": limit}
        plans.append(taczip.plan_tokens(cut, case["ratio"], frame, scores, **options))
    return plans


def test_every_prompt_gets_the_published_inputs_positions_states_and_logits(
    reference: Reference, checkpoint: Path
) -> None:
    lm = load_lm(checkpoint / "lm")
    encoder = LatentEncoder.load(checkpoint / "full")
    cases = {name: case for name, case in reference.cases.items() if case["kind"] in {"uniform", "token"}}
    assert len(cases) >= 13
    for name, case in cases.items():
        plans = plan_case(reference, name, case)
        inputs = reference.array(name, "encoder_input_ids"), reference.array(name, "encoder_attention_mask")
        assert [list(item.ids) for plan in plans for item in plan.inputs] == unpadded(*inputs), name
        padding = (inputs[1] == 0).sum(1)
        kept = [
            [position - pad for position in row]
            for row, pad in zip(reference.rows(name, "encoder_indices"), padding, strict=True)
        ]
        assert [list(row) for plan in plans for row in plan.keep] == kept, name
        fed = unpadded(reference.array(name, "input_ids"), reference.array(name, "attention_mask"))
        assert [list(plan.input_ids) for plan in plans] == fed, name
        check_states_and_logits(reference, name, encoder, lm, plans)


def test_prompts_are_cut_where_the_published_code_cuts_them(reference: Reference, checkpoint: Path) -> None:
    cutter = PromptCutter(AutoTokenizer.from_pretrained(checkpoint / "full"), "chat")
    about = reference.about
    template = about["template"].replace("{C}", "{context}").replace("{Q}", "{question}")
    cuts = {length: cutter.cut(template, text, about["question"]) for length, text in about["contexts"].items()}
    for name, length in (("uniform_r4", "short"), ("chunks_r4_task", "mid"), ("truncated_r2_task", "long")):
        assert reference.cuts(name) == [cuts[length]], name


def test_estimator_scores_and_choices_equal_the_published_ones(reference: Reference, checkpoint: Path) -> None:
    for path in (checkpoint / "full", checkpoint / "embedding"):
        estimator = TokenEstimator.load(path)
        for name in reference.of_kind("token"):
            for row, expected in enumerate(reference.array(name, "scores")):
                mask = reference.array(name, "passage_mask")[row].astype(bool)
                query = unpadded(reference.array(name, "query_ids"), reference.array(name, "query_mask"))[row]
                vectors = estimator.raw_vectors(reference.array(name, "passage_ids")[row][mask].tolist())
                scores = estimator.scores(estimator.query_vector(query), vectors)
                np.testing.assert_allclose(scores, expected[mask], atol=5e-4, rtol=0)
                top = len(scores) // 16
                assert set(np.argsort(-scores)[:top]) == set(np.argsort(-expected[mask])[:top])


def test_questions_end_as_the_estimator_was_trained(reference: Reference, checkpoint: Path) -> None:
    tokenizer = HuggingFaceTokenizer.open(checkpoint / "full")
    assert find_bos(checkpoint / "full", tokenizer) == BOS
    estimator = TokenEstimator.load(checkpoint / "full", bos=BOS, end_ids=published_end(tokenizer, BOS))
    ids = tokenizer.ids_of([reference.about["question"]])[0]
    expected = unpadded(reference.array("adapt_r4", "query_ids"), reference.array("adapt_r4", "query_mask"))[0]
    assert list(estimator.query_ids(ids)) == expected
    long = estimator.query_ids(ids * 100)
    assert len(long) == estimator.max_query_tokens
    assert long[-2:] == tuple(expected[-2:])
