"""Files of conversations become memories: every layout, exactly once, with the reasons of what could not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lightrag.config import load_settings
from lightrag.conversation import opening
from lightrag.conversation.bulk.stations import ImportLine
from lightrag.conversation.opening import open_conversations
from lightrag.conversation.types import Scope
from lightrag.errors import BackendError, NotFoundError, UsageError
from lightrag.models.fakes import ScriptedLanguageModel
from tests.lightrag.conversation.bulk.conftest import Bench, row
from tests.lightrag.conversation.conftest import echo

DAYS = [f"2024-01-{day:02d}T09:00:00" for day in range(1, 29)]
LOCOMO = {
    "speaker_a": "Ann",
    "speaker_b": "Bo",
    "session_1_date_time": "1:56 pm on 8 May, 2023",
    "session_1": [
        {"speaker": "Ann", "dia_id": "D1:1", "text": "I adopted a dog named Rex."},
        {"speaker": "Bo", "dia_id": "D1:2", "text": "", "blip_caption": "a photo of a red kite"},
    ],
    "session_2_date_time": "10:00 am on 9 May, 2023",
    "session_2": [{"speaker": "Bo", "dia_id": "D2:1", "text": "My sister moved to Lima."}],
    "session_10_date_time": "10:00 am on 19 May, 2023",
    "session_10": [{"speaker": "Ann", "dia_id": "D10:1", "text": "Rex won a prize."}],
    "session_3_date_time": "no turns here",
    "qa": [],
}


def test_messages_in_lines_reach_their_users_in_order(bench: Bench) -> None:
    rows = [row(user, f"I visited town {number}.", DAYS[number]) for number in range(6) for user in ("ada", "bob")]
    rows.insert(3, {"user": "ada", "role": "system", "content": "Be kind.", "time_stamp": DAYS[0]})
    summary = bench.run(bench.write("chat.jsonl", rows))
    assert (summary.receipt.users, summary.receipt.messages, summary.receipt.ignored) == (2, 12, 1)
    assert bench.messages("ada") == [f"I visited town {number}." for number in range(6)]
    entries = bench.remembered()
    assert len(entries["ada"]) == len(entries["bob"]) == 6
    assert {entry.conversation for entry in entries["ada"]} == {"chat.jsonl"}


def test_whole_conversations_of_people_and_assistants(bench: Bench) -> None:
    records = [
        {
            "user_id": "ada",
            "conversation_id": f"c{number}",
            "created_at": DAYS[number],
            "messages": [
                {"role": "system", "content": "Be kind."},
                {"role": "user", "content": f"I own {number} horses."},
                {"role": "assistant", "content": [{"type": "text", "text": "So many!"}]},
            ],
        }
        for number in range(3)
    ]
    summary = bench.run(bench.write("chats.json", records))
    assert (summary.receipt.conversations, summary.receipt.messages) == (3, 6)
    assert {entry.conversation for entry in bench.remembered()["ada"]} == {"c0", "c1", "c2"}


def test_locomo_as_one_conversation_and_as_published(bench: Bench) -> None:
    bench.run(bench.write("26.json", LOCOMO))
    bench.run(bench.write("locomo10.json", [{"sample_id": "conv-26", "conversation": LOCOMO, "qa": []}]))
    spoken = ["I adopted a dog named Rex.", "[a photo of a red kite]", "My sister moved to Lima.", "Rex won a prize."]
    for user in ("26", "conv-26"):
        assert bench.messages(user) == spoken
    first = bench.remembered()["26"][0]
    assert (first.speaker, f"{first.time:%Y-%m-%d %H:%M}") == ("Ann", "2023-05-08 13:56")


def test_longmemeval(bench: Bench) -> None:
    record = {
        "question_id": "q7",
        "haystack_dates": ["2023/05/20 (Sat) 02:21", "2023/05/21 (Sun) 08:00"],
        "haystack_session_ids": ["s1", "s2"],
        "haystack_sessions": [
            [{"role": "user", "content": "I graduated in 2019."}, {"role": "assistant", "content": "Well done!"}],
            [{"role": "user", "content": "I live in Turin.", "has_answer": True}],
        ],
        "question": "Where do I live?",
    }
    summary = bench.run(bench.write("longmemeval.json", [record]))
    assert (summary.receipt.users, summary.receipt.conversations, summary.receipt.messages) == (1, 2, 3)
    assert {entry.conversation for entry in bench.remembered()["q7"]} == {"s1", "s2"}


def test_parquet_with_columns_of_other_names(bench: Bench) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = bench.home / "chats.parquet"
    table = pa.table(
        {
            "who": ["ada", "bob", "ada"],
            "kind": ["user"] * 3,
            "said": ["I like tea.", "I like rain.", "I like snow."],
            "at": DAYS[:3],
            "likes": [1, 2, 3],
        }
    )
    pq.write_table(table, path, row_group_size=2)
    columns = {"user": "who", "role": "kind", "content": "said", "time": "at"}
    assert bench.run(path, columns=columns).receipt.messages == 3
    assert bench.messages("ada") == ["I like tea.", "I like snow."]


def test_a_second_run_does_nothing_and_a_grown_source_only_what_is_new(bench: Bench) -> None:
    rows = [row("ada", f"I visited town {number}.", DAYS[number]) for number in range(4)]
    bench.run(bench.write("chat.jsonl", rows))
    before = bench.remembered()
    again = bench.run(bench.write("chat.jsonl", rows))
    assert (again.receipt.changed, again.receipt.messages, again.receipt.unchanged) == (0, 0, 1)
    assert bench.remembered() == before
    rows += [row("ada", f"I visited town {number}.", DAYS[number]) for number in range(4, 6)]
    grown = bench.run(bench.write("chat.jsonl", rows))
    assert grown.receipt.messages == 2
    assert bench.messages("ada") == [f"I visited town {number}." for number in range(6)]


def test_what_says_something_else_than_before_is_refused_and_kept_as_it_was(bench: Bench) -> None:
    bench.run(bench.write("chat.jsonl", [row("ada", "I like tea.")]))
    summary = bench.run(bench.write("chat.jsonl", [row("ada", "I like coffee.")]))
    assert "imported before" in summary.receipt.failed[0].reason
    assert bench.messages("ada") == ["I like tea."]
    assert bench.run(bench.write("chat.jsonl", [row("ada", "I like coffee.")]), name="april").receipt.messages == 1


def test_bad_conversations_are_listed_with_their_reasons_and_stop_nobody(bench: Bench) -> None:
    lines = [
        json.dumps(row("ada", "I like tea.")),
        "{not json",
        json.dumps(row("bob", "When?", "soon")),
        json.dumps({"role": "user", "content": "Whose?", "time_stamp": DAYS[0]}),
        json.dumps(row("a\nb", "Hm.")),
        json.dumps(row("eve", " ")),
        json.dumps(row("cyd", "I swim.", role="cat")),
        "[1]",
    ]
    summary = bench.run(bench.write("chat.jsonl", "\n".join(lines)))
    assert (summary.receipt.messages, len(summary.receipt.failed)) == (1, 7)
    reasons = " ".join(failed.reason for failed in summary.receipt.failed)
    for part in ("not JSON", "'soon'", "'user'", "printable", "says anything", "'cat'", "object"):
        assert part in reasons
    path = Path(summary.errors_at.removeprefix("file://"))
    listed = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [entry["reason"] for entry in listed] == [failed.reason for failed in summary.receipt.failed]
    assert bench.run(bench.write("chat.jsonl", lines[0] + "\n")).errors_at == ""
    assert not path.exists()


@pytest.mark.parametrize(
    ("name", "content", "error", "words"),
    [
        ("chat.jsonl", "", UsageError, "holds no conversations"),
        ("chat.jsonl", "{}\n", UsageError, "layout"),
        ("chat.txt", "hello", UsageError, ".parquet"),
    ],
)
def test_sources_that_are_none_are_refused(
    bench: Bench, name: str, content: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        bench.run(bench.write(name, content))
    with pytest.raises(NotFoundError, match="check the path"):
        bench.run(bench.home / "nowhere.jsonl")


class Stopped(BaseException):
    """Ends the process at a given point, without a trace of politeness."""


@pytest.mark.parametrize("point", range(0, 40, 3))
def test_stopped_anywhere_and_run_again_the_memory_is_that_of_an_undisturbed_run(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: int
) -> None:
    from lightrag.conversation.history.ledger import Ledger

    rows = [
        row(user, f"I visited town {number} with cousin {number}.", f"2024-0{1 + number // 4}-{1 + number % 4:02d}")
        for number in range(12)
        for user in ("ada", "bob")
    ]
    undisturbed = Bench(tmp_path / "undisturbed")
    path = bench.write("chat.jsonl", rows)
    undisturbed.run(path)
    write, writes = Ledger.write, 0

    def stop_at(self: Ledger, scope: Scope) -> Any:
        nonlocal writes
        writes += 1
        if writes > point:
            raise Stopped
        return write(self, scope)

    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "write", stop_at)
        with pytest.raises(Stopped):
            bench.run(path)
    bench.run(path)
    found, wanted = (
        {user: [(entry.text, entry.occurrences) for entry in entries] for user, entries in each.remembered().items()}
        for each in (bench, undisturbed)
    )
    assert found == wanted
    for user in ("ada", "bob"):
        assert bench.messages(user) == undisturbed.messages(user)


def test_a_model_that_is_down_leaves_work_that_the_next_run_does(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    path = bench.write("chat.jsonl", [row("ada", f"I visited town {n}.", DAYS[n]) for n in range(3)])
    down = ScriptedLanguageModel(lambda prompt, sampling: (_ for _ in ()).throw(BackendError("503", retryable=True)))
    monkeypatch.setattr(opening, "open_generator", lambda settings: down)
    summary = bench.run(path)
    assert (summary.complete, summary.receipt.messages, summary.receipt.entries) == (False, 3, 0)
    assert any("503" in problem for problem in summary.receipt.problems)
    up = ScriptedLanguageModel(echo)
    monkeypatch.setattr(opening, "open_generator", lambda settings: up)
    summary = bench.run(path)
    assert (summary.complete, summary.receipt.messages, summary.receipt.entries) == (True, 0, 3)
    calls = len(up.calls)
    assert bench.run(path).receipt.calls == 0
    assert len(up.calls) == calls


def test_what_was_imported_is_found_at_once_without_embedding_again(bench: Bench) -> None:
    bench.run(bench.write("chat.jsonl", [row("ada", "I play the cello."), row("ada", "I own a boat.")]))
    engine = open_conversations(bench.settings)
    scope = Scope("acme", "ada")
    assert engine.store.watermark(scope) == engine.history.ledger.revision(scope)
    engine.store.close()
    engine.history.close()


def test_beside_a_service_that_holds_the_vectors_the_history_is_written_and_it_is_said(bench: Bench) -> None:
    service = bench.settings.home / "conversations" / "conversations" / "owner.lock"
    service.parent.mkdir(parents=True)
    import fcntl

    with service.open("w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        summary = bench.run(bench.write("chat.jsonl", [row("ada", "I play the cello.")]))
    assert any("holds the store" in note for note in summary.notes)
    assert len(bench.remembered()["ada"]) == 1


def test_extraction_and_index_apart_do_what_they_do_together(bench: Bench, tmp_path: Path) -> None:
    path = bench.write("chat.jsonl", [row("ada", f"I visited town {n}.", DAYS[n]) for n in range(3)])

    def apart(units: Any, line: ImportLine) -> Any:
        extract, index = line.station("extract"), line.station("index")
        for unit in units:
            yield index.run(extract.run(unit))
        extract.close()
        index.close()

    from lightrag.conversation.bulk.jobs import import_conversations
    from lightrag.conversation.bulk.spec import ImportSpec

    spec = ImportSpec(tenant="acme", location=str(path))
    summary = import_conversations(bench.settings, spec, schedule=apart)  # type: ignore[arg-type]  # one kind of line
    assert (summary.receipt.entries, summary.notes) == (3, [])
    again = bench.run(path)
    assert again.receipt.changed == 0


def test_a_real_sample_of_locomo(bench: Bench, shared: Callable[[str], Path]) -> None:
    summary = bench.run(shared("data/locomo/26.json"))
    assert (summary.receipt.users, summary.receipt.messages, summary.receipt.failed) == (1, 419, ())


def test_settings_that_contradict_each_other_are_said_before_anything_is_read(tmp_path: Path) -> None:
    settings = load_settings(None, home=tmp_path, conversation={"replicas": 2})
    with pytest.raises(UsageError, match="vectors_url"):
        opening.memory_configuration(settings)
