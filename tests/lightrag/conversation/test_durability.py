"""Nothing accepted is lost, nothing is stored twice. Letters are the published cases."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pytest

from lightrag.errors import BackendError, ConfigurationError, ConflictError
from lightrag.models.base import FloatMatrix
from lightrag.models.fakes import HashingEmbedder, ScriptedLanguageModel
from tests.lightrag.conversation.conftest import Opener, echo, facts, say


def test_Z_a_reopened_store_has_everything(open_memory: Opener) -> None:
    memory = open_memory()
    memory.add_memory(say("I play the cello."), force_extract=True)
    before = memory.retrieve("cello")
    memory.close()
    assert open_memory().retrieve("cello") == before != []


def test_Z2_a_buffered_message_is_found_at_once_and_after_a_restart(open_memory: Opener) -> None:
    memory = open_memory()
    report = memory.add_memory(say("I play the cello."))
    assert report.buffered == 1
    assert memory.search("cello").entries[0].entry.state == "provisional"
    memory.close()
    again = open_memory()
    assert again.search("cello").entries[0].entry.state == "provisional"
    again.flush()
    assert again.search("cello").entries[0].entry.state == "current"


def test_N_a_failing_model_queues_the_work_and_the_next_call_does_it(open_memory: Opener) -> None:
    down = BackendError("503", retryable=True)
    memory = open_memory(script=[down, facts((0, "User plays the cello.")), facts((0, "User plays the flute."))])
    report = memory.add_memory(say("I play the cello."), force_extract=True)
    assert (report.queued, report.problems[0].stage, report.problems[0].retried) == (1, "extract", True)
    assert memory.retrieve("cello")
    report = memory.add_memory(say("I play the flute."), force_extract=True)
    assert report.queued == 0
    assert {entry.text for entry in memory.entries() if entry.kind == "fact"} == {
        "User plays the cello.",
        "User plays the flute.",
    }


@pytest.mark.parametrize(
    "broken",
    [
        '{"data": [{"source_id": 0, "fact": "User plays the cello."}',
        '```json\n{"data": [{"source_id": 0, "fact": "User plays the cello."},]}\n```',
        'Sure! [{"source_id": "0", "fact": "User plays the cello."}]',
    ],
)
def test_N2_small_damage_is_repaired_without_asking_again(open_memory: Opener, broken: str) -> None:
    memory = open_memory(script=[broken])
    assert memory.add_memory(say("I play the cello."), force_extract=True).usage.calls == 1
    assert "User plays the cello." in [entry.text for entry in memory.entries()]


def test_N2_an_unusable_answer_is_asked_for_once_more(open_memory: Opener) -> None:
    memory = open_memory(script=['{"data": [{"source_id": 0, "fa', facts((0, "User plays the cello."))])
    report = memory.add_memory(say("I play the cello."), force_extract=True)
    assert (report.usage.calls, report.queued) == (2, 0)


def test_N2_a_second_answer_that_says_less_does_not_undo_what_the_first_one_said(open_memory: Opener) -> None:
    broken = '{"data": [{"source_id": 0, "fact": "User plays the cello."}, {"source_id": 0, "fa'
    memory = open_memory(script=[broken, facts()])
    report = memory.add_memory(say("I play the cello, and more."), force_extract=True)
    assert len(report.entries) == 1
    assert "broke off" in report.problems[0].reason


def test_many_short_messages_are_asked_about_in_parts_whose_answers_fit(open_memory: Opener) -> None:
    model = ScriptedLanguageModel(echo, context_tokens=32_768)
    memory = open_memory(model=model)
    said = [say(f"I bought a book in town number {n}, and it was good.") for n in range(120)]
    report = memory.add_memory(said, force_extract=True)
    assert (len(report.entries), report.problems) == (120, ())
    assert all(call.sampling.max_tokens == 2000 for call in model.calls)
    assert 1 < len(model.calls) < 12


def test_N2_two_unusable_answers_leave_the_work_in_the_queue(open_memory: Opener) -> None:
    memory = open_memory(script=["no", "no again", facts((0, "User plays the cello."))])
    report = memory.add_memory(say("I play the cello."), force_extract=True)
    assert (report.queued, report.problems[0].retried) == (1, True)
    assert memory.flush().entries
    assert memory.flush().entries == ()


def test_N3_N4_P_P2_bad_items_are_reported_and_good_ones_kept(open_memory: Opener) -> None:
    answer = facts("a bare string", (None, "no line"), (7, "out of range"), (-1, "negative"), (0, "User sings."))
    memory = open_memory(script=[answer])
    report = memory.add_memory(say("I sing."), force_extract=True)
    assert len(report.entries) == 1
    assert len(report.problems) == 4
    assert all(problem.stage == "extract" for problem in report.problems)


class FlakyEmbedder(HashingEmbedder):
    """Fails while told to."""

    failing = False

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        if self.failing:
            raise BackendError("the embedder is down", retryable=True)
        return await super().embed(texts, kind)


def test_UU_an_embedder_that_fails_loses_no_fact_and_is_asked_again(open_memory: Opener) -> None:
    embedder = FlakyEmbedder()
    memory = open_memory(script=echo, embedder=embedder)
    embedder.failing = True
    report = memory.add_memory([say(f"I own {n} horses.") for n in range(5)], force_extract=True)
    assert (len(report.entries), report.problems[0].stage) == (5, "index")
    embedder.failing = False
    assert len(memory.retrieve("horses", limit=10)) == 5


def test_VV_the_same_message_five_times_is_one_entry_with_five_occurrences(open_memory: Opener) -> None:
    memory = open_memory()
    for _ in range(5):
        memory.add_memory(say("My favorite color is blue."), force_extract=True)
    (hit,) = memory.search("favorite color").entries
    assert (hit.entry.occurrences, len(hit.entry.sources)) == (5, 5)


def test_VV_concurrent_identical_adds_give_one_entry(open_memory: Opener) -> None:
    memory = open_memory()
    threads = [
        threading.Thread(
            target=memory.add_memory, args=(say("My favorite color is blue."),), kwargs={"force_extract": True}
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory.flush()
    (entry,) = memory.entries()
    assert entry.occurrences == 6


def test_the_same_request_id_stores_nothing_again(open_memory: Opener) -> None:
    memory = open_memory()
    first = memory.add_memory(say("I sing."), request_id="r1")
    second = memory.add_memory(say("I sing."), request_id="r1")
    assert (second.repeated, second.accepted) == (True, first.accepted)
    with pytest.raises(ConflictError, match="r1"):
        memory.add_memory(say("I dance."), request_id="r1")
    assert len(memory.entries()) == 1


def _always_delete(prompt: object, sampling: object) -> str:
    text = prompt.messages[-1].text  # type: ignore[attr-defined]  # a Prompt
    return '{"action": "delete"}' if text.startswith("Earlier") else echo(prompt, sampling)


def test_W_of_two_that_would_delete_each_other_the_later_survives(open_memory: Opener) -> None:
    memory = open_memory(script=_always_delete)
    memory.add_memory([say("I like tea a lot."), say("I like tea a lot indeed.")], force_extract=True)
    memory.construct_update_queue_all_entries()
    memory.offline_update_all_entries(score_threshold=0.1)
    left = [entry.text for entry in memory.entries() if entry.kind == "fact"]
    assert left == ["I like tea a lot indeed."]


def test_W2_consolidating_unchanged_data_asks_no_model(open_memory: Opener) -> None:
    def decide(prompt: object, sampling: object) -> str:
        text = prompt.messages[-1].text  # type: ignore[attr-defined]  # a Prompt
        if not text.startswith("Earlier"):
            return echo(prompt, sampling)
        return (
            '{"action": "update", "new_memory": "I like many kinds of tea."}'
            if "green" in text
            else '{"action": "ignore"}'
        )

    model = ScriptedLanguageModel(decide)
    memory = open_memory(model=model)
    memory.add_memory([say(f"I like {kind} tea.") for kind in ("green", "black", "white", "red")], force_extract=True)
    for expected in (True, False, False):
        before = len(model.calls)
        memory.construct_update_queue_all_entries()
        memory.offline_update_all_entries(score_threshold=0.1)
        assert (len(model.calls) > before) is expected


def test_O3_a_failed_batch_does_not_touch_the_others(open_memory: Opener) -> None:
    def fail_first(prompt: object, sampling: object) -> str:
        if "apple" in prompt.messages[1].text:  # type: ignore[attr-defined]  # a Prompt
            raise BackendError("503", retryable=True)
        return echo(prompt, sampling)

    memory = open_memory(script=fail_first, short_term_tokens=5)
    memory.add_memory(say("I eat one apple every single morning.", "2024-01-01"))
    report = memory.add_memory(say("I eat one pear every single evening.", "2024-02-02"), force_extract=True)
    assert report.queued == 1
    (fact,) = [entry for entry in memory.entries() if entry.kind == "fact"]
    assert (f"{fact.time:%m-%d}", "pear" in fact.text) == ("02-02", True)


@pytest.mark.parametrize("segment", [True, False])
def test_Q_every_pair_of_a_forced_call_reaches_extraction(open_memory: Opener, *, segment: bool) -> None:
    memory = open_memory(script=echo, topic_segment=segment, sensory_tokens=30, short_term_tokens=30)
    pairs = [
        message
        for n in range(6)
        for message in (say(f"I bought car {n} today, a nice one."), say(f"Good for you {n}!", role="assistant"))
    ]
    memory.add_memory(pairs, force_segment=True, force_extract=True)
    texts = {entry.text for entry in memory.entries() if entry.kind == "fact"}
    assert texts == {f"I bought car {n} today, a nice one." for n in range(6)}


def test_Q7_assistant_messages_are_kept_and_extracted_when_asked_for(open_memory: Opener, tmp_path: Path) -> None:
    kept = open_memory(path=tmp_path / "user")
    kept.add_memory(say("The capital of Peru is Lima.", role="assistant"), force_extract=True)
    assert kept.retrieve("capital of Peru")
    for use in ("assistant_only", "hybrid"):
        memory = open_memory(path=tmp_path / use, script=echo, messages_use=use)
        report = memory.add_memory(say("The capital of Peru is Lima.", role="assistant"), force_extract=True)
        assert len(report.entries) == 1


def test_SY_two_instances_share_a_path_in_one_process(open_memory: Opener) -> None:
    one, other = open_memory(), open_memory()
    one.add_memory(say("I play the cello."), force_extract=True)
    assert other.retrieve("cello") == one.retrieve("cello") != []


def test_SY_another_process_is_refused_with_the_cure(open_memory: Opener, tmp_path: Path) -> None:
    open_memory(path=tmp_path / "memory")
    code = (
        "from lightrag.conversation import LightMemory\n"
        "from lightrag.models.fakes import HashingEmbedder\n"
        f"path = {str(tmp_path / 'memory')!r}\n"
        "config = {'embedding_retriever': {'model_name': 'qdrant', 'configs': {'path': path}}}\n"
        "LightMemory.from_config(config, embedder=HashingEmbedder())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert ConfigurationError.__name__ in done.stderr
    assert "Qdrant server" in done.stderr


def test_X_threads_that_add_at_the_same_time_lose_nothing(open_memory: Opener) -> None:
    memory = open_memory()

    def work(thread: int) -> None:
        for n in range(15):
            day = f"2024-{thread + 1:02d}-{n + 1:02d}"
            memory.add_memory(say(f"Worker {thread} built house {n}.", day), force_extract=n % 5 == 4)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = memory.flush()
    assert not report.problems
    entries = memory.entries()
    assert len(entries) == 120
    for entry in entries:
        _, thread, _, _, house = entry.text.removeprefix("User: ").rstrip(".").split()
        assert f"{entry.time:%m-%d}" == f"{int(thread) + 1:02d}-{int(house) + 1:02d}"
