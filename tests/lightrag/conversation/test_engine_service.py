"""Several replicas over one history, each with vectors of its own: what one accepts, all know."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lightrag.config import EmbedderSettings, load_settings
from lightrag.conversation import opening
from lightrag.conversation.assembly import open_engine
from lightrag.conversation.engine_service import EngineMemories
from lightrag.conversation.opening import memory_configuration, open_conversations
from lightrag.conversation.service import Addition, Consolidation, PageRequest, Question
from lightrag.conversation.types import Scope
from lightrag.errors import ConfigurationError
from lightrag.models.fakes import HashingEmbedder, ScriptedLanguageModel
from tests.lightrag.conversation.conftest import say

ADA = Scope("acme", "ada")


@pytest.fixture
async def replicas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[EngineMemories]]:
    monkeypatch.setattr(opening, "open_embedder", lambda settings: HashingEmbedder())
    settings = load_settings(None, home=tmp_path)
    opened = [
        EngineMemories(settings, engine=open_conversations(settings, scratch=tmp_path / f"replica-{number}"))
        for number in range(3)
    ]
    yield opened
    for replica in opened:
        await replica.close()


async def test_every_replica_finds_what_any_of_them_accepted(replicas: list[EngineMemories]) -> None:
    for number, replica in enumerate(replicas):
        text = f"I bought boat {number}."
        await replica.add(ADA, Addition([say(text, f"2024-01-0{number + 1}")], force_extract=True))
    for replica in replicas:
        assert len((await replica.search(ADA, Question("boat"))).entries) == 3
    (first, *_), _ = await replicas[0].page(ADA, PageRequest())
    await replicas[1].delete(ADA, first.entry_id)
    for replica in replicas:
        assert len((await replica.search(ADA, Question("boat"))).entries) == 2


async def test_the_same_said_to_all_replicas_at_once_is_one_entry(replicas: list[EngineMemories]) -> None:
    adds = [replica.add(ADA, Addition([say("I play the cello.")], force_extract=True)) for replica in replicas * 2]
    await asyncio.gather(*adds)
    await replicas[0].consolidate(ADA, Consolidation(flush=True))
    (entry,), following = await replicas[2].page(ADA, PageRequest())
    assert (entry.occurrences, following) == (6, None)


async def test_a_request_repeated_at_another_replica_stores_nothing_again(replicas: list[EngineMemories]) -> None:
    addition = Addition([say("I play the cello.")], request_id="r1")
    first = await replicas[0].add(ADA, addition)
    again = await replicas[1].add(ADA, addition)
    assert (again.repeated, again.accepted) == (True, first.accepted)


async def test_what_is_wrong_with_the_configuration_is_said_at_every_call(tmp_path: Path) -> None:
    memories = EngineMemories(load_settings(None, home=tmp_path, conversation={"options": {"graph_men": True}}))
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="graph_mem"):
            await memories.add(ADA, Addition([say("I sing.")]))


@pytest.mark.parametrize(
    ("conversation", "words"),
    [
        ({"vectors_url": "http://q", "options": {"embedding_retriever": {"model_name": "qdrant"}}}, "leave one out"),
        ({"history_url": "sqlite://", "options": {"history_db_path": "x"}}, "leave one out"),
        ({"replicas": 2}, "vectors_url"),
        ({"options_file": "/nowhere.json"}, "cannot be read"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    tmp_path: Path, conversation: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words):
        memory_configuration(load_settings(None, home=tmp_path, conversation=conversation))


def test_a_server_for_vectors_and_a_history_elsewhere_are_passed_on(tmp_path: Path) -> None:
    ours = {"vectors_url": "http://q:6333", "vectors_api_key": "k", "history_url": "postgresql://db/x", "replicas": 3}
    config = memory_configuration(load_settings(None, home=tmp_path, conversation=ours))
    assert config.embedding_retriever.configs.url == "http://q:6333"
    assert config.history_db_path == "postgresql://db/x"


async def test_opening_that_a_caller_gave_up_is_taken_over_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def open_slowly(_: EmbedderSettings) -> HashingEmbedder:
        begun.set()
        assert go_on.wait(30)
        return HashingEmbedder()

    monkeypatch.setattr(opening, "open_embedder", open_slowly)
    memories = EngineMemories(load_settings(None, home=tmp_path))
    first = asyncio.ensure_future(memories.add(ADA, Addition([say("I sing.")])))
    await asyncio.to_thread(begun.wait, 30)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    go_on.set()
    await memories.add(ADA, Addition([say("I play the cello.")]))
    assert [hit.entry.text for hit in (await memories.search(ADA, Question("cello"))).entries] == [
        "User: I play the cello."
    ]
    await memories.close()


async def test_a_consolidation_reports_what_could_not_be_extracted_before_it(tmp_path: Path) -> None:
    settings = load_settings(None, home=tmp_path)
    model = ScriptedLanguageModel(lambda *_: "no JSON at all")
    engine = open_engine(memory_configuration(settings), embedder=HashingEmbedder(), language_model=model)
    memories = EngineMemories(settings, engine=engine)
    for conversation in ("work", "home"):
        await memories.add(ADA, Addition([say("I play the cello.")], conversation=conversation))
    problems = (await memories.consolidate(ADA, Consolidation(flush=True))).problems
    assert [(problem.stage, problem.retried) for problem in problems] == [("extract", True)] * 2
    assert len(model.calls) == 2 * len(problems)
    await memories.close()


async def test_a_message_of_which_no_entry_was_made_is_edited_and_deleted_like_one(
    replicas: list[EngineMemories],
) -> None:
    memories = replicas[0]
    await memories.add(ADA, Addition([say("I own a boat.")], force_extract=True))
    (said,) = (await memories.page(ADA, PageRequest())).entries
    assert (said.kind, said.state) == ("turn", "current")
    edited = await memories.edit(ADA, said.entry_id, "Ada owns a ship.", said.revision)
    for as_of in (None, "2024-03-01"):
        found = await memories.search(ADA, Question("boat ship", as_of=as_of))
        assert [hit.entry.text for hit in found.entries] == ["Ada owns a ship."]
    await memories.undo(ADA, edited.operation)
    found = await memories.search(ADA, Question("boat ship"))
    assert [hit.entry.text for hit in found.entries] == ["User: I own a boat."]
