"""Summaries over periods, and the graph of entities. Letters are the published cases."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightrag.errors import ConfigurationError
from lightrag.models.fakes import ScriptedLanguageModel
from tests.lightrag.conversation.conftest import Opener, echo, say

SUMMARIES = {"summary_retriever": {"model_name": "qdrant", "configs": {}}}


def _summarise(prompt: object, sampling: object) -> str:
    return "A short account." if "period" in prompt.messages[0].text else echo(prompt, sampling)  # type: ignore[attr-defined]  # a Prompt


def test_SX_a_period_is_summarised_once_and_found(open_memory: Opener) -> None:
    memory = open_memory(**SUMMARIES)
    memory.add_memory([say("I planted an oak tree."), say("I sold my old boat.")], force_extract=True)
    memory.add_memory(say("I married Ann in Rome.", "2024-03-01"), force_extract=True)
    report = memory.summarize(top_k=15)
    assert report.covered == 2
    assert report.summaries[0].covers == ("e1", "e2")
    assert memory.summarize(process_all=True).covered == 1
    assert memory.summarize(process_all=True).summaries == ()
    assert "summary" in {hit.entry.kind for hit in memory.search("oak tree boat").entries}


@pytest.mark.parametrize("apart", ["collection_name", "path"])
def test_summaries_have_a_place_of_their_own_where_one_is_named(
    open_memory: Opener, tmp_path: Path, apart: str
) -> None:
    place = tmp_path / "memory" / "digests" if apart == "collection_name" else tmp_path / "elsewhere" / "lightmem"
    configs = {"collection_name": "digests"} if apart == "collection_name" else {"path": str(tmp_path / "elsewhere")}
    options = {"summary_retriever": {"model_name": "qdrant", "configs": configs}, "retrieve_strategy": "embedding"}
    memory = open_memory(**options)
    memory.add_memory([say("I planted an oak tree."), say("I sold my old boat.")], force_extract=True)
    memory.summarize()
    asked = "I planted an oak tree. I sold my old boat."
    found = [(hit.entry.kind, hit.entry.text) for hit in memory.search(asked, limit=5).entries]
    assert {kind for kind, _ in found} == {"fact", "summary"}
    memory.close()
    assert list(place.rglob("watermark.json"))
    again = open_memory(**options)
    assert [(hit.entry.kind, hit.entry.text) for hit in again.search(asked, limit=5).entries] == found
    assert again.construct_update_queue_all_entries() >= 0
    again.forget()
    assert again.search(asked).entries == ()


def test_SS_without_a_summary_retriever_it_is_refused(open_memory: Opener) -> None:
    with pytest.raises(ConfigurationError, match="summary_retriever"):
        open_memory().summarize()


@pytest.mark.parametrize("scope", ["historical", "global"])
def test_ST_ST2_related_entries_are_of_other_periods_only(open_memory: Opener, scope: str) -> None:
    model = ScriptedLanguageModel(_summarise)
    memory = open_memory(model=model, **SUMMARIES)
    for day in ("2024-01-01", "2024-02-01", "2024-03-01"):
        memory.add_memory(say(f"I saw whales on {day}.", day), force_extract=True)
    memory.summarize()
    memory.summarize(retrieval_scope=scope)
    own, _, related = model.calls[-1].prompt.messages[1].text.partition("Related memories")
    assert "2024-02-01." in own
    assert "2024-02-01." not in related
    assert "2024-01-01." in related
    assert ("2024-03-01." in related) is (scope == "global")


def test_SV_two_instances_have_their_own_periods(open_memory: Opener) -> None:
    one = open_memory(**SUMMARIES).for_user("t", "one")
    other = open_memory(**SUMMARIES).for_user("t", "other")
    for memory in (one, other):
        memory.add_memory(say("I planted an oak tree."), force_extract=True)
    assert one.summarize().covered == other.summarize().covered == 1


def test_C_entities_and_relations_are_stored_and_used(open_memory: Opener) -> None:
    memory = open_memory(graph_mem=True)
    memory.add_memory(
        [
            say("I met Marta in Lisbon."),
            say("It rained for a whole week."),
            say("My cousin works with Marta at Siemens."),
        ],
        force_extract=True,
    )
    graph = memory.graph()
    assert len(graph.entities["Marta"]) == 2
    assert {(each.subject, each.object) for each in graph.of("Lisbon")} == {("User", "Lisbon"), ("Marta", "Lisbon")}
    found = memory.search("Who works at Siemens?", limit=3).entries
    linked = [hit for hit in found if "Lisbon" in hit.entry.text]
    assert linked
    assert found.index(linked[0]) < 2
