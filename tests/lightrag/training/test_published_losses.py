"""Losses and gradients equal those of the published training code (reference runs on tiny checkpoints, fp32)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightrag.latents.checkpoint import find_part
from lightrag.latents.inputs import EncoderInput
from lightrag.training.estimation import passage_loss, passage_scores, sequence_vectors, token_loss, token_vectors
from lightrag.training.finetuning import Example, finetuning_loss
from lightrag.training.pretraining import plan_windows, two_stream_loss
from tests.lightrag.latents.parity import Reference, Shared, load_lm, read_reference, unpadded

FAMILIES = ("flexrag", "taczip_llama")


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest, shared: Shared) -> tuple[Reference, Path]:
    return read_reference(shared, request.param), shared(f"parity/{request.param}_ckpt")


def trainable(path: Path) -> Any:
    return find_part(path, "encoder").build().requires_grad_(True)


def frozen_lm(checkpoint: Path) -> Any:
    return load_lm(checkpoint / "lm").requires_grad_(False)


def check_gradients(reference: Reference, case: str, encoder: Any) -> None:
    expected = reference.array(case, "grad_norms")
    names = reference.cases[case].get("grad_names") or [name for name, _ in encoder.named_parameters()]
    parameters = dict(encoder.named_parameters())
    norms = [float(parameters[name].grad.norm()) for name in names]
    np.testing.assert_allclose(norms, expected, rtol=1e-3)


def test_pretraining_loss_and_gradients(family: tuple[Reference, Path]) -> None:
    reference, checkpoint = family
    for name, case in reference.of_kind("pretrain").items():
        encoder, lm = trainable(checkpoint / "encoder"), frozen_lm(checkpoint)
        ids = torch.tensor(reference.array(name, "input_ids")[0])
        rng = np.random.default_rng(case.get("rng_seed", case.get("numpy_rng")))
        method = "stride" if case.get("method", "stride") == "stride" else "shuffled"
        if "torch_seed" in case:
            torch.manual_seed(case["torch_seed"])
        plan = plan_windows(len(ids), case["window"], case["candidates"], rng, method=method)  # type: ignore[arg-type]
        assert [len(row) for row in plan.keep] == reference.array(name, "compressed_per_window").tolist()[
            : len(plan.keep)
        ]
        result = two_stream_loss(encoder, lm, ids, plan, encoder_max_length=case["encoder_max_length"])
        np.testing.assert_allclose(result.loss.item(), reference.array(name, "loss"), rtol=1e-4)
        losses = reference.array(name, "window_loss")
        np.testing.assert_allclose(result.window_losses.detach().numpy(), losses, rtol=1e-4)
        result.loss.backward()
        check_gradients(reference, name, encoder)


def test_finetuning_loss_and_gradients(family: tuple[Reference, Path]) -> None:
    reference, checkpoint = family
    for name in reference.of_kind("finetune"):
        encoder, lm = trainable(checkpoint / "encoder"), frozen_lm(checkpoint)
        loss = finetuning_loss(encoder, lm, examples_of(reference, name))
        np.testing.assert_allclose(loss.item(), reference.array(name, "loss"), rtol=1e-4)
        loss.backward()
        check_gradients(reference, name, encoder)


def examples_of(reference: Reference, name: str) -> list[Example]:
    """The batch as the published collator made it, without its padding."""
    mask = reference.array(name, "attention_mask")
    ids = unpadded(reference.array(name, "input_ids"), mask)
    labels = unpadded(reference.array(name, "labels"), mask)
    inputs = unpadded(reference.array(name, "encoder_input_ids"), reference.array(name, "encoder_attention_mask"))
    gaps = (reference.array(name, "encoder_attention_mask") == 0).sum(1)
    keep = [
        [at - int(gap) for at in row] for row, gap in zip(reference.rows(name, "encoder_indices"), gaps, strict=True)
    ]
    examples, used = [], 0
    for row, places in enumerate(reference.rows(name, "ph_indices")):
        first, count = places[0] - int((mask[row] == 0).sum()), len(places)
        upto = used
        while count:
            count -= len(keep[upto])
            upto += 1
        own = [EncoderInput(tuple(item)) for item in inputs[used:upto]]
        examples.append(
            Example(tuple(ids[row]), tuple(labels[row]), first, tuple(own), tuple(map(tuple, keep[used:upto])))
        )
        used = upto
    return examples


def test_estimator_losses(shared: Shared) -> None:
    reference = read_reference(shared, "taczip_llama")
    model = find_part(shared("parity/taczip_llama_ckpt") / "full", "estimator").build()
    name = "token_loss"
    query = sequence_vectors(model, reference.array(name, "query_ids").tolist())[0]
    scores = token_vectors(model, reference.array(name, "passage_ids")[0].tolist()) @ query / 0.02
    loss = token_loss(scores, reference.array(name, "gold")[0].tolist())
    np.testing.assert_allclose(loss.item(), reference.array(name, "loss"), rtol=1e-4)
    name = "passage_loss"
    rows = {
        side: unpadded(reference.array(name, f"{side}_input_ids"), reference.array(name, f"{side}_attention_mask"))
        for side in ("query", "passage")
    }
    scores = passage_scores(sequence_vectors(model, rows["query"]), sequence_vectors(model, rows["passage"]))
    np.testing.assert_allclose(scores.numpy(), reference.array(name, "scores"), atol=5e-4)
    np.testing.assert_allclose(passage_loss(scores).item(), reference.array(name, "loss"), rtol=1e-4)
