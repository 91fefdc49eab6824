"""Each option of the configuration table changes what it says, or is refused under its own name."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightrag.conversation.compression import MessageCompressor, open_compressor
from lightrag.conversation.configuration import read_configuration
from lightrag.conversation.index.vectorizer import Vectorizer
from lightrag.conversation.segmentation.attention import AttentionSegmenter
from lightrag.conversation.segmentation.opening import open_segmenter
from lightrag.errors import ConfigurationError, UsageError
from lightrag.lexical import LLMLingua2, SurprisalScorer
from lightrag.models.fakes import HashingEmbedder, ScriptedLanguageModel
from tests.checkpoints import tiny_qwen2 as tiny_qwen2
from tests.lightrag.conversation.conftest import Opener, echo, say
from tests.lightrag.lexical.checkpoints import save_token_classifier

TEXT = "In 1871 the committee met at the harbour and decided, after 3 long days, to open the new lighthouse in spring."


@pytest.fixture(scope="module")
def lingua(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_token_classifier(tmp_path_factory.mktemp("effects") / "bert", "bert"))


def opened(model: str, *, batch: dict[str, Any] | None = None, **compress: Any) -> MessageCompressor:
    configs = {
        "llmlingua_config": {"model_name": model},
        "llmlingua2_config": batch or {},
        "compress_config": compress,
    }
    option = {"model_name": "llmlingua-2", "configs": configs}
    compressor = open_compressor(read_configuration({"pre_compress": True, "pre_compressor": option}))
    assert compressor is not None
    return compressor


def batches_of(scorer: Any) -> list[tuple[int, ...]]:
    """Shapes of everything that the model behind a scorer reads from now on."""
    seen: list[tuple[int, ...]] = []
    scorer._model.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    return seen


# --- BM25 -------------------------------------------------------------------------------------------------------------


def lexical_scores(open_memory: Opener, folder: Path, *turns: str, **configs: Any) -> dict[str, float]:
    memory = open_memory(
        path=folder,
        retrieve_strategy="context",
        spread=False,
        text_summary=False,
        context_retriever={"model_name": "BM25", "configs": configs},
    )
    memory.add_memory([say(turn) for turn in turns], force_extract=True)
    found = memory.search("cello").entries
    return {hit.entry.text.removeprefix("User: "): hit.score for hit in found}


def test_k1_decides_how_much_a_repeated_word_counts(open_memory: Opener, tmp_path: Path) -> None:
    turns = ("cello cello cello tune", "cello piano violin tune", "grey weather all day")
    flat = lexical_scores(open_memory, tmp_path / "flat", *turns, k1=0.0, b=0.0)
    steep = lexical_scores(open_memory, tmp_path / "steep", *turns, k1=2.0, b=0.0)
    assert flat[turns[0]] == pytest.approx(flat[turns[1]])
    assert steep[turns[0]] > 1.2 * steep[turns[1]]


def test_b_decides_how_much_long_entries_are_held_back(open_memory: Opener, tmp_path: Path) -> None:
    turns = ("cello tune", "cello piano violin harp flute drum organ trumpet tune", "grey weather all day")
    level = lexical_scores(open_memory, tmp_path / "level", *turns, b=0.0)
    bent = lexical_scores(open_memory, tmp_path / "bent", *turns, b=1.0)
    assert level[turns[0]] == pytest.approx(level[turns[1]])
    assert bent[turns[0]] > 1.2 * bent[turns[1]]


def test_top_k_limits_what_BM25_proposes(open_memory: Opener, tmp_path: Path) -> None:
    turns = ("cello one", "cello two", "cello three")
    assert len(lexical_scores(open_memory, tmp_path / "all", *turns)) == 3
    assert len(lexical_scores(open_memory, tmp_path / "one", *turns, top_k=1)) == 1


# --- LLMLingua-2 ------------------------------------------------------------------------------------------------------


def test_target_token_bounds_each_message_by_itself(lingua: str) -> None:
    compressor = opened(lingua, target_token=6)
    count = compressor.scorer.tokenizer.count
    short, first, second = compressor.compress(["The harbour.", TEXT, TEXT + " " + TEXT])
    assert short == "The harbour."
    assert 0 < count(first) <= 6
    assert 0 < count(second) <= 6


def test_rate_decides_how_much_stays(lingua: str) -> None:
    short, long = (opened(lingua, rate=rate).compress([TEXT])[0] for rate in (0.3, 0.8))
    assert len(short.split()) < len(long.split()) < len(TEXT.split())


def test_force_tokens_and_digits_stay_at_any_rate(lingua: str) -> None:
    forced = opened(lingua, rate=0.1, force_tokens=("harbour",), force_reserve_digit=True).compress([TEXT])[0]
    # Random weights decide whether the comma after the 3 stays.
    assert {"harbour", "1871", "3"} <= {word.strip(",.") for word in forced.split()}


def test_drop_consecutive_keeps_one_of_equal_forced_neighbours(lingua: str) -> None:
    text = "harbour harbour harbour. The council met."
    kept = {
        drop: opened(lingua, rate=0.1, force_tokens=("harbour",), drop_consecutive=drop).compress([text])[0]
        for drop in (False, True)
    }
    assert (kept[False].count("harbour"), kept[True].count("harbour")) == (3, 1)


def test_max_force_token_limits_the_forced_words(lingua: str) -> None:
    with pytest.raises(ConfigurationError, match="max_force_token"):
        opened(lingua, batch={"max_force_token": 1}, force_tokens=("a", "b"))


def test_max_batch_size_limits_the_sequences_of_a_pass(lingua: str) -> None:
    texts = [f"The harbour opened in 187{n}." for n in range(6)]
    results = []
    for size in (2, 50):
        compressor = opened(lingua, batch={"max_batch_size": size})
        shapes = batches_of(compressor.scorer)
        results.append(compressor.compress(texts))
        assert max(shape[0] for shape in shapes) == min(size, 6)
    assert results[0] == results[1]


def test_token_to_word_scores_words_by_their_mean_or_their_first_token(lingua: str) -> None:
    mean, first = (opened(lingua, token_to_word=rule).scorer.score([TEXT])[0] for rule in ("mean", "first"))
    assert [unit.score for unit in mean] != [unit.score for unit in first]


# --- Entropy ----------------------------------------------------------------------------------------------------------


def entropy(model: Path, **configs: Any) -> MessageCompressor:
    option = {"model_name": "entropy_compress", "configs": {"model_name": str(model), **configs}}
    compressor = open_compressor(read_configuration({"pre_compress": True, "pre_compressor": option}))
    assert compressor is not None
    assert isinstance(compressor.scorer, SurprisalScorer)
    return compressor


def test_word_level_strategy_scores_by_the_mean_or_the_first_token(tiny_qwen2: Path) -> None:
    mean, first = (
        entropy(tiny_qwen2, word_level_strategy=rule).scorer.score([TEXT])[0] for rule in ("average", "first_token")
    )
    assert [unit.score for unit in mean] != [unit.score for unit in first]


def test_max_length_bounds_a_pass_and_loses_no_word(tiny_qwen2: Path) -> None:
    compressor = entropy(tiny_qwen2, max_length=16, compress_rate=1.0)
    shapes = batches_of(compressor.scorer)
    assert compressor.compress([TEXT]) == [TEXT]
    assert len(shapes) > 1
    assert max(length for _, length in shapes) <= 16


def test_compress_rate_decides_how_much_stays(tiny_qwen2: Path) -> None:
    short, long = (entropy(tiny_qwen2, compress_rate=rate).compress([TEXT])[0] for rate in (0.2, 0.8))
    assert len(short.split()) < len(long.split()) < len(TEXT.split())


# --- Topics -----------------------------------------------------------------------------------------------------------


def segmenter(**option: Any) -> Any:
    config = read_configuration({"topic_segment": True, "topic_segmenter": option})
    return open_segmenter(config, Vectorizer(HashingEmbedder()), None)


def test_torch_dtype_is_that_of_the_segmenters_weights(lingua: str) -> None:
    import torch

    for name, dtype in (("auto", torch.float32), ("bfloat16", torch.bfloat16)):
        found = segmenter(model_name="llmlingua-2", configs={"model_name": lingua, "torch_dtype": name, "layers": [0]})
        assert isinstance(found, AttentionSegmenter)
        assert isinstance(found._scorer, LLMLingua2)
        assert found._scorer._model.dtype == dtype


@pytest.mark.parametrize(("depth", "topics"), [(0.0, 4), (100.0, 1)])
def test_depth_decides_how_readily_topics_end(open_memory: Opener, depth: float, topics: int) -> None:
    option = {"model_name": "embedding", "configs": {"depth": depth}}
    memory = open_memory(topic_segment=True, topic_segmenter=option)
    said = ["red bicycles everywhere", "my sister's garden", "violin lessons tomorrow", "expensive dentist visits"]
    memory.add_memory([say(text) for text in said], force_segment=True)
    assert len({entry.topic for entry in memory.entries()}) == topics


def test_buffer_len_decides_when_the_sensory_buffer_is_full(open_memory: Opener, tmp_path: Path) -> None:
    held = {}
    for size in (16, 512):
        option = {"model_name": "embedding", "configs": {"buffer_len": size, "depth": 0.0}}
        memory = open_memory(path=tmp_path / str(size), topic_segment=True, topic_segmenter=option)
        memory.add_memory([say(f"The harbour opened in 187{n}, as the council wished.") for n in range(6)])
        held[size] = sum(entry.topic is None for entry in memory.entries())
    assert held[16] < held[512] == 6


# --- Language model ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        ({}, {"temperature": 0.0, "top_p": 1.0, "max_tokens": 2000, "seed": 42}),
        ({"temperature": 0.7}, {"temperature": 0.7}),
        ({"temperature": 0.7, "do_sample": False}, {"temperature": 0.0}),
        ({"temperature": 0.7, "top_k": 1}, {"temperature": 0.0}),
        ({"do_sample": True}, {"temperature": 0.1, "top_p": 0.1}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"max_tokens": 77, "seed": 5, "stop": ["END"]}, {"max_tokens": 77, "seed": 5, "stop": ("END",)}),
    ],
)
def test_decoding_options_reach_the_language_model(
    open_memory: Opener, configs: dict[str, Any], expected: dict[str, Any]
) -> None:
    seen: list[Any] = []

    def answer(prompt: Any, sampling: Any) -> str:
        seen.append(sampling)
        return echo(prompt, sampling)

    memory = open_memory(
        model=ScriptedLanguageModel(answer), memory_manager={"model_name": "extractive", "configs": configs}
    )
    memory.add_memory(say("I play the cello."), force_extract=True)
    assert {name: getattr(seen[0], name) for name in expected} == expected


# --- Logging ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_loggers() -> Iterator[None]:
    names = ("lightrag.conversation", "some.library", "httpx")
    before = {name: (logging.getLogger(name).level, list(logging.getLogger(name).handlers)) for name in names}
    yield
    for name, (level, handlers) in before.items():
        logger = logging.getLogger(name)
        logger.setLevel(level)
        for handler in [handler for handler in logger.handlers if handler not in handlers]:
            handler.close()
            logger.removeHandler(handler)


@pytest.mark.usefixtures("own_loggers")
def test_logging_options_decide_where_lines_go_and_how_they_look(open_memory: Opener, tmp_path: Path) -> None:
    options = {
        "level": "WARNING",
        "file_level": "INFO",
        "file_enabled": True,
        "file_mode": "w",
        "log_dir": str(tmp_path / "logs"),
        "log_filename_prefix": "mine",
        "format": "<%(asctime)s> %(message)s",
        "date_format": "%Y",
        "logger_levels": {"some.library": "ERROR"},
    }
    memory = open_memory(logging=options)
    memory.add_memory(say("I play the cello."), force_extract=True)
    lines = (tmp_path / "logs" / "mine.log").read_text("utf-8").splitlines()
    assert any(line.startswith("<20") and "1 messages, 1 entries" in line for line in lines)
    assert not any("cello" in line for line in lines)
    assert logging.getLogger("some.library").level == logging.ERROR
    assert logging.getLogger("httpx").level == logging.WARNING


@pytest.mark.usefixtures("own_loggers")
def test_the_console_takes_lines_from_its_own_level_on(open_memory: Opener, capsys: pytest.CaptureFixture[str]) -> None:
    memory = open_memory(logging={"console_enabled": True, "console_level": "ERROR", "level": "DEBUG"})
    memory.add_memory(say("I play the cello."), force_extract=True)
    assert capsys.readouterr().err == ""
    memory = open_memory(logging={"console_enabled": True, "console_level": "INFO"})
    memory.add_memory(say("I play the flute."), force_extract=True)


# --- What is refused --------------------------------------------------------------------------------------------------


def manager(name: str, **configs: Any) -> dict[str, Any]:
    return {"memory_manager": {"model_name": name, "configs": {"model": "m", **configs}}}


def store(**configs: Any) -> dict[str, Any]:
    return {"embedding_retriever": {"model_name": "qdrant", "configs": configs}}


def embedder(name: str, **configs: Any) -> dict[str, Any]:
    return {"text_embedder": {"model_name": name, "configs": configs}}


def compressing(**compress: Any) -> dict[str, Any]:
    option = {"model_name": "llmlingua-2", "configs": {"compress_config": compress}}
    return {"pre_compress": True, "pre_compressor": option}


def topics(name: str = "llmlingua-2", **configs: Any) -> dict[str, Any]:
    return {"topic_segment": True, "topic_segmenter": {"model_name": name, "configs": configs}}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"version": "v0"}, "version"),
        (compressing(instruction="Keep names."), "instruction"),
        (compressing(target_token=0), "target_token"),
        (compressing(target_token=9, rate=0.5), "rate and target_token"),
        (compressing(use_context_level_filter=True), "use_context_level_filter"),
        (topics(model_config={"x": 1}), "model_config"),
        (topics(torch_dtype="int3"), "torch_dtype"),
        (topics("embedding", layers=[1]), "layers"),
        (topics() | compressing() | {"precomp_topic_shared": True} | topics(device_map="cpu"), "device_map"),
        (topics(buffer_len=64) | {"sensory_tokens": 32}, "buffer_len"),
        (manager("openai", top_k=40), "top_k"),
        (manager("openai", host="http://x"), "host"),
        (manager("ollama", openai_base_url="http://x"), "openai_base_url"),
        (manager("transformers", api_key="k"), "api_key"),
        (manager("vllm", gpu_memory_utilization=0.5), "gpu_memory_utilization"),
        (manager("openai", main_gpu=1), "main_gpu"),
        (manager("extractive"), "model"),
        (embedder("huggingface", openai_base_url="http://x"), "openai_base_url"),
        (embedder("openai", model_kwargs={"device": "cpu"}), "model_kwargs"),
        (store(port=1234), "port"),
        (store(api_key="k"), "api_key"),
        (store(url="http://x", host="y"), "host"),
        ({"index_strategy": "embedding", "context_retriever": {"model_name": "BM25"}}, "context_retriever"),
        ({"context_retriever": {"model_name": "BM25", "configs": {"use_stemming": True}}}, "use_stemming"),
        ({"kv_cache": True}, "kv_cache_model"),
        ({"kv_cache_path": "x"}, "kv_cache_path"),
        ({"logging": {"force_reconfigure": True}}, "force_reconfigure"),
    ],
)
def test_what_nothing_would_read_is_refused_by_name(config: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        read_configuration(config)


def test_event_extraction_without_a_language_model_is_refused(open_memory: Opener) -> None:
    with pytest.raises(ConfigurationError, match="extraction_mode"):
        open_memory(extraction_mode="event")


def test_models_that_were_handed_over_are_not_closed_with_the_memory(open_memory: Opener, tmp_path: Path) -> None:
    class Watched(HashingEmbedder):
        closed = False

        async def close(self) -> None:
            self.closed = True

    shared = Watched()
    open_memory(path=tmp_path / "one", embedder=shared).close()
    assert not shared.closed
    memory = open_memory(path=tmp_path / "two", embedder=shared)
    memory.add_memory(say("I play the cello."), force_extract=True)
    assert memory.retrieve("cello")


def test_an_unknown_log_level_is_refused_by_name(open_memory: Opener) -> None:
    with pytest.raises(ConfigurationError, match=r"logging\.console_level"):
        open_memory(logging={"console_level": "LOUD"})


def test_a_search_by_an_index_that_is_not_built_is_refused(open_memory: Opener) -> None:
    memory = open_memory(index_strategy="embedding")
    memory.add_memory(say("I play the cello."))
    with pytest.raises(UsageError, match="index_strategy"):
        memory.retrieve("cello", strategy="context")


def test_a_context_index_embeds_nothing(open_memory: Opener) -> None:
    memory = open_memory(index_strategy="context")
    memory.add_memory(say("I play the cello."), force_extract=True)
    assert memory.retrieve("cello")
    assert memory.get_token_statistics()["embedding"]["total_calls"] == 0
