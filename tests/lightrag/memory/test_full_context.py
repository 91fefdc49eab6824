"""Full-context memories against transformers' own forward passes (float32)."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from lightrag.errors import ArtifactError, LimitError
from lightrag.memory.decoding import Decoding, generate
from lightrag.memory.full_context import FullContextModel
from tests.checkpoints import save_causal_lm

ARCHITECTURES = ("llama", "qwen2", "qwen3", "mistral", "phi3")
TOLERANCE = 1e-3
"""Of logits of several hundred; the weights are scaled up."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("full")
    extra: dict[str, dict[str, Any]] = {
        "mistral": {"sliding_window": None},
        "qwen3": {"head_dim": 32},
        "phi3": {"sliding_window": None, "partial_rotary_factor": 0.5},
    }
    return {name: save_causal_lm(root / name, name, **extra.get(name, {})) for name in ARCHITECTURES}


def tokens(count: int, seed: int) -> list[int]:
    source = random.Random(seed)
    return [source.randrange(3, 400) for _ in range(count)]


def plain_logits(folder: Path, ids: list[int]) -> torch.Tensor:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return torch.as_tensor(model(torch.tensor([ids])).logits[0])


def plain_answer(folder: Path, ids: list[int], count: int) -> list[int]:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    made = model.generate(torch.tensor([ids]), max_new_tokens=count, do_sample=False, eos_token_id=None)
    return [int(token) for token in made[0, len(ids) :]]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_reading_over_a_memory_equals_reading_everything(name: str, folders: dict[str, Path]) -> None:
    model = FullContextModel.load(folders[name])
    text, question = tokens(90, 1), tokens(12, 2)
    memory = model.memorise(text[60:], onto=model.memorise(text[:60]))
    assert (memory.cells, memory.source_tokens, memory.kind) == (90, 90, "full")
    assert memory.token_ids == tuple(text)
    logits = model.session([memory]).read([question], logits="all")[0]
    assert logits.sub(plain_logits(folders[name], text + question)[90:]).abs().max() < TOLERANCE


@pytest.mark.parametrize("name", ["llama", "phi3"])
def test_several_questions_in_one_batch_get_the_answers_over_the_full_text(name: str, folders: dict[str, Path]) -> None:
    model = FullContextModel.load(folders[name])
    texts = [tokens(70, 3), tokens(40, 4)]
    first, second = model.memorise_batch(texts)
    questions = [tokens(9, 5), tokens(30, 6), tokens(1, 7), tokens(14, 8)]
    memories = [first, second, first, None]
    answers = generate(model.session(memories), questions, Decoding(max_tokens=12))
    for context, question, answer in zip([texts[0], texts[1], texts[0], []], questions, answers, strict=True):
        assert list(answer.token_ids) == plain_answer(folders[name], context + question, 12)


def test_chunked_reading_equals_reading_at_once(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    model = FullContextModel.load(folders["qwen3"])
    text = tokens(100, 9)
    whole = model.memorise(text)
    monkeypatch.setattr("lightrag.memory.full_context._CHUNK_TOKENS", 16)
    chunked, short = model.memorise_batch([text, text[:21]])
    for ours, theirs in zip((*chunked.keys, *chunked.values), (*whole.keys, *whole.values), strict=True):
        assert ours.sub(theirs).abs().max() < 1e-4
    assert short.values[1].sub(whole.values[1][:, :21]).abs().max() < 1e-4


@pytest.mark.parametrize("name", ["llama", "qwen3", "phi3"])
def test_models_whose_keys_can_be_moved_are_recognised(name: str, folders: dict[str, Path]) -> None:
    model = FullContextModel.load(folders[name])
    width = model.cache_shape.head_dim // (4 if name == "phi3" else 2)
    assert len(model.rope.inverse_frequencies) == width


def test_a_sliding_window_limits_the_length(tmp_path: Path) -> None:
    folder = save_causal_lm(tmp_path, "mistral", sliding_window=64)
    model = FullContextModel.load(folder)
    memory = model.memorise(tokens(60, 1))
    with pytest.raises(LimitError, match="65 tokens are more than the 64"):
        model.session([memory]).read([tokens(5, 2)])


def test_a_memory_of_another_model_is_refused(folders: dict[str, Path]) -> None:
    memory = FullContextModel.load(folders["llama"]).memorise(tokens(5, 1))
    with pytest.raises(ArtifactError, match="architecture 'llama' != 'mistral'"):
        FullContextModel.load(folders["mistral"]).session([memory])
