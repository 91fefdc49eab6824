"""A loaded tiny model, and the reference it is compared with: transformers' own ``generate``, one prompt at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from lightrag.models.local.model import TransformersLanguageModel

Reference = Callable[[Sequence[int], int], str]


class FullMemory:
    """A full-context memory computed by transformers, in the form that the protocol asks for."""

    def __init__(self, model: Any, ids: list[int], fingerprint: str) -> None:
        import torch

        with torch.no_grad():
            cache = model(torch.tensor([ids]), use_cache=True).past_key_values
        self.ids = ids
        self.cells = len(ids)
        self.fingerprint = fingerprint
        self.states = [(layer.keys[0].clone(), layer.values[0].clone()) for layer in cache.layers]

    def layers(self) -> list[tuple[Any, Any]]:
        return self.states


@pytest.fixture(scope="session")
def reference_model(tiny_qwen2: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_qwen2).eval()


@pytest.fixture(scope="session")
def reference(reference_model: Any, tiny_qwen2: Path) -> Reference:
    """Greedy continuation of token ids as text."""
    return greedy(reference_model, tiny_qwen2)


def greedy(model: Any, folder: Path) -> Reference:
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)

    def generate(ids: Sequence[int], tokens: int) -> str:
        with torch.no_grad():
            output = model.generate(torch.tensor([list(ids)]), max_new_tokens=tokens, do_sample=False)
        return str(tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True))

    return generate


@pytest_asyncio.fixture
async def model(tiny_qwen2: Path) -> AsyncIterator[TransformersLanguageModel]:
    model = TransformersLanguageModel(str(tiny_qwen2))
    yield model
    await model.close()
