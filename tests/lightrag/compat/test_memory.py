"""A memory by itself: recall, prompts, chat memories, files, misuse."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightrag import Memory
from lightrag.errors import ArtifactError, BackendError, ConfigurationError, LimitError, UsageError
from tests.checkpoints import save_causal_lm
from tests.lightrag.compat.checkpoints import BOOK, BUNDLED
from tests.lightrag.compat.conftest import ChatService


@pytest.fixture(scope="module")
def memory(beacon: Path) -> Memory:
    memory = Memory(str(beacon))
    memory.memorize(BOOK)
    return memory


def test_recall_and_rewrite_give_one_clean_item_per_line(service: ChatService) -> None:
    memory = Memory(service.agent())
    memory.memorize(BOOK)
    service.reply = lambda prompt: (
        "1. A longer pier was built.\n\n2) A longer pier was built!\n- no\n* Who opened it, then?"
    )
    assert memory.recall("What?") == "A longer pier was built.\nWho opened it, then?"
    assert memory.rewrite("What?") == "A longer pier was built.\nWho opened it, then?"
    service.reply = lambda prompt: ""
    assert memory.recall("What?") == ""


def test_a_chat_memory_sends_the_text_with_every_question(service: ChatService, tmp_path: Path) -> None:
    service.reply = lambda prompt: "Ada Lind"
    memory = Memory(service.agent())
    memory.memorize(BOOK)
    assert memory.answer("Who opened the pier?") == "Ada Lind"
    assert BOOK in service.prompts[-1]
    memory.save(tmp_path / "memory.bin")
    again = Memory(service.agent())
    again.load(tmp_path / "memory.bin")
    assert again.held.text == BOOK
    assert again.summarize() == "Ada Lind"


def test_a_chat_memory_of_a_long_text_sends_gists(service: ChatService) -> None:
    service.reply = lambda prompt: "The council built much." if "GIST" in prompt else "yes"
    memory = Memory(service.agent(context_tokens=1200), prompts={"gist": "GIST {context}"})
    memory.memorize(BOOK * 2)
    assert set(memory.held.text.split("\n")) == {"The council built much."}
    assert memory.answer("Did it?") == "yes"
    assert BOOK not in service.prompts[-1]


def test_memories_of_chat_and_of_local_models_are_told_apart(
    service: ChatService, memory: Memory, beacon: Path, tmp_path: Path
) -> None:
    chat = Memory(service.agent())
    chat.memorize(BOOK)
    chat.save(tmp_path / "chat")
    memory.save(tmp_path / "cells")
    with pytest.raises(ArtifactError, match="load it with an Agent"):
        Memory(str(beacon)).load(tmp_path / "chat")
    with pytest.raises(ArtifactError, match="cells of a local model"):
        chat.load(tmp_path / "cells")


def test_the_ratio_decides_how_much_is_kept(beacon: Path) -> None:
    cells = {}
    for ratio in (2, 4):
        memory = Memory(str(beacon), beacon_ratio=ratio)
        memory.memorize(BOOK)
        cells[ratio] = memory.held.cells.cells
    assert cells[4] < cells[2] < Memory(str(beacon)).read(BOOK).source_tokens


def test_a_folder_with_a_memory_in_it_loads_like_the_memory(memory: Memory, beacon: Path, tmp_path: Path) -> None:
    memory.save(tmp_path / "book" / "memory.bin")
    again = Memory(str(beacon))
    again.load(tmp_path / "book")
    assert again.held.cells.fingerprint
    assert again.held.language == "en"


def test_a_memory_stored_by_other_parts_of_the_library_loads(memory: Memory, beacon: Path, tmp_path: Path) -> None:
    from lightrag.memory import save_memory

    save_memory(memory.held.cells, tmp_path / "stored")
    again = Memory(str(beacon))
    again.load(tmp_path / "stored")
    assert again.held.cells.cells == memory.held.cells.cells
    (tmp_path / "stored" / "context.json").write_text(json.dumps({"format": 9}), encoding="utf-8")
    with pytest.raises(ArtifactError, match="format 9"):
        again.load(tmp_path / "stored")


def test_questions_before_a_text_and_empty_ones_are_refused(beacon: Path, memory: Memory, tmp_path: Path) -> None:
    fresh = Memory(str(beacon))
    for ask in (fresh.answer, fresh.recall, fresh.rewrite):
        with pytest.raises(UsageError, match="nothing was memorised"):
            ask("Who?")
    with pytest.raises(UsageError, match="nothing was memorised"):
        fresh.summarize()
    with pytest.raises(UsageError, match="nothing was memorised"):
        fresh.save(tmp_path / "memory.bin")
    assert not (tmp_path / "memory.bin").exists()
    for ask in (memory.answer, memory.recall, memory.rewrite):
        with pytest.raises(UsageError, match="question is empty"):
            ask(" ")
    for text in ("", " \n", None):
        with pytest.raises(UsageError, match="nothing to memorise"):
            fresh.memorize(text)  # type: ignore[arg-type]  # the misuse is the test


def test_halves_of_characters_and_answers_without_length_are_refused(memory: Memory) -> None:
    with pytest.raises(UsageError, match=r"context holds '.ud83d' at character 2, half of a character"):
        memory.memorize("a \ud83d b")
    with pytest.raises(UsageError, match="question holds"):
        memory.answer("a \ud83d?")
    for length in (0, None):
        with pytest.raises(UsageError, match="max_new_tokens must be at least 1"):
            memory.answer("Who?", max_new_tokens=length)  # type: ignore[arg-type]  # what a user may do


def test_saving_replaces_memories_and_nothing_else(memory: Memory, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match=r"a folder with other files.*mine/memory\.bin"):
        memory.save(tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    for _ in range(2):
        memory.save(tmp_path / "empty")
        memory.load(tmp_path / "empty")


def test_models_that_are_not_there_or_make_no_memories_are_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="neither a folder here nor a hub id"):
        Memory(str(tmp_path / "no" / "such" / "model"))
    with pytest.raises(ConfigurationError, match="name of a model is empty"):
        Memory("")
    with pytest.raises(ConfigurationError, match="not a whole decoder"):
        Memory(BUNDLED)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"config\.json"):
        Memory(str(tmp_path / "empty"))


def test_a_model_writes_answers_with_its_memory_and_without(beacon: Path, memory: Memory) -> None:
    assert len(memory.generate(["One?", "Two?"], max_new_tokens=4)) == 2
    assert len(Memory(str(beacon)).generate("One?", max_new_tokens=4)) == 1
    with pytest.raises(UsageError, match="prompt is empty"):
        memory.generate([])


def test_answers_end_where_the_window_does(tmp_path: Path) -> None:
    memory = Memory(str(save_causal_lm(tmp_path / "small", "llama", max_position_embeddings=512)))
    words = "The council voted to build a longer pier. "
    with pytest.raises(LimitError, match=r"of the 512 positions .* which keeps every token"):
        memory.memorize(words * 30)
    memory.memorize(words * 15)
    assert isinstance(memory.summarize(), str)
    with pytest.raises(LimitError, match="leave no room for an answer"):
        memory.answer("Why? " * 150)
    with pytest.raises(LimitError, match="leave no room for an answer"):
        memory.generate("Why? " * 300)


def test_a_memory_says_what_it_is(memory: Memory) -> None:
    assert str(memory.held).endswith("cells (beacon)")
