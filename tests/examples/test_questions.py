"""What the demonstration shows: memory finds evidence that plain retrieval does not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from examples.build_corpus import CORPUS
from examples.demo import Question, load_questions
from lightrag.config import Settings, load_settings
from lightrag.engine import Engine
from lightrag.ingestion import IngestSpec, Line, SourceSpec, ingest
from lightrag.rag import Retrieved
from lightrag.types import Task


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = load_settings(home=str(tmp_path_factory.mktemp("home")))
    with Line(settings, IngestSpec(corpus="aldermere", source=SourceSpec(location=str(Path(CORPUS))))) as line:
        ingest(line)
    return settings


@pytest.fixture
async def engine(settings: Settings) -> AsyncIterator[Engine]:
    async with Engine(settings) as engine:
        yield engine


async def retrieved(engine: Engine, question: Question, task: Task) -> str:
    """Text of the evidence; the answer itself is not waited for."""
    async with aclosing(engine.stream(question.question, corpus="aldermere", task=task)) as events:
        async for event in events:
            if isinstance(event, Retrieved):
                return " ".join(" ".join(item.chunk.text.split()) for item in event.evidence)
    raise AssertionError("nothing was retrieved")


async def complete(engine: Engine, task: Task) -> list[Question]:
    """Questions all of whose evidence was retrieved."""
    texts = {question: await retrieved(engine, question, task) for question in load_questions()}
    return [question for question, text in texts.items() if all(phrase in text for phrase in question.evidence)]


@pytest.mark.slow
async def test_memory_completes_more_questions_than_plain_retrieval_and_loses_none(engine: Engine) -> None:
    plain, memory = await complete(engine, "rag"), await complete(engine, "memorag")
    assert set(plain) <= set(memory)
    assert len(memory) >= len(plain) + 4
    assert sum(question.kind == "bridge" for question in memory) >= 3
    assert {question for question in load_questions() if question.kind == "lookup"} <= set(plain)
