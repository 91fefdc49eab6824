"""Recall from gists, by a model and without one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from lightrag.config import RecallSettings
from lightrag.errors import NotFoundError, UsageError
from lightrag.memory.base import RecallRequest
from lightrag.memory.recall import GistSentenceRecaller, PromptedRecaller, TaskRecaller
from lightrag.models import HashingEmbedder, ScriptedLanguageModel
from lightrag.models.base import Prompt, Sampling
from lightrag.types import CorpusVersion, Gist

CORPUS = CorpusVersion("acme", "mill", 1)


def gist(number: int, text: str, level: int = 0) -> Gist:
    return Gist(f"g{number}", text, level, (f"c{number}",), "d", 10)


@dataclass
class Loaded:
    gists: list[Gist] = field(
        default_factory=lambda: [
            gist(1, "Ada Lind founded the mill. It stands by the river."),
            gist(2, "The harbour froze in 1901. Ships waited for weeks."),
        ]
    )
    language: str = "en"


def corpora(loaded: Loaded):  # type: ignore[no-untyped-def]
    @asynccontextmanager
    async def lease(version: CorpusVersion) -> AsyncIterator[Loaded]:
        assert version == CORPUS
        yield loaded

    return lease


def scripted(prompt: Prompt, sampling: Sampling) -> str:
    text = prompt.messages[-1].text
    if "Reply with the answer only" in text:
        return "Ada Lind."
    if "short questions" in text:
        return "1. Who founded the mill?\n2. When was the mill founded?"
    return "- Ada Lind founded the mill.\n- It stands by the river."


async def test_spans_surrogates_and_draft_come_from_one_batch_over_the_gists() -> None:
    model = ScriptedLanguageModel(scripted)
    recollection = await PromptedRecaller(model, corpora(Loaded())).recall(
        RecallRequest(CORPUS, "Who started it?", draft=True)
    )
    assert [(clue.kind, clue.text) for clue in recollection.clues] == [
        ("span", "Ada Lind founded the mill."),
        ("span", "It stands by the river."),
        ("surrogate", "Who founded the mill?"),
        ("surrogate", "When was the mill founded?"),
        ("draft", "Ada Lind."),
    ]
    assert recollection.usage.calls == 3
    assert {call.prompt.cache_salt for call in model.calls} == {"acme/mill@1"}
    assert all("The harbour froze in 1901." in call.prompt.messages[-1].text for call in model.calls)


async def test_limits_on_clues_hold() -> None:
    recaller = PromptedRecaller(
        ScriptedLanguageModel(scripted), corpora(Loaded()), RecallSettings(max_clues=1, max_surrogates=0)
    )
    recollection = await recaller.recall(RecallRequest(CORPUS, "Who?"))
    assert [clue.kind for clue in recollection.clues] == ["span"]


async def test_without_a_model_the_nearest_sentences_are_recalled_with_their_chunks() -> None:
    recaller = GistSentenceRecaller(HashingEmbedder(), corpora(Loaded()))
    recollection = await recaller.recall(RecallRequest(CORPUS, "who founded the mill", task="qa"))
    assert recollection.clues[0].text == "Ada Lind founded the mill."
    assert recollection.clues[0].chunk_ids == ("c1",)
    assert recollection.method == "extractive"


async def test_a_summary_recalls_from_every_part() -> None:
    recaller = GistSentenceRecaller(HashingEmbedder(), corpora(Loaded()), RecallSettings(max_clues=3))
    recollection = await recaller.recall(RecallRequest(CORPUS, "", task="summarize"))
    assert {chunk_id for clue in recollection.clues for chunk_id in clue.chunk_ids} == {"c1", "c2"}


async def test_a_corpus_without_gists_and_an_empty_question_are_refused() -> None:
    recaller = GistSentenceRecaller(HashingEmbedder(), corpora(Loaded(gists=[])))
    with pytest.raises(NotFoundError, match="no gists"):
        await recaller.recall(RecallRequest(CORPUS, "Who?"))
    with pytest.raises(UsageError, match="empty"):
        await GistSentenceRecaller(HashingEmbedder(), corpora(Loaded())).recall(RecallRequest(CORPUS, " "))


async def test_tasks_go_to_the_recaller_made_for_them() -> None:
    prompted = PromptedRecaller(ScriptedLanguageModel(scripted), corpora(Loaded()))
    recaller = TaskRecaller(prompted, GistSentenceRecaller(HashingEmbedder(), corpora(Loaded())))
    assert (await recaller.recall(RecallRequest(CORPUS, "Who?"))).method == "prompted"
    assert (await recaller.recall(RecallRequest(CORPUS, "", task="summarize"))).method == "extractive"
