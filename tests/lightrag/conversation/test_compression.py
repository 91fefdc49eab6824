"""Pre-compression and attention boundaries with tiny real checkpoints. Letters are the published cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightrag.conversation.compression import MessageCompressor
from lightrag.conversation.segmentation.attention import AttentionSegmenter
from lightrag.errors import ConfigurationError
from tests.checkpoints import tiny_qwen2 as tiny_qwen2
from tests.lightrag.conversation.conftest import Opener, echo, say
from tests.lightrag.lexical.checkpoints import save_token_classifier

TEXT = "The committee met on Tuesday and decided to open the new harbour in the spring of next year."


@pytest.fixture(scope="module")
def lingua(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_token_classifier(tmp_path_factory.mktemp("lingua") / "bert", "bert"))


def lingua_option(model: str, rate: float = 0.5) -> dict[str, object]:
    configs = {
        "llmlingua_config": {"model_name": model, "device_map": "cpu", "use_llmlingua2": True},
        "compress_config": {"rate": rate},
    }
    return {"model_name": "llmlingua-2", "configs": configs}


def test_A_entropy_compression_shortens_what_extraction_reads(open_memory: Opener, tiny_qwen2: Path) -> None:
    option = {"model_name": "entropy_compress", "configs": {"model_name": str(tiny_qwen2), "compress_rate": 0.5}}
    memory = open_memory(pre_compress=True, pre_compressor=option, script=echo)
    report = memory.add_memory(say(TEXT), force_extract=True)
    assert not report.problems
    (fact,) = [entry for entry in memory.entries() if entry.kind == "fact"]
    assert 0 < len(fact.text.split()) < len(TEXT.split())


def test_the_original_text_stays_beside_the_compressed_one(open_memory: Opener, lingua: str) -> None:
    memory = open_memory(pre_compress=True, pre_compressor=lingua_option(lingua), script=echo)
    memory.add_memory(say(TEXT), force_extract=True)
    turns = [entry.text for entry in memory.entries() if entry.kind == "turn"]
    assert turns == [f"User: {TEXT}"]


def test_one_model_serves_compression_and_topics(open_memory: Opener, lingua: str) -> None:
    memory = open_memory(
        pre_compress=True,
        pre_compressor=lingua_option(lingua),
        topic_segment=True,
        precomp_topic_shared=True,
        topic_segmenter={"model_name": "llmlingua-2", "configs": {"layers": [0, 1]}},
        script=echo,
    )
    pipeline = memory.aio.engine.pipeline
    assert isinstance(pipeline._segmenter, AttentionSegmenter)
    assert isinstance(pipeline._compressor, MessageCompressor)
    assert pipeline._segmenter._scorer is pipeline._compressor.scorer
    # Sentences that share no word: whichever words an untrained compressor drops, no two facts come out the same.
    said = [
        "Grandmother bakes sourdough every Sunday morning.",
        "Harbour engineers measured three cracked lanterns.",
        "My neighbour Pavel repairs antique violins.",
        "Tomorrow's ferry leaves before sunrise.",
    ]
    report = memory.add_memory([say(sentence) for sentence in said], force_segment=True, force_extract=True)
    assert not report.problems
    assert len([entry for entry in memory.entries() if entry.kind == "fact"]) == len(said)


def test_a_compressor_without_a_model_is_refused(open_memory: Opener) -> None:
    with pytest.raises(ConfigurationError, match="needs a model_name"):
        open_memory(pre_compress=True, pre_compressor={"model_name": "llmlingua-2"})
