"""The jobs over memories as users and the service run them: killed half-way, on Ray, called wrongly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightrag.config import load_settings
from lightrag.conversation.history import History
from lightrag.conversation.opening import memory_configuration
from pipelines import consolidate_memories, extract_memories
from tests.lightrag.conversation.bulk.conftest import row


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LRAG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path / "home"


def write(path: Path, users: int, messages: int) -> Path:
    rows = [
        row(
            f"user-{user}",
            f"I visited town {number} of land {user}.",
            f"2024-{1 + number % 12:02d}-{1 + number // 12:02d}",
        )
        for number in range(messages)
        for user in range(users)
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


def entries(home: Path) -> dict[str, list[tuple[str, int]]]:
    settings = load_settings(None, home=home)
    history = History.open(str(memory_configuration(settings).history_db_path))
    found = {
        scope.user: sorted((entry.text, entry.occurrences) for entry in history.entries.since(scope, 0))
        for scope in history.ledger.scopes("acme")
    }
    history.close()
    return found


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.extract_memories", *arguments, "--tenant", "acme", "--json"]


@pytest.mark.parametrize("job", ["extract_memories", "consolidate_memories"])
def test_help_needs_no_ray(job: str) -> None:
    code = f"import sys, pipelines.{job} as i\ntry: i.main(['--help'])\nfinally: assert 'ray' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "--tenant" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say what to import"),
        (["/nowhere.jsonl"], "check the path"),
        (["x.jsonl", "--tenant", "no/good"], "not a valid name"),
        (["--json", '{"location": "x", "lokation": 1}'], "lokation"),
        (["--json", "{"], "not JSON"),
        (["x.jsonl", "--json", '{"location": "x"}'], "either a spec"),
    ],
)
def test_wrong_calls_exit_with_2_and_say_what_to_change(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert extract_memories.main([*arguments, "--local"]) == 2
    shown = capsys.readouterr()
    assert message in " ".join((shown.out + shown.err).split())
    assert "Traceback" not in shown.err


@pytest.mark.slow
def test_an_import_that_was_killed_goes_on_and_ends_as_if_it_had_not_been(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "chat.jsonl", users=40, messages=8)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command(str(source), "--local"), stdout=subprocess.PIPE, text=True, env=environment
    ) as killed:
        assert killed.stdout is not None
        for line in killed.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and event["done"] > 0:
                break
        killed.kill()
    assert killed.returncode == -9
    assert extract_memories.main([str(source), "--tenant", "acme", "--local", "--json"]) == 0
    *_, last = events(capsys)
    assert (last["event"], last["complete"], last["users"]) == ("summary", True, 40)
    resumed = entries(home)
    monkeypatch.setenv("LRAG_HOME", str(tmp_path / "undisturbed"))
    assert extract_memories.main([str(source), "--tenant", "acme", "--local", "--json"]) == 0
    assert resumed == entries(tmp_path / "undisturbed")
    assert all(count == 1 for found in resumed.values() for _, count in found)
    capsys.readouterr()
    assert consolidate_memories.main(["--tenant", "acme", "--local", "--json"]) == 0
    assert consolidate_memories.main(["--tenant", "acme", "--local", "--json"]) == 0
    *_, last = events(capsys)
    assert (last["users"], last["passed_over"]) == (0, 40)


@pytest.mark.ray
@pytest.mark.slow
def test_on_ray_the_memories_are_those_of_a_plain_loop(
    tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "chat.jsonl", users=17, messages=2)
    environment = {**os.environ, "LRAG_CONVERSATION__WORKERS": "2"}
    done = subprocess.run(
        command(str(source)), capture_output=True, text=True, timeout=280, env=environment, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert (last["users"], last["messages"], last["notes"]) == (17, 34, [])
    on_ray = entries(home)
    assert extract_memories.main([str(source), "--tenant", "acme", "--local", "--json"]) == 0
    *_, again = events(capsys)
    assert (again["messages"], again["unchanged"]) == (0, 17)
    monkeypatch.setenv("LRAG_HOME", str(tmp_path / "loop"))
    assert extract_memories.main([str(source), "--tenant", "acme", "--local", "--json"]) == 0
    assert on_ray == entries(tmp_path / "loop")


def test_a_person_reads_what_was_done_and_what_was_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "chat.jsonl"
    source.write_text(json.dumps(row("bob", "When?", "soon")) + "\n", encoding="utf-8")
    assert extract_memories.main([str(source), "--tenant", "acme", "--local"]) == 0
    shown = " ".join(capsys.readouterr().err.split())
    assert "not imported" in shown
    assert "'soon'" in shown
