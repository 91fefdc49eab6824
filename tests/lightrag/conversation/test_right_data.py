"""Facts have the right time, topic and source, and later ones win. Letters are the published cases."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from lightrag.errors import MessageError, NotFoundError, UsageError
from lightrag.models.fakes import ScriptedLanguageModel
from tests.lightrag.conversation.conftest import Opener, echo, facts, say


def test_O_O2_facts_of_two_batches_keep_their_topic_time_and_source(open_memory: Opener) -> None:
    memory = open_memory(script=echo, short_term_tokens=12)
    first = memory.add_memory(say("I planted nine tall oak trees behind the house.", "2024-01-01"))
    second = memory.add_memory(say("I sold the old boat to a man from Genoa.", "2024-02-01"), force_extract=True)
    by_text = {entry.text: entry for entry in memory.entries() if entry.kind == "fact"}
    oak, boat = (by_text[text] for text in sorted(by_text, key=lambda text: "boat" in text))
    assert (oak.sources, boat.sources) == (first.accepted, second.accepted)
    assert (oak.time.month, boat.time.month) == (1, 2)
    assert oak.topic != boat.topic


def test_S_every_line_that_the_model_sees_has_its_own_number(open_memory: Opener) -> None:
    model = ScriptedLanguageModel(echo)
    memory = open_memory(model=model)
    memory.add_memory([say(f"I own boat {n}.") for n in range(4)], force_extract=True)
    lines = [line.split("] ")[1].split(".")[0] for line in model.calls[0].prompt.messages[1].text.splitlines()[1:]]
    assert lines == ["0", "1", "2", "3"]
    assert sorted(entry.sources for entry in memory.entries() if entry.kind == "fact") == [
        ("m1",),
        ("m2",),
        ("m3",),
        ("m4",),
    ]


@pytest.mark.parametrize("new", [{"fact": "an object"}, None])
def test_U_U2_an_update_without_a_text_is_rejected_and_reported(open_memory: Opener, new: Any) -> None:
    decision = json.dumps({"action": "update", "new_memory": new})
    memory = open_memory(script=[facts((0, "User likes tea."), (1, "User likes green tea.")), decision])
    memory.add_memory([say("tea", "2024-01-01"), say("green tea", "2024-01-02")], force_extract=True)
    memory.construct_update_queue_all_entries()
    report = memory.offline_update_all_entries(score_threshold=0.1)
    assert (report.updated, len(report.problems)) == (0, 1)
    assert {entry.text for entry in memory.entries() if entry.kind == "fact"} == {
        "User likes tea.",
        "User likes green tea.",
    }


def test_V_an_updated_entry_is_found_by_its_new_text(open_memory: Opener) -> None:
    decision = json.dumps({"action": "update", "new_memory": "User breeds zebras."})
    memory = open_memory(
        script=[facts((0, "User likes tea."), (1, "User likes green tea.")), decision],
        retrieve_strategy="embedding",
        retrieve_turns=False,
    )
    memory.add_memory([say("tea", "2024-01-01"), say("green tea", "2024-01-02")], force_extract=True)
    memory.offline_update(score_threshold=0.1)
    best = memory.search("breeds zebras").entries[0]
    assert best.entry.text == "User breeds zebras."
    assert best.found_by[0].score > 0.6


def test_JJ_the_order_of_two_calls_with_one_session_time_is_kept(open_memory: Opener) -> None:
    memory = open_memory()
    for n in range(4):
        memory.add_memory(say(f"I painted wall {n} of the house."))
    memory.flush()
    assert [entry.text.split()[4] for entry in memory.entries()] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    "written",
    [
        "2023/05/20 (Sat) 02:21",
        "2023/05/20 (周六) 02:21",
        "2:21 am on 20 May, 2023",
        "20.05.2023, 02:21:00",
        "2023-05-20T02:21:00",
        1684549260,
    ],
)
def test_HH_time_stamps_in_many_forms_mean_the_same(open_memory: Opener, written: object) -> None:
    memory = open_memory()
    memory.add_memory(say("I sing.") | {"time_stamp": written}, force_extract=True)
    assert f"{memory.entries()[0].time:%Y-%m-%d %H:%M}" == "2023-05-20 02:21"


@pytest.mark.parametrize(
    ("messages", "named"),
    [
        ("just text", "dicts"),
        ([], "empty"),
        ([say("fine"), {"role": "user", "content": "no time"}], "message 1 .*time_stamp"),
        ([say("fine"), say("wrong", role="system")], "message 1 has role 'system'"),
        ([say("x", "the day after")], "message 0 cannot be placed in time"),
        ([say("")], "nothing to remember"),
        ([say("x") | {"colour": "red"}], "unknown fields colour"),
        ([{"role": "user", "content": 7, "time_stamp": "2024-01-01"}], "content of type int"),
        ([{"role": "user", "content": [{"type": "audio"}], "time_stamp": "2024-01-01"}], "neither text nor image_url"),
        (["text"], "message 0 is str"),
    ],
)
def test_HH2_HH3_SU_what_cannot_be_accepted_is_refused_and_nothing_stored(
    open_memory: Opener, messages: Any, named: str
) -> None:
    memory = open_memory()
    with pytest.raises(MessageError, match=named):
        memory.add_memory(messages)
    assert memory.entries() == []


def test_HH4_text_parts_are_read_and_images_kept(open_memory: Opener) -> None:
    memory = open_memory()
    parts = [{"type": "text", "text": "I painted this barn."}, {"type": "image_url", "image_url": {"url": "barn.png"}}]
    memory.add_memory([{"role": "user", "content": parts, "time_stamp": "2024-01-01"}], force_extract=True)
    (entry,) = memory.entries()
    assert (entry.text, entry.images) == ("User: I painted this barn.", ("barn.png",))


def test_empty_messages_among_others_are_skipped_with_a_note(open_memory: Opener) -> None:
    memory = open_memory()
    report = memory.add_memory([say("I sing."), say("", role="assistant")])
    assert (len(report.accepted), report.notes) == (1, ("1 empty messages were skipped",))


def test_unordered_and_future_times_are_kept_in_order_of_time(open_memory: Opener) -> None:
    memory = open_memory()
    for year in ("2031", "1999", "2024"):
        memory.add_memory(say(f"I moved house in {year}.", f"{year}-01-01"), force_extract=True)
    assert [entry.time.year for entry in memory.entries()] == [1999, 2024, 2031]


def test_EE_empty_stores_empty_and_long_queries(open_memory: Opener) -> None:
    memory = open_memory()
    assert memory.retrieve("anything") == []
    assert memory.context("anything") == ""
    with pytest.raises(UsageError, match="query is empty"):
        memory.retrieve("  ")
    memory.add_memory(say("I play the cello."), force_extract=True)
    found = memory.search("cello " * 5000)
    assert found.entries
    assert "tokens" in found.notes[0]


def test_ZZ_tags_filter_inside_the_search_and_never_enter_the_text(open_memory: Opener) -> None:
    memory = open_memory()
    for n in range(30):
        memory.add_memory(say(f"I like apple sort {n} very much."), boundmem_tags=["work"], force_extract=True)
    memory.add_memory(say("I like apple pie at home."), boundmem_tags=["Home"], force_extract=True)
    found = memory.retrieve("apple sort", limit=5, boundmem_tags=["home"])
    assert [line.split("User: ")[1] for line in found] == ["I like apple pie at home."]
    assert not any("work" in line or "BAM" in line for line in memory.retrieve("apple", limit=40))


def test_RR_event_mode_counts_both_calls_and_stores_the_kind(open_memory: Opener) -> None:
    relation = json.dumps({"data": [{"source_id": 0, "relation": "User thanks Ann for her help."}]})
    memory = open_memory(script=[facts((0, "Ann helped the user.")), relation], extraction_mode="event")
    report = memory.add_memory(say("Ann helped me, thank you Ann!"), force_extract=True)
    assert report["api_call_nums"] == 2
    assert {entry.kind for entry in memory.entries()} == {"fact", "relation", "turn"}
    assert memory.get_token_statistics()["summary"]["total_llm_calls"] == 2


def test_Y_two_users_are_never_in_one_prompt(open_memory: Opener) -> None:
    model = ScriptedLanguageModel(echo)
    memory = open_memory(model=model)
    ann, bob = memory.for_user("t", "ann"), memory.for_user("t", "bob")
    ann.add_memory(say("I am Ann and own a yacht."))
    bob.add_memory(say("I am Bob and own a horse."))
    ann.flush()
    bob.flush()
    for call in model.calls:
        text = call.prompt.messages[1].text
        assert ("yacht" in text) != ("horse" in text)


def test_later_facts_win_and_as_of_shows_what_held(open_memory: Opener) -> None:
    memory = open_memory()
    # The later statement arrives first.
    memory.add_memory(say("My favorite color is green.", "2024-06-01"), force_extract=True)
    memory.add_memory(say("My favorite color is blue.", "2024-01-01"), force_extract=True)
    memory.offline_update(score_threshold=0.5)
    assert memory.retrieve("favorite color") == ["2024-06-01T00:00:00 Sat User: My favorite color is green."]
    assert memory.retrieve("favorite color", as_of="2024-03-01") == [
        "2024-01-01T00:00:00 Mon User: My favorite color is blue."
    ]


def test_consolidation_can_be_undone(open_memory: Opener) -> None:
    memory = open_memory()
    memory.add_memory(say("My favorite color is blue.", "2024-01-01"), force_extract=True)
    memory.add_memory(say("My favorite color is green.", "2024-06-01"), force_extract=True)
    report = memory.offline_update(score_threshold=0.5)
    assert len(memory.entries()) == 1
    memory.undo(report.operations[0])
    assert len(memory.entries()) == 2
    assert [change.action for change in memory.history_of("e1")] == ["add", "supersede", "undo"]
    with pytest.raises(NotFoundError, match="no operation"):
        memory.undo(report.operations[0])


def test_a_deleted_entry_is_not_found_until_it_is_undone(open_memory: Opener) -> None:
    memory = open_memory(script=echo, retrieve_turns=False)
    memory.add_memory(say("I play the cello."), force_extract=True)
    entry = memory.search("cello").entries[0].entry
    operation = memory.delete(entry.entry_id)
    assert entry.entry_id not in [hit.entry.entry_id for hit in memory.search("cello").entries]
    memory.undo(operation)
    assert memory.search("cello").entries[0].entry.entry_id == entry.entry_id


def test_nothing_of_a_deleted_memory_is_found_at_any_time_nor_the_words_that_it_was_made_of(
    open_memory: Opener,
) -> None:
    memory = open_memory()
    memory.add_memory([say("I play the cello."), say("I own a boat.")], force_extract=True)
    kinds = {entry.entry_id: entry.kind for entry in memory.entries()}
    assert kinds == {"e1": "fact", "m2": "turn"}
    operations = [memory.delete(entry_id) for entry_id in kinds]
    assert memory.entries() == []
    assert memory.retrieve("cello boat") == memory.retrieve("cello boat", as_of="2024-03-01") == []
    for entry_id in kinds:
        with pytest.raises(NotFoundError, match=f"no current memory entry '{entry_id}'"):
            memory.delete(entry_id)
    for operation in reversed(operations):
        memory.undo(operation)
    assert sorted(memory.retrieve("cello boat", as_of="2024-03-01")) == [
        "2024-01-15T10:30:00 Mon User: I own a boat.",
        "2024-01-15T10:30:00 Mon User: I play the cello.",
    ]


def test_a_message_is_deleted_by_the_entries_made_of_it_and_not_before(open_memory: Opener) -> None:
    memory = open_memory(script=echo)
    memory.add_memory(say("I play the cello."))
    with pytest.raises(UsageError, match="waits until entries are made"):
        memory.delete("m1")
    memory.flush()
    with pytest.raises(UsageError, match="made of it: e1"):
        memory.delete("m1")
    memory.delete("e1")
    assert memory.entries() == []
    with pytest.raises(NotFoundError):
        memory.delete("m1")
    with pytest.raises(NotFoundError):
        memory.delete("m9")


@pytest.mark.parametrize("time", ["0001-01-01", "9999-12-31", "0001-01-02"])
def test_times_at_the_ends_of_the_calendar_do_no_harm(open_memory: Opener, time: str) -> None:
    memory = open_memory()
    spoken = "I moved yesterday, move again tomorrow, and wrote of it 99 years ago."
    assert memory.add_memory(say(spoken, time), force_extract=True).entries
    assert memory.add_memory(say("I play the cello."), force_extract=True).entries
    memory.offline_update()
    assert memory.retrieve("cello", limit=1) == ["2024-01-15T10:30:00 Mon User: I play the cello."]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_times_outside_the_calendar_are_refused_and_stored_nowhere(open_memory: Opener, time: str) -> None:
    memory = open_memory()
    with pytest.raises(MessageError, match="years 1 to 9999"):
        memory.add_memory(say("I play the cello.", time))
    with pytest.raises(UsageError, match="as_of is no time"):
        memory.retrieve("cello", as_of=time)
    assert memory.entries() == []


def test_arguments_of_the_wrong_kind_are_named(open_memory: Opener) -> None:
    memory = open_memory()
    calls: list[tuple[str, Callable[[], object]]] = [
        ("limit must be a whole number", lambda: memory.retrieve("cello", limit=cast(Any, "5"))),
        ("query is None, not text", lambda: memory.retrieve(cast(Any, None))),
        ("score_threshold", lambda: memory.offline_update_all_entries(cast(Any, "high"))),
        ("exclude_ids: 'x' is no id", lambda: memory.retrieve("cello", exclude_ids=["x"])),
        ("as_of is no time", lambda: memory.retrieve("cello", as_of="soon")),
        ("conversation .* no database takes", lambda: memory.add_memory(say("I sing."), conversation="a\0b")),
        ("request_id .* no database takes", lambda: memory.add_memory(say("I sing."), request_id="a\ud800")),
    ]
    for words, call in calls:
        with pytest.raises(UsageError, match=words):
            call()
    for entry_id in ("e99", "e" + "9" * 30):
        with pytest.raises(NotFoundError, match="entry"):
            memory.history_of(entry_id)


def test_a_block_for_a_prompt_fits_its_budget(open_memory: Opener) -> None:
    memory = open_memory()
    memory.add_memory(
        [say(f"I bought {n} apples at the market near the river.") for n in range(40)], force_extract=True
    )
    for budget in (30, 100, 300):
        text = memory.context("apples", max_tokens=budget)
        assert 0 < memory.aio.engine.vectorizer.embedder.tokenizer.count(text) <= budget
    assert text.startswith("[2024-01-15 Mon]\n- User: I bought")
