"""Which models of the settings share an engine, and what an engine is given to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightrag.cli.doctor import examine
from lightrag.config import Settings, load_settings
from lightrag.engine import Components
from lightrag.memory.engine_model import open_generator, open_memory_engine, served_folder, shares_engine
from lightrag.models.base import HealthChecked, Warmable
from tests.lightrag.memory.beacon.checkpoints import save_servable_beacon_checkpoint

pytest.importorskip("vllm")


def configured(
    home: Path, generator: dict[str, Any] | None = None, memory: dict[str, Any] | None = None, model: str = "m"
) -> Settings:
    """One model that writes answers and reads memories, both on vLLM, unless changed."""
    return load_settings(
        home=home,
        generator={"backend": "vllm", "model": model, "dtype": "float32", **(generator or {})},
        memory={"engine": "vllm", "model": model, **(memory or {})},
    )


def test_one_model_has_one_engine_that_reads_text_latents_and_memories(tmp_path: Path) -> None:
    settings = configured(tmp_path)
    assert shares_engine(settings)
    model = open_generator(settings)
    assert model is not None
    assert model.capabilities == {"latents", "kv_memory"}
    assert isinstance(model, Warmable)
    assert isinstance(model, HealthChecked)


@pytest.mark.parametrize(
    ("generator", "memory"),
    [
        ({"model": "another"}, {}),
        ({"backend": "transformers"}, {}),
        ({}, {"engine": "transformers"}),
        ({}, {"dtype": "bfloat16"}),
        ({}, {"engine_arguments": {"max_model_len": 8192}}),
        ({"engine": {"kv_transfer_config": {"kv_connector": "Own", "kv_role": "kv_both"}}}, {}),
    ],
)
def test_whatever_asks_for_another_engine_gets_one(
    generator: dict[str, Any], memory: dict[str, Any], tmp_path: Path
) -> None:
    settings = configured(tmp_path, generator, memory)
    assert not shares_engine(settings)
    assert open_memory_engine(settings).capabilities == {"kv_memory"}


async def test_stages_of_one_process_share_the_engine_and_close_it_once(tiny_qwen2: Path, tmp_path: Path) -> None:
    parts = Components(configured(tmp_path, model=str(tiny_qwen2)))
    closed = []
    model = parts.model
    assert model is not None

    async def close() -> None:
        closed.append(model.name)

    model.close = close  # type: ignore[method-assign]
    parts.memories(gists=None)  # type: ignore[arg-type]  # nothing is asked
    await parts.close()
    assert closed == [str(tiny_qwen2)]


def test_the_doctor_says_what_the_engine_loads(tmp_path: Path) -> None:
    folder = save_servable_beacon_checkpoint(tmp_path / "beacon")
    settings = configured(tmp_path / "home", memory={"kind": "beacon"}, model=str(folder))

    def said() -> str:
        return next(finding.found for finding in examine(settings) if finding.what == "KV memories")

    assert "on the generator's engine" in said()
    assert "written at its first start" in said()
    served = served_folder(settings, str(folder))
    assert served.parent == tmp_path / "home" / "served"
    assert f"the engine loads {served}, which is there" in said()
