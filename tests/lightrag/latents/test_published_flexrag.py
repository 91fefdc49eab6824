"""Parity with FlexRAG's published code (reference run: its own modules on tiny checkpoints, fp32, CPU)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.published import flexrag
from lightrag.latents.published.likelihood import important_tokens
from lightrag.latents.published.plan import PublishedPlan, choose_positions
from lightrag.latents.published.prompt import PromptCutter
from lightrag.latents.published.sentences import rank_sentences, sentence_boundaries

from .parity import Reference, Shared, check_states_and_logits, load_lm, read_reference, unpadded

BOS, EOS = 1, 2


@pytest.fixture
def reference(shared: Shared) -> Reference:
    return read_reference(shared, "flexrag")


@pytest.fixture
def checkpoint(shared: Shared) -> Path:
    return shared("parity/flexrag_ckpt")


def plan_case(reference: Reference, name: str, case: dict[str, Any]) -> list[PublishedPlan]:
    frame = flexrag.framing(BOS, EOS, case.get("encoder_max_length", 4096))
    options = {"lm_max_length": case.get("lm_max_length", 4096)}
    ratio = case["ratio"]
    cuts = reference.cuts(name)
    if case["kind"] == "uniform":
        return [flexrag.plan_uniform(cut, ratio, frame, **options) for cut in cuts]
    if case["kind"] == "token":
        return [flexrag.plan_tokens(cut, ratio, frame, case["important"], low=case["low"], **options) for cut in cuts]
    importance = flexrag.SentenceImportance(
        tuple((entry["idx1"], entry["idx2"]) for entry in case["sentence_begin_indices"]),
        tuple(case["sentence_priority_list"]),
        tuple(map(tuple, case["sentences_ids_list"])),
    )
    assert flexrag.group_sentences(importance.boundaries) == importance.groups
    return [
        flexrag.plan_sentences(cut, ratio, frame, importance, proportion=case["proportion"], low=case["low"], **options)
        for cut in cuts
    ]


def test_every_prompt_gets_the_published_inputs_positions_states_and_logits(
    reference: Reference, checkpoint: Path
) -> None:
    lm = load_lm(checkpoint / "lm")
    own = LatentEncoder.load(checkpoint / "encoder")
    from_lm = LatentEncoder.load(checkpoint / "lm", layers=2)
    cases = {name: case for name, case in reference.cases.items() if case["kind"] in {"uniform", "token", "sentence"}}
    assert len(cases) >= 17
    for name, case in cases.items():
        plans = plan_case(reference, name, case)
        assert [list(item.ids) for plan in plans for item in plan.inputs] == reference.rows(name, "chunk_ids"), name
        assert [list(row) for plan in plans for row in plan.keep] == reference.rows(name, "chunk_keep"), name
        fed = unpadded(reference.array(name, "input_ids"), reference.array(name, "attention_mask"))
        assert [list(plan.input_ids) for plan in plans] == fed, name
        check_states_and_logits(reference, name, from_lm if "encoder" in case else own, lm, plans)


def test_prompts_are_cut_where_the_published_code_cuts_them(reference: Reference, checkpoint: Path) -> None:
    cutter = PromptCutter(AutoTokenizer.from_pretrained(checkpoint / "lm"), "llama-2")
    about = reference.about
    template = about["template"].replace("{C}", "{context}").replace("{Q}", "{question}")
    cuts = {length: cutter.cut(template, text, about["question"]) for length, text in about["contexts"].items()}
    for name, length in (("uniform_r4", "short"), ("chunks_r4", "mid"), ("mixed_r4_lm500", "long")):
        assert reference.cuts(name) == [cuts[length]], name


def test_positions_of_every_method_equal_the_published_ones(reference: Reference) -> None:
    for name, case in reference.of_kind("index").items():
        sampler = random.Random(case["python_seed"])
        keep = [choose_positions(n, case["ratio"], 0, case["method"], sampler) for n in case["lengths"]]
        assert keep == reference.rows(name, "keep"), name


def test_sentences_begin_where_the_published_code_finds_them(reference: Reference, checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint / "lm")
    for name, case in reference.of_kind("sentence").items():
        inputs = reference.rows(name, "chunk_ids")
        found = sentence_boundaries(
            inputs, case["sentences"], lambda text: tokenizer(text)["input_ids"], tokenizer.decode
        )
        assert found == tuple((entry["idx1"], entry["idx2"]) for entry in case["sentence_begin_indices"]), name
        count = len(case["sentence_priority_list"])
        vectors = np.eye(count, dtype=np.float32)
        ranked = rank_sentences(found, vectors, np.arange(count, 0, -1).astype(np.float32))
        assert list(ranked.priority) == [number for group in case["sentences_ids_list"] for number in group]


def test_likelihood_finds_the_published_tokens(reference: Reference, checkpoint: Path) -> None:
    lm = load_lm(checkpoint / "lm")

    def losses(ids: Sequence[int]) -> Any:
        row = torch.tensor([ids])
        with torch.inference_mode():
            logits = lm(input_ids=row).logits[0, :-1]
        return torch.nn.functional.cross_entropy(logits, row[0, 1:], reduction="none").numpy().copy()

    for name, case in reference.of_kind("likelihood").items():
        for row, ids in enumerate(reference.rows(name, "chunk_ids")):
            np.testing.assert_allclose(losses(ids), reference.array(name, "surprisal")[row][: len(ids) - 1], atol=1e-4)
            found = important_tokens(ids, losses, case["proportion"], window=case["iterative_size"])
            assert found == reference.rows(name, "important")[row], name


@pytest.mark.parametrize("length", [3, 60, 150, 199, 200, 399, 400, 401, 900])
def test_likelihood_survives_any_length(length: int) -> None:
    rng = np.random.default_rng(length)
    values = rng.random(length).astype(np.float32)
    found = important_tokens(list(range(length)), lambda ids: values[list(ids)][1:].copy(), 0.1)
    assert found == sorted(set(found))
    assert all(0 < position < length for position in found)
