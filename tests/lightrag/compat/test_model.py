"""A plain generator over a local checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightrag import Model
from lightrag.errors import BackendError, LimitError, UsageError


@pytest.fixture(scope="module")
def model(tiny_llama: Path) -> Model:
    return Model(str(tiny_llama))


def test_prompts_give_texts_in_order_whatever_the_batch(model: Model) -> None:
    asked = ["When was the pier opened?", "Who opened it?", "Why?"]
    together = model.generate(asked, max_new_tokens=6)
    assert len(together) == 3
    assert model.generate(asked, batch_size=2, max_new_tokens=6) == together
    assert model.generate(asked[1], max_new_tokens=6) == together[1:2]


def test_sampling_is_asked_for(model: Model) -> None:
    assert len(model.generate("Why?", max_new_tokens=4, do_sample=True, temperature=0.8, top_p=0.9)) == 1
    with pytest.raises(UsageError, match="do_sample=True"):
        model.generate("Why?", temperature=0.8)
    with pytest.raises(UsageError, match=r"repetition_penalty=1\.2"):
        model.generate("Why?", repetition_penalty=1.2)
    for prompts in ("", [], ["Why?", " "]):
        with pytest.raises(UsageError, match="prompt is empty"):
            model.generate(prompts)


def test_limits_and_missing_models_are_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="4096"):
        model.generate("Why? " * 3000)
    with pytest.raises(BackendError, match="neither a folder here nor a hub id"):
        Model(str(tmp_path / "nothing"))


def test_a_closed_model_says_so(tiny_llama: Path) -> None:
    model = Model(tiny_llama)
    model.close()
    with pytest.raises(UsageError, match="closed"):
        model.generate("Why?")
