"""From text to logits through the released behaviour, as its users would call it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from lightrag.errors import UsageError
from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.estimator import TokenEstimator
from lightrag.latents.published.systems import PublishedFlexRAG, PublishedTacZip

from .parity import Reference, Shared, load_lm, read_reference


def template_of(reference: Reference) -> str:
    return reference.about["template"].replace("{C}", "{context}").replace("{Q}", "{question}")


def logits_of(lm: Any, embeds: torch.Tensor) -> Any:
    with torch.inference_mode():
        return lm(inputs_embeds=embeds[None]).logits[0, -1].numpy()


def test_flexrag_from_text_to_logits(shared: Shared) -> None:
    reference, folder = read_reference(shared, "flexrag"), shared("parity/flexrag_ckpt")
    lm, tokenizer = load_lm(folder / "lm"), AutoTokenizer.from_pretrained(folder / "lm")
    encoder = LatentEncoder.load(folder / "encoder")
    system = PublishedFlexRAG(encoder, tokenizer, lm_max_length=500, encoder_max_length=128)
    question, contexts = reference.about["question"], reference.about["contexts"]
    for name, ratio in (("mixed_r4_lm500", 4), ("mixed_r8_lm500", 8)):
        plan = system.uniform(template_of(reference), contexts["long"], question, ratio)
        logits = logits_of(lm, system.embeds(plan, lm.get_input_embeddings()))
        np.testing.assert_allclose(logits, reference.array(name, "last_logits")[0], atol=1e-4)
    case = reference.cases["token_r8_chunks"]
    system = PublishedFlexRAG(encoder, tokenizer, encoder_max_length=128)
    plan = system.tokens(template_of(reference), contexts["mid"], question, 8, lambda _: case["important"])
    logits = logits_of(lm, system.embeds(plan, lm.get_input_embeddings()))
    np.testing.assert_allclose(logits, reference.array("token_r8_chunks", "last_logits")[0], atol=1e-4)


def test_taczip_from_text_to_logits(shared: Shared) -> None:
    reference, folder = read_reference(shared, "taczip_llama"), shared("parity/taczip_llama_ckpt/full")
    lm, tokenizer = load_lm(folder.parent / "lm"), AutoTokenizer.from_pretrained(folder)
    question, contexts = reference.about["question"], reference.about["contexts"]
    encoder, estimator = LatentEncoder.load(folder), TokenEstimator.load(folder)
    for name, length in (("adapt_r8", "short"), ("adapt_r4_low2", "mid"), ("adapt_r4_chunks", "mid")):
        case = reference.cases[name]
        system = PublishedTacZip(
            encoder,
            tokenizer,
            instruction=case["instruction"],
            estimator=estimator,
            encoder_max_length=case["encoder_max_length"],
        )
        plan = system.adapted(
            template_of(reference),
            contexts[length],
            question,
            case["ratio"],
            query=case["queries"][0],
            proportion=case["proportion"],
            low=case["low"],
        )
        logits = logits_of(lm, system.embeds(plan, lm.get_input_embeddings()))
        np.testing.assert_allclose(logits, reference.array(name, "last_logits")[0], atol=1e-4)
    with pytest.raises(UsageError, match="estimator"):
        PublishedTacZip(encoder, tokenizer).adapted("{context}", "a", "b", 4)


def test_a_foreign_tokenizer_is_noticed(tiny_llama: Path) -> None:
    encoder = LatentEncoder.load(tiny_llama)
    from lightrag.latents.inputs import EncoderInput

    with pytest.raises(UsageError, match="another model"):
        encoder.encode([EncoderInput((1, 10_000_000))])
