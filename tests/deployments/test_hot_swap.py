"""A corpus that changes under load: no question fails, and none sees two versions."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from lightrag.client import AsyncClient
from lightrag.config import load_settings
from lightrag.engine import Engine
from lightrag.types import Answer
from tests.deployments.conftest import Service

pytestmark = [pytest.mark.ray, pytest.mark.slow]

VERSIONS = 10
QUESTIONS = 1000
ASKERS = 4


def write_version(folder: Path, number: int) -> None:
    folder.mkdir(exist_ok=True)
    for name in ("gate", "mill", "quay"):
        (folder / f"{name}.txt").write_text(f"The keeper of the {name} in edition {number} is Ada Lind.", "utf-8")


def editions(answer: Answer) -> set[int]:
    return {int(found) for item in answer.evidence for found in re.findall(r"edition (\d+)", item.chunk.text)}


async def test_a_thousand_questions_across_ten_versions(service: Service, tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    answers: list[Answer] = []
    changed = asyncio.Event()

    async with Engine(load_settings(home=service.home)) as engine, AsyncClient(service.url) as client:
        write_version(folder, 1)
        await engine.ingest(folder, corpus="swapped")

        # Changes are spread over the questions, and none comes before the one before it was seen.
        due = [asyncio.Event() for _ in range(VERSIONS)]

        async def change() -> None:
            for number in range(2, VERSIONS + 1):
                await due[number - 1].wait()
                write_version(folder, number)
                await engine.ingest(folder, corpus="swapped")
            changed.set()

        async def ask() -> None:
            while len(answers) < QUESTIONS or not changed.is_set():
                answer = await client.ask("Who keeps the gate?", corpus="swapped", task="rag")
                answers.append(answer)
                for edition in editions(answer):
                    if len(answers) >= edition * QUESTIONS // VERSIONS and edition < VERSIONS:
                        due[edition].set()

        async with asyncio.timeout(300):
            await asyncio.gather(change(), *(ask() for _ in range(ASKERS)))
            last = await client.ask("Who keeps the gate?", corpus="swapped", task="rag")
            while editions(last) != {VERSIONS}:
                await asyncio.sleep(0.1)
                last = await client.ask("Who keeps the gate?", corpus="swapped", task="rag")

    assert len(answers) >= QUESTIONS
    # Every answer rests on one edition, the same for all answers of a version (tidying makes versions of its own).
    seen = sorted({(answer.corpus.version, *editions(answer)) for answer in answers})
    assert len(seen) == len({version for version, *_ in seen})
    assert [len(rest) for _, *rest in seen] == [1] * len(seen)
    assert [edition for _, edition in seen] == sorted(edition for _, edition in seen)
    assert {edition for _, edition in seen} >= set(range(1, VERSIONS))
