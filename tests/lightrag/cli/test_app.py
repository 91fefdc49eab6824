"""The command line as a user types it: exit codes, JSON, no stack traces."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from fastapi import FastAPI

from lightrag.api.app import create_app
from lightrag.rag import QuestionPipeline, Stages
from tests.lightrag.api.test_app import OneCorpus
from tests.lightrag.test_rag import Generate, Recall, Retrieve

COMMAND = str(Path(sys.executable).with_name("lightrag"))


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """A real server on loopback, and its address."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 10
        while not server.started and time.monotonic() < deadline:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(10)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A service over small local stages."""
    stages = Stages(Retrieve(), Generate(), recall=Recall())
    with serving(create_app(QuestionPipeline(stages), OneCorpus(), tenant="acme")) as url:
        yield url


def lightrag(*arguments: str, home: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", **({"LRAG_HOME": str(home)} if home else {})}
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, text=True, env=environment, timeout=60, check=False
    )


def test_an_answer_shows_its_evidence_and_says_who_wrote_it(url: str) -> None:
    result = lightrag("ask", "Who signed?", "-c", "reports", "--url", url)
    assert result.returncode == 0
    assert result.stdout.startswith("Ada did.\n")
    assert "(characters 0-28)" in result.stdout
    assert "written by test · acme/reports@3" in result.stdout


def test_a_streamed_answer_reads_the_same(url: str) -> None:
    result = lightrag("ask", "Who signed?", "-c", "reports", "--url", url, "--stream")
    assert result.stdout.startswith("Ada did.\n")


def test_json_is_one_value_on_standard_output(url: str) -> None:
    answer = json.loads(lightrag("ask", "Who?", "-c", "reports", "--url", url, "--json").stdout)
    assert answer["text"] == "Ada did."
    corpora = json.loads(lightrag("corpora", "--url", url, "--json").stdout)
    assert corpora[0]["counts"] == {"documents": 1}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ask", "Who?", "-c", "absent"], 1, "absent"),
        (["ask", " ", "-c", "reports"], 2, "empty"),
        (["ask", "Who?", "-c", "reports", "--task", "guess"], 2, "task"),
        (["ask", "Who?"], 2, "--corpus"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_errors_have_an_exit_code_and_no_stack_trace(url: str, arguments: list[str], code: int, words: str) -> None:
    extra = ["--url", url] if arguments[0] == "ask" else []
    result = lightrag(*arguments, *extra)
    assert result.returncode == code
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_without_a_service_the_cure_is_named(tmp_path: Path) -> None:
    result = lightrag("ask", "Who?", "-c", "reports", "--url", "http://127.0.0.1:9", "--json")
    assert result.returncode == 1
    assert "lightrag up" in json.loads(result.stdout)["detail"]
    assert lightrag("status", home=tmp_path).returncode == 1
    assert json.loads(lightrag("down", "--json", home=tmp_path).stdout) == {"stopped": False}


def test_a_port_in_use_is_refused_with_the_cure(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = lightrag("up", "--port", str(taken.getsockname()[1]), home=tmp_path)
    assert result.returncode == 2
    assert "choose another with --port" in result.stderr


def test_settings_are_shown_with_their_origin(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("retrieval: {top_k: 3}\n", encoding="utf-8")
    rows = {row["name"]: row for row in json.loads(lightrag("config", "--config", str(file), "--json").stdout)}
    assert (rows["retrieval.top_k"]["value"], rows["retrieval.top_k"]["origin"]) == ("3", "file")
    file.write_text("retrieval: {top_q: 3}\n", encoding="utf-8")
    result = lightrag("config", "--config", str(file))
    assert (result.returncode, "top_q" in result.stderr) == (2, True)


def test_the_doctor_finds_everything_in_working_order(tmp_path: Path) -> None:
    result = lightrag("doctor", "--json", home=tmp_path)
    findings = {finding["what"]: finding for finding in json.loads(result.stdout)}
    assert result.returncode == 0
    assert findings["embedder"]["state"] == "ok"
    assert findings["storage"]["state"] == "ok"
    assert "384 dimensions" in findings["embedder"]["found"]
