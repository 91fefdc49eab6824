"""Options that need hardware: fulfilled, or refused with the name of what is missing."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from lightrag import MemoRAG, MemoRAGLite, Memory, Model
from lightrag.compat.hardware import default_device, four_bit_config, quantise_linears, require_flash_attention
from lightrag.errors import ConfigurationError
from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.decoding import Decoding, generate
from lightrag.memory.full_context import FullContextModel
from tests.lightrag.compat.checkpoints import BUNDLED, save_beacon_chat_model

WITHOUT = pytest.mark.skipif(
    torch.cuda.is_available() and find_spec("bitsandbytes") is not None, reason="this machine can quantise"
)


@WITHOUT
def test_four_bits_are_refused_before_anything_is_fetched(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "no" / "such" / "model")
    missing = "'bitsandbytes'" if find_spec("bitsandbytes") is None else "a CUDA GPU"
    for make in (
        lambda: MemoRAG(nowhere, BUNDLED, load_in_4bit=True),
        lambda: MemoRAGLite(nowhere, BUNDLED, load_in_4bit=True),
        lambda: Memory(nowhere, load_in_4bit=True),
        lambda: Model(nowhere, load_in_4bit=True),
    ):
        with pytest.raises(ConfigurationError, match=f"load_in_4bit=True needs .*{missing}"):
            make()


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("architecture", ["qwen2", "mistral"])
def test_four_bits_change_every_linear_layer_and_little_of_what_a_memory_says(
    architecture: str, tmp_path: Path
) -> None:
    folder = save_beacon_chat_model(tmp_path, architecture)
    plain, small = (BeaconModel.load(folder, ratios=4, dtype=torch.bfloat16) for _ in range(2))
    quantise_linears(small.decoder, default_device())
    kinds = {type(layer).__name__ for layer in small.decoder.model.layers.modules() if hasattr(layer, "in_features")}
    assert kinds == {"Linear4bit"}
    read = [model.read(list(range(3, 150))) for model in (plain, small)]
    logits = torch.stack([reading.logits[-1].cpu().float() for reading in read])
    assert torch.corrcoef(logits)[0, 1] > 0.8
    assert read[1].memory.cells == read[0].memory.cells


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_four_bits_work_for_full_memories(tiny_llama: Path) -> None:
    device = default_device()
    model = FullContextModel.load(
        tiny_llama, dtype=torch.bfloat16, device=device, quantization_config=four_bit_config()
    )
    memory = model.memorise(list(range(3, 90)))
    [answer] = generate(model.session([memory]), [[5, 6]], Decoding(max_tokens=3))
    assert len(answer.token_ids) == 3


def test_flash_attention_is_there_where_pytorch_has_a_kernel() -> None:
    if not torch.cuda.is_available():
        require_flash_attention(default_device())


def test_a_device_without_flash_attention_is_refused_with_the_reason() -> None:
    with pytest.raises(ConfigurationError, match="enable_flash_attn=True needs a flash attention kernel, which device"):
        require_flash_attention("xla:7")


def test_without_a_wish_the_device_decides(tiny_llama: Path) -> None:
    assert Memory(str(tiny_llama), enable_flash_attn=False).reader.model.device.type == default_device()
