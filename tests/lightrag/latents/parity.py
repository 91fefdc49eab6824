"""Reads the reference numbers of the published systems and runs a plan through encoder and language model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM

from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.published.plan import PublishedPlan
from lightrag.latents.published.prompt import PromptCut

Shared = Callable[[str], Path]


@dataclass(frozen=True)
class Reference:
    arrays: Any
    cases: dict[str, dict[str, Any]]
    about: dict[str, Any]

    def array(self, case: str, name: str) -> Any:
        return self.arrays[f"{case}/{name}"]

    def rows(self, case: str, name: str) -> list[list[int]]:
        return [row[row >= 0].tolist() for row in self.array(case, name)]

    def cuts(self, case: str) -> list[PromptCut]:
        parts = (self.rows(case, f"{name}_ids") for name in ("head", "context", "tail"))
        return [PromptCut(tuple(head), tuple(context), tuple(tail)) for head, context, tail in zip(*parts, strict=True)]

    def of_kind(self, kind: str) -> dict[str, dict[str, Any]]:
        return {name: case for name, case in self.cases.items() if case["kind"] == kind}


def read_reference(shared: Shared, name: str) -> Reference:
    cases = json.loads(shared(f"parity/{name}.json").read_text(encoding="utf-8"))
    about = cases.pop("_about")
    return Reference(np.load(shared(f"parity/{name}.npz")), cases, about)


def unpadded(ids: Any, mask: Any) -> list[list[int]]:
    """Rows without their padding on the left."""
    return [row[keep.astype(bool)].tolist() for row, keep in zip(ids, mask, strict=True)]


def check_states_and_logits(
    reference: Reference, case: str, encoder: LatentEncoder, lm: Any, plans: Sequence[PublishedPlan]
) -> None:
    states = [encoder.encode(plan.inputs, plan.keep) for plan in plans]
    joined = [torch.cat(row) for row in states]
    np.testing.assert_allclose(torch.cat(joined).numpy(), reference.array(case, "encoder_embeds"), atol=1e-4, rtol=0)
    for row, plan in enumerate(plans):
        embeds = lm.get_input_embeddings()(torch.tensor(plan.input_ids))
        embeds = embeds.index_put((torch.tensor(list(plan.placeholders)),), joined[row])
        with torch.inference_mode():
            logits = lm(inputs_embeds=embeds[None]).logits[0, -1]
        np.testing.assert_allclose(logits.numpy(), reference.array(case, "last_logits")[row], atol=1e-4, rtol=0)
        assert int(logits.argmax()) == int(reference.array(case, "generated")[row][0])


def load_lm(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
