from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel

from lightrag.errors import ArtifactError, UsageError
from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.inputs import EncoderInput, Framing
from tests.checkpoints import save_causal_lm

TOLERANCE = {"atol": 2e-5, "rtol": 1e-4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal_lm(tmp_path_factory.mktemp("encoder") / "qwen3", "qwen3", num_hidden_layers=3, weight_scale=2.0)


@pytest.fixture(scope="module")
def encoder(folder: Path) -> LatentEncoder:
    return LatentEncoder.load(folder, layers=2, max_batch_tokens=64)


def whole_input(ids: list[int]) -> EncoderInput:
    return EncoderInput(tuple(ids))


@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        ("llama", {}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 32}),
        ("mistral", {"sliding_window": 16}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
        (
            "llama",
            {
                "rope_parameters": {
                    "rope_type": "llama3",
                    "rope_theta": 10000.0,
                    "factor": 8.0,
                    "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0,
                    "original_max_position_embeddings": 64,
                }
            },
        ),
    ],
)
def test_states_equal_those_of_the_first_layers_run_by_transformers(
    tmp_path: Path, architecture: str, config: dict[str, Any]
) -> None:
    path = save_causal_lm(tmp_path / "model", architecture, num_hidden_layers=3, weight_scale=2.0, **config)
    encoder = LatentEncoder.load(path, layers=2)
    reference = AutoModel.from_pretrained(path, dtype=torch.float32)
    reference.layers = reference.layers[:2]
    ids = [(7 * index) % 300 for index in range(40)]
    with torch.inference_mode():
        expected = reference(torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    torch.testing.assert_close(encoder.encode([whole_input(ids)])[0], expected, **TOLERANCE)
    framed = Framing(bos=5, instruction=(6, 7, 8)).cut(ids[4:])
    with torch.inference_mode():
        expected = reference(torch.tensor([framed[0].ids]), use_cache=False).last_hidden_state[0, 4:]
    torch.testing.assert_close(encoder.encode(framed)[0], expected, **TOLERANCE)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_packed_ragged_inputs_get_the_states_they_get_alone(encoder: LatentEncoder, data: st.DataObject) -> None:
    frame = Framing(24, bos=data.draw(st.sampled_from([None, 1])), instruction=(9,) * data.draw(st.integers(0, 4)))
    ids = data.draw(st.lists(st.integers(0, 299), min_size=1, max_size=90))
    inputs = frame.cut(ids)
    keep = [sorted(data.draw(st.sets(st.integers(0, len(item.ids) - 1), max_size=len(item.ids)))) for item in inputs]
    together = encoder.encode(inputs, keep)
    for item, row, states in zip(inputs, keep, together, strict=True):
        alone = encoder.encode([whole_input(list(item.ids))])[0]
        torch.testing.assert_close(states, alone[row], **TOLERANCE)


def test_a_stream_gives_the_states_of_the_whole(encoder: LatentEncoder) -> None:
    ids = [(11 * index) % 290 for index in range(100)]
    frame = Framing(32, instruction=(3, 4, 5))
    streamed = torch.cat(list(encoder.stream(frame.cut_stream(iter(ids)))))
    assert streamed.shape == (100, encoder.hidden_size)
    torch.testing.assert_close(streamed, torch.cat(encoder.encode(frame.cut(ids))), **TOLERANCE)


def test_the_fingerprint_follows_the_weights_and_nothing_else(folder: Path, encoder: LatentEncoder) -> None:
    again = LatentEncoder.load(folder, layers=2)
    assert again.fingerprint == encoder.fingerprint
    assert LatentEncoder.load(folder, layers=1).fingerprint != encoder.fingerprint
    again = LatentEncoder.load(folder, layers=2)
    again.model.norm.weight.add_(0.01)
    assert again.fingerprint != encoder.fingerprint


def test_positions_outside_an_input_are_refused(encoder: LatentEncoder) -> None:
    item = whole_input([1, 2, 3])
    with pytest.raises(UsageError, match="3 tokens, not 3"):
        encoder.encode([item], [[0, 3]])
    with pytest.raises(UsageError, match="descend"):
        encoder.encode([item], [[2, 1]])


def test_other_architectures_are_refused_by_name(tmp_path: Path) -> None:
    path = save_causal_lm(tmp_path / "olmo", "olmo", num_hidden_layers=2)
    with pytest.raises((UsageError, ArtifactError), match="olmo"):
        LatentEncoder.load(path)
