"""Quoted answers with the bundled embedder."""

from __future__ import annotations

import pytest

from lightrag.config import EmbedderSettings
from lightrag.generation.base import GenerationDelta, GenerationRequest
from lightrag.generation.extractive import NOTHING_FOUND, ExtractiveAnswerer
from lightrag.models import open_embedder
from lightrag.models.base import Embedder
from lightrag.types import Chunk, Clue, CorpusVersion, Evidence, Task

CORPUS = CorpusVersion("acme", "mill", 1)
PASSAGES = [
    "The mill stands by the river. It was founded in 1874 by Ada Lind. The roof is red.",
    "In 2016 the mill made 90 tonnes of paper. The canteen served soup.",
    "In 2017 the mill made 120 tonnes of paper. A bridge was painted.",
    "In 2018 the mill made 110 tonnes of paper. Two dogs were adopted.",
    "Rain fell on most days of the summer. The harbour was quiet.",
]


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return open_embedder(EmbedderSettings())


async def ask(
    embedder: Embedder, question: str, task: Task = "rag", passages: list[str] = PASSAGES
) -> list[GenerationDelta]:
    evidence = tuple(
        Evidence(Chunk(f"c{index}", "d", index, text, 0, len(text), tokens=20, language="en"), 1.0 - index / 100)
        for index, text in enumerate(passages)
    )
    request = GenerationRequest(CORPUS, task, question, evidence)
    return [delta async for delta in ExtractiveAnswerer(embedder).answer(request)]


def text(deltas: list[GenerationDelta]) -> str:
    return "".join(delta.text for delta in deltas)


async def test_a_lookup_is_answered_with_the_sentence_that_says_it(embedder: Embedder) -> None:
    deltas = await ask(embedder, "Who founded the mill?")
    assert text(deltas) == "It was founded in 1874 by Ada Lind. [1]"
    assert deltas[-1].done
    assert deltas[-1].kind == "extractive"
    assert deltas[-1].cited == ("c0",)


async def test_a_question_for_the_peak_lists_every_place_and_names_the_highest(embedder: Embedder) -> None:
    lines = text(await ask(embedder, "In which year did the mill make the most paper, in tonnes?")).splitlines()
    assert lines[0].startswith("Highest figure of 3 compared: 120 tonnes [3].")
    assert [line[-3:] for line in lines[1:]] == ["[2]", "[3]", "[4]"]


async def test_an_overview_takes_sentences_from_all_over(embedder: Embedder) -> None:
    deltas = await ask(embedder, "", task="summarize")
    assert {"c0", "c4"} <= set(deltas[-1].cited)
    assert all(line.startswith("- ") for line in text(deltas).splitlines())


async def test_every_quote_stands_in_the_evidence(embedder: Embedder) -> None:
    for line in text(await ask(embedder, "Which things were painted or adopted?")).splitlines():
        quote = line.removeprefix("- ").rsplit(" [", 1)[0]
        assert any(quote in passage for passage in PASSAGES) or line.endswith("matching places:")


async def test_no_evidence_is_said_and_clues_are_quoted_in_its_place(embedder: Embedder) -> None:
    assert text(await ask(embedder, "Who?", passages=[])) == NOTHING_FOUND
    request = GenerationRequest(CORPUS, "qa", "Who founded it?", (), clues=(Clue("Ada Lind founded it."),))
    deltas = [delta async for delta in ExtractiveAnswerer(embedder).answer(request)]
    assert text(deltas) == "Ada Lind founded it. [1]"


async def test_a_sentence_longer_than_the_embedder_reads_is_quoted_whole(embedder: Embedder) -> None:
    long = "The mill, " + "which was old and grey and stood by the water, " * 60 + "was founded by Ada Lind."
    assert text(await ask(embedder, "Who founded the mill?", passages=[long])) == long + " [1]"
