"""Every option of the published configuration acts, or is refused by name. Letters are the published cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightrag.conversation import LightMemory
from lightrag.conversation.configuration import read_configuration
from lightrag.errors import ConfigurationError, MessageError, UsageError
from lightrag.models.fakes import ScriptedLanguageModel
from tests.lightrag.conversation.conftest import Opener, echo, facts, say

BASE = {"memory_manager": {"model_name": "extractive"}}


def test_WW_an_unknown_option_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(ConfigurationError, match="short_term_tokens"):
        read_configuration({"stm_max_tokens": 256, "short_term_token": 3})
    with pytest.raises(ConfigurationError, match=r"stm_max_tokens: no such option"):
        read_configuration({"stm_max_tokens": 256})
    with pytest.raises(ConfigurationError, match=r"did you mean 'openai_base_url'"):
        read_configuration({"memory_manager": {"model_name": "openai", "configs": {"model": "m", "openai_base": "u"}}})


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_configuration({"nonsense": 1, "update": "sometimes", "extract_threshold": 3})
    assert all(name in str(caught.value) for name in ("nonsense", "update", "extract_threshold"))


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"pre_compress": True}, "pre_compressor"),
        ({"precomp_topic_shared": True}, "precomp_topic_shared"),
        ({"index_strategy": "context", "retrieve_strategy": "embedding"}, "index_strategy"),
        ({"index_strategy": None, "retrieve_strategy": "embedding"}, "index_strategy"),
        ({"memory_manager": {"model_name": "openai", "configs": {}}}, "configs.model"),
        ({"embedding_retriever": {"model_name": "qdrant", "configs": {"path": "x", "url": "http://y"}}}, "path"),
        ({"embedding_retriever": {"model_name": "qdrant", "configs": {"on_disk": False}}}, "on_disk"),
        ({"multimodal_embedder": {"model_name": "huggingface", "configs": {}}}, "multimodal_embedder.configs.model"),
        ({"logging": {"file_enabled": True}}, "log_dir"),
    ],
)
def test_F_I_contradictions_and_gaps_are_refused_by_name(config: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        read_configuration(config)


def test_B_topics_are_cut_without_pre_compression(open_memory: Opener) -> None:
    memory = open_memory(topic_segment=True, pre_compress=False)
    report = memory.add_memory([say("I bought a red bicycle."), say("My sister lives in Oslo.")], force_segment=True)
    assert not report.problems
    assert len(memory.entries()) == 2


@pytest.mark.parametrize("options", [{"retrieve_strategy": "context"}, {"retrieve_strategy": "hybrid"}])
def test_D2_D3_lexical_and_fused_retrieval_work(open_memory: Opener, options: dict[str, object]) -> None:
    memory = open_memory(**options)
    memory.add_memory([say("I play the cello."), say("The weather was grey.")], force_extract=True)
    assert "cello" in memory.retrieve("Who plays the cello?", limit=1)[0]


def test_D_a_configured_BM25_retriever_acts(open_memory: Opener) -> None:
    memory = open_memory(
        retrieve_strategy="context", context_retriever={"model_name": "BM25", "configs": {"k1": 1.5, "b": 0.75}}
    )
    memory.add_memory(say("I play the cello."), force_extract=True)
    assert memory.retrieve("cello")


def test_G_online_update_stores_and_reconciles_at_once(open_memory: Opener) -> None:
    memory = open_memory(update="online")
    memory.add_memory(say("My favorite color is blue.", "2024-01-01"), force_extract=True)
    memory.add_memory(say("My favorite color is green.", "2024-02-01"), force_extract=True)
    assert [entry.text for entry in memory.entries()] == ["User: My favorite color is green."]


def test_H_without_summaries_the_text_itself_is_stored_and_found(open_memory: Opener) -> None:
    model = ScriptedLanguageModel([])
    memory = open_memory(text_summary=False, model=model)
    memory.add_memory(say("Hello there, my dear friend!"), force_extract=True)
    assert memory.retrieve("dear friend") == ["2024-01-15T10:30:00 Mon User: Hello there, my dear friend!"]
    assert model.calls == []


def test_H2_without_metadata_facts_come_without_metadata(open_memory: Opener) -> None:
    memory = open_memory(metadata_generate=False)
    memory.add_memory(say("I met Anna in Berlin."), force_extract=True)
    (entry,) = memory.entries()
    assert (entry.text, entry.entities, entry.category) == ("User: I met Anna in Berlin.", (), "")


def test_I_a_missing_index_strategy_is_inferred(open_memory: Opener) -> None:
    memory = open_memory(index_strategy="context")
    assert memory.describe()["retrieve_strategy"] == "context"


def test_J_nothing_is_written_outside_the_configured_paths(
    open_memory: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "cwd"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    memory = open_memory(index_strategy="hybrid", retrieve_strategy="hybrid")
    memory.add_memory(say("I play the cello."), force_extract=True)
    assert list(elsewhere.iterdir()) == []


TIMES = ["2024-01-01", "2024-02-01", "2024-03-01"]


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"gt": TIMES[1]}, {TIMES[2]}),
        ({"gte": TIMES[1]}, {TIMES[1], TIMES[2]}),
        ({"lt": TIMES[1]}, {TIMES[0]}),
        ({"lte": TIMES[1]}, {TIMES[0], TIMES[1]}),
        ({"gt": TIMES[0], "lt": TIMES[2]}, {TIMES[1]}),
    ],
)
def test_K_every_comparison_of_times_acts(open_memory: Opener, condition: dict[str, str], expected: set[str]) -> None:
    memory = open_memory()
    memory.add_memory([say(f"I bought apples number {n}.", time) for n, time in enumerate(TIMES)], force_extract=True)
    for name in ("time", "float_time_stamp"):
        found = memory.search("apples", filters={name: condition}).entries
        assert {f"{hit.entry.time:%Y-%m-%d}" for hit in found} == expected


def test_L_excluded_entries_are_not_found_with_and_without_a_filter(open_memory: Opener) -> None:
    memory = open_memory()
    memory.add_memory([say("I like red apples."), say("I like green apples.")], force_extract=True)
    first = memory.search("red apples").entries[0].entry.entry_id
    for filters in (None, {"speaker": "user"}):
        found = memory.search("red apples", filters=filters, exclude_ids=[first]).entries
        assert [hit.entry.text for hit in found] == ["User: I like green apples."]


def test_FF_values_lists_and_in_filter_and_unknown_operators_are_refused(open_memory: Opener) -> None:
    memory = open_memory()
    turns = [
        say(f"I like {fruit} very much.", speaker_name=name)
        for fruit, name in (("apples", "Ann"), ("pears", "Bob"), ("plums", "Cid"))
    ]
    memory.add_memory(turns, force_extract=True)
    who = lambda filters: {hit.entry.speaker for hit in memory.search("like", filters=filters).entries}  # noqa: E731
    assert who({"speaker_name": "Ann"}) == {"Ann"}
    assert who({"speaker_name": ["Ann", "Bob"]}) == {"Ann", "Bob"}
    assert who({"speaker_name": {"in": ["Bob", "Cid"]}}) == {"Bob", "Cid"}
    with pytest.raises(UsageError, match="unknown filter operator"):
        who({"speaker_name": {"near": "Ann"}})
    with pytest.raises(UsageError, match="speaker"):
        who({"speeker": "Ann"})


def test_T_any_manager_consolidates(open_memory: Opener) -> None:
    script = [
        facts((0, "User likes tea.")),
        facts((0, "User likes tea and rum.")),
        '{"action": "update", "new_memory": "User likes tea with rum."}',
    ]
    memory = open_memory(script=script)
    memory.add_memory(say("tea", "2024-01-01"), force_extract=True)
    memory.add_memory(say("tea and rum", "2024-02-01"), force_extract=True)
    memory.construct_update_queue_all_entries()
    assert memory.offline_update_all_entries(score_threshold=0.5).updated == 1
    assert "User likes tea with rum." in [entry.text for entry in memory.entries()]


def test_AA_keys_of_other_providers_change_nothing(open_memory: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "something")
    memory = open_memory(script=echo)
    assert memory.add_memory(say("I am here."), force_extract=True).entries


def test_M_both_steps_run_in_one_call(open_memory: Opener) -> None:
    memory = open_memory()
    memory.add_memory(say("My favorite color is blue.", "2024-01-01"), force_extract=True)
    memory.add_memory(say("My favorite color is green.", "2024-02-01"), force_extract=True)
    report = memory.offline_update(
        construct_update_queue_trigger=True, offline_update_trigger=True, score_threshold=0.5
    )
    assert report.deleted == 1


def test_cuda_without_a_device_is_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    config = {
        "text_embedder": {"model_name": "huggingface", "configs": {"model_kwargs": {"device": "cuda"}}},
        "embedding_retriever": {"model_name": "qdrant", "configs": {"path": str(tmp_path)}},
    }
    with pytest.raises(ConfigurationError, match="no CUDA device"):
        LightMemory.from_config(config)


def test_a_dimension_that_is_not_the_embedders_is_refused(open_memory: Opener) -> None:
    with pytest.raises(ConfigurationError, match="embedding_dims is 7"):
        open_memory(text_embedder={"model_name": "huggingface", "configs": {"embedding_dims": 7}})


def test_facts_below_the_threshold_stay_messages(open_memory: Opener) -> None:
    answer = '{"data": [{"source_id": 0, "fact": "User sneezed.", "importance": 0.1}]}'
    memory = open_memory(script=[answer], extract_threshold=0.5)
    memory.add_memory(say("Achoo, I sneezed."), force_extract=True)
    assert [(entry.kind, entry.text) for entry in memory.entries()] == [("turn", "User: Achoo, I sneezed.")]


def test_a_default_time_stamp_can_be_configured(open_memory: Opener) -> None:
    memory = open_memory(default_time_stamp="2020-02-02")
    memory.add_memory({"role": "user", "content": "No date."})
    assert memory.entries()[0].time.year == 2020


def test_long_messages_are_refused_above_the_configured_size(open_memory: Opener) -> None:
    memory = open_memory()
    with pytest.raises(MessageError, match="1,048,576 characters"):
        memory.add_memory(say("x" * 2**20))
    assert memory.entries() == []
