"""Memories that a local model has read beforehand: in step with what holds, apart by user, made again when damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightrag.conversation import LightMemory
from lightrag.conversation._sync import run_sync
from lightrag.conversation.kv_cache.text import memory_text
from lightrag.errors import ConfigurationError, UsageError
from lightrag.lexical import StatisticalScorer
from lightrag.memory import TextMemory, load_memory_model
from lightrag.models.fakes import ScriptedLanguageModel
from tests.checkpoints import tiny_qwen2 as tiny_qwen2
from tests.lightrag.conversation.conftest import Opener, echo, say

PIER = say("The pier was opened by the mayor in 1874.", "2024-01-01")
BOAT = say("My sister sold her red boat.", "2024-01-02")


@pytest.fixture
def cached(open_memory: Opener, tiny_qwen2: Path, tmp_path: Path) -> Any:
    def opener(**options: Any) -> LightMemory:
        return open_memory(kv_cache=True, kv_cache_model=str(tiny_qwen2), path=tmp_path / "memory", **options)

    return opener


def encodings(folder: Path) -> list[Path]:
    return sorted((folder / "memory" / "kv_cache").rglob("memory.json"))


def test_an_answer_is_what_the_model_says_over_the_remembered_text(cached: Any, tiny_qwen2: Path) -> None:
    memory = cached()
    memory.add_memory([PIER, BOAT], force_extract=True)
    answer = memory.answer("Who opened the pier?", max_tokens=12)

    text = "[2024-01-01 Mon]\n- User: The pier was opened by the mayor in 1874."
    text += "\n[2024-01-02 Tue]\n- User: My sister sold her red boat."
    model = TextMemory.load(tiny_qwen2, load_memory_model(tiny_qwen2))
    instruction = model.prompts("en").fill("qa", question="Who opened the pier?")
    expected = model.ask(model.memorise(text), [instruction], max_tokens=12)[0]
    assert answer.text == expected.text
    assert (answer.memory.entries, answer.memory.left_out, answer.memory.encoded) == (2, 0, True)
    assert answer.usage.cached_tokens == answer.memory.cells > 0
    assert memory.get_token_statistics()["llm"]["answer"]["calls"] == 1


def test_consolidation_encodes_before_questions_come(cached: Any, tmp_path: Path) -> None:
    memory = cached()
    memory.add_memory([PIER, BOAT], force_extract=True)
    assert encodings(tmp_path) == []
    assert not memory.offline_update().problems
    assert len(encodings(tmp_path)) == 1
    assert not memory.answer("Who?", max_tokens=4).memory.encoded


def test_only_what_changed_is_encoded_again_and_no_older_state_answers(cached: Any, tmp_path: Path) -> None:
    memory = cached()
    memory.add_memory(PIER, force_extract=True)
    first = memory.prepare()
    before = encodings(tmp_path)
    assert (first.encoded, memory.prepare().encoded) == (True, False)
    memory.add_memory(BOAT)
    answer = memory.answer("Which boat?", max_tokens=4)
    assert (answer.memory.encoded, answer.memory.entries) == (True, 2)
    assert answer.memory.revision > first.revision
    assert answer.memory.cells > first.cells
    assert len(encodings(tmp_path)) == 1
    assert encodings(tmp_path) != before


def test_a_repeated_message_changes_the_history_and_not_the_encoding(cached: Any) -> None:
    memory = cached()
    memory.add_memory(PIER, force_extract=True)
    first = memory.prepare()
    memory.add_memory(PIER, force_extract=True)
    second = memory.prepare()
    assert second.revision > first.revision
    assert not second.encoded


def test_a_new_process_loads_what_was_encoded(cached: Any) -> None:
    memory = cached()
    memory.add_memory(PIER, force_extract=True)
    memory.prepare()
    said = memory.answer("Who?", max_tokens=6).text
    memory.close()
    again = cached().answer("Who?", max_tokens=6)
    assert (again.text, again.memory.encoded) == (said, False)


@pytest.mark.parametrize("damage", ["unfinished", "garbled"])
def test_a_damaged_encoding_is_made_again(cached: Any, tmp_path: Path, damage: str) -> None:
    memory = cached()
    memory.add_memory(PIER, force_extract=True)
    memory.prepare()
    memory.close()
    (manifest,) = encodings(tmp_path)
    if damage == "unfinished":
        manifest.unlink()
    else:
        cells = manifest.with_name("cells-00000.safetensors")
        content = bytearray(cells.read_bytes())
        content[-1] ^= 0xFF
        cells.write_bytes(bytes(content))
    again = cached()
    assert again.prepare().encoded
    assert not again.prepare().encoded


def test_what_does_not_fit_is_counted_and_found_entries_stand_beside(cached: Any) -> None:
    memory = cached(kv_cache_tokens=100)
    memory.add_memory([say(f"I own house number {n}.", f"2024-01-{n + 1:02d}") for n in range(9)], force_extract=True)
    answer = memory.answer("Which house?", max_tokens=4)
    assert answer.memory.entries > 0
    assert answer.memory.left_out > 0
    assert answer.memory.entries + answer.memory.left_out == 9
    assert "not encoded" in answer.notes[0]


def test_users_have_their_own_encodings_and_forgetting_removes_them(cached: Any, tmp_path: Path) -> None:
    memory = cached()
    ann, bob = memory.for_user("t", "ann"), memory.for_user("t", "bob")
    ann.add_memory(PIER, force_extract=True)
    bob.add_memory(BOAT, force_extract=True)
    assert ann.prepare().encoded
    assert bob.prepare().encoded
    assert len(encodings(tmp_path)) == 2
    ann.forget()
    assert len(encodings(tmp_path)) == 1
    assert ann.answer("Who?").text == ""
    assert not bob.prepare().encoded


def test_deleting_an_entry_deletes_the_encoding_that_holds_it(cached: Any, tmp_path: Path) -> None:
    memory = cached()
    memory.add_memory(PIER, force_extract=True)
    memory.prepare()
    memory.delete(memory.entries()[0].entry_id)
    assert encodings(tmp_path) == []


def test_the_latest_entries_are_encoded_first_and_a_fact_stands_for_its_message(open_memory: Opener) -> None:
    memory = open_memory(model=ScriptedLanguageModel(echo))
    turns = [say(f"I own house number {n}.", f"2024-01-{n + 1:02d}") for n in range(3)]
    memory.add_memory(turns, force_extract=True)
    view = run_sync(memory._engine.keeper.view(memory.scope))
    tokenizer = StatisticalScorer().tokenizer
    assert memory_text(view, 1000, tokenizer).text.count("I own house") == 3
    latest = memory_text(view, tokenizer.count("[2024-01-03 Wed]\n- I own house number 2."), tokenizer)
    assert "number 2" in latest.text
    assert latest.left_out == 2


def test_the_memory_managers_model_serves_where_it_is_local(tiny_qwen2: Path, tmp_path: Path) -> None:
    config = {
        "kv_cache": True,
        "kv_cache_path": str(tmp_path / "encoded"),
        "text_summary": False,
        "memory_manager": {"model_name": "transformers", "configs": {"model": str(tiny_qwen2)}},
        "embedding_retriever": {"model_name": "qdrant", "configs": {"path": str(tmp_path / "memory")}},
    }
    with LightMemory.from_config(config) as memory:
        memory.add_memory(PIER, force_extract=True)
        assert memory.prepare().cells > 0
        assert memory.describe()["kv_cache"] == str(tiny_qwen2)
    assert list((tmp_path / "encoded").rglob("memory.json"))


def test_without_the_option_answers_are_refused_with_the_cure(open_memory: Opener) -> None:
    memory = open_memory()
    with pytest.raises(ConfigurationError, match="kv_cache_model"):
        memory.answer("Who?")
    with pytest.raises(ConfigurationError, match="kv_cache_model"):
        memory.prepare()


def test_an_empty_question_is_refused(cached: Any) -> None:
    with pytest.raises(UsageError, match="question"):
        cached().answer("  ")


def test_a_model_that_cannot_be_loaded_is_reported_by_consolidation_and_named_to_who_asks(
    open_memory: Opener, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    memory = open_memory(kv_cache=True, kv_cache_model=str(tmp_path / "nothing"))
    memory.add_memory(PIER, force_extract=True)
    report = memory.offline_update()
    assert [problem.stage for problem in report.problems] == ["kv_cache"]
