from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lightrag.config import CompressionSettings
from lightrag.errors import ConfigurationError
from lightrag.generation.base import GenerationRequest
from lightrag.generation.prompted import PromptedAnswerer
from lightrag.latents import open_compressor
from lightrag.models import HashingEmbedder, ScriptedLanguageModel
from lightrag.models.local.model import TransformersLanguageModel
from lightrag.types import CorpusVersion, LatentPart
from tests.lightrag.lexical.checkpoints import save_token_classifier

from .test_compressor import evidence


@pytest.mark.parametrize("method", ["statistics", "llmlingua2", "entropy"])
async def test_text_methods_fit_the_generators_tokens(method: str, tiny_llama: Path, tmp_path: Path) -> None:
    models = {"llmlingua2": save_token_classifier(tmp_path / "bert", "bert"), "entropy": tiny_llama}
    settings = CompressionSettings(method=method, model=str(models.get(method, "")))  # type: ignore[arg-type]
    generator = ScriptedLanguageModel([])
    context = await open_compressor(settings, generator=generator).compress(evidence(), 60, "When was the pier opened?")
    assert context.kind == "text"
    assert context.tokens <= 60
    assert context.method == method


@pytest.mark.parametrize("importance", ["none", "lexical", "embedding", "surprisal", "estimator"])
async def test_latents_are_used_where_the_generator_reads_them(importance: str, tiny_llama: Path) -> None:
    settings = CompressionSettings(method="latents", model=str(tiny_llama), importance=importance)  # type: ignore[arg-type]
    compressor = open_compressor(
        settings, generator=TransformersLanguageModel(str(tiny_llama)), embedder=HashingEmbedder()
    )
    context = await compressor.compress(evidence(), 60, "When was the pier opened?")
    assert context.kind == "latents"
    assert any(isinstance(part, LatentPart) for part in context.parts)


async def test_a_generator_without_latents_gets_text_and_the_answer_says_so(tiny_llama: Path) -> None:
    settings = CompressionSettings(method="latents", model=str(tiny_llama))
    context = await open_compressor(settings, generator=ScriptedLanguageModel([])).compress(evidence(), 60, "q")
    assert context.kind == "text"
    assert "reads no latents" in context.notes[-1]


async def test_the_generator_answers_from_latents(tiny_llama: Path) -> None:
    model = TransformersLanguageModel(str(tiny_llama))
    settings = CompressionSettings(method="latents", model=str(tiny_llama), layout="raw:1, 4x:1, 16x")
    question = "When was the pier opened?"
    context = await open_compressor(settings, generator=model).compress(evidence(), 90, question)
    assert context.kind == "mixed"
    request = GenerationRequest(
        CorpusVersion("t", "c", 1), "rag", question, tuple(evidence()), context=context, max_tokens=4
    )
    deltas = [delta async for delta in PromptedAnswerer(model).answer(request)]
    assert deltas[-1].done
    assert deltas[-1].usage.completion_tokens > 0
    await model.close()


def test_what_is_missing_is_named(tiny_llama: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"compression\.model"):
        open_compressor(CompressionSettings(method="llmlingua2"))
    with pytest.raises(ConfigurationError, match=r"compression\.model"):
        open_compressor(CompressionSettings(method="latents"), generator=TransformersLanguageModel(str(tiny_llama)))


async def test_an_encoder_without_tokenizer_takes_its_language_models(tiny_llama: Path, tmp_path: Path) -> None:
    bare = tmp_path / "encoder"
    bare.mkdir()
    for name in ("config.json", "model.safetensors"):
        shutil.copy(tiny_llama / name, bare / name)
    generator = TransformersLanguageModel(str(tiny_llama))
    with pytest.raises(ConfigurationError, match=r"compression\.language_model"):
        open_compressor(CompressionSettings(method="latents", model=str(bare)), generator=generator)
    settings = CompressionSettings(method="latents", model=str(bare), language_model=str(tiny_llama))
    context = await open_compressor(settings, generator=generator).compress(evidence(), 60, "pier")
    assert context.tokens == 60
