"""Recall by following links."""

from __future__ import annotations

from typing import Any

import pytest

from lightrag.config import RecallSettings
from lightrag.errors import ArtifactError, UsageError
from lightrag.memory.base import RecallRequest, Recollection
from lightrag.memory.extractive_recall import LinkRecaller
from lightrag.models import HashingEmbedder
from lightrag.retrieval import IndexRetriever, RetrievalRequest
from lightrag.retrieval.index import CorpusIndex
from tests.lightrag.retrieval.corpora import VERSION, index_of, lakes, leasing

QUESTION = "What is the only outflow of Lake Orra in the north near Tolvik?"


@pytest.fixture(scope="module")
def index() -> CorpusIndex:
    return index_of(lakes())


async def recall(index: CorpusIndex, question: str = QUESTION, **options: Any) -> Recollection:
    recaller = LinkRecaller(HashingEmbedder(), leasing(index), options.pop("settings", None))
    return await recaller.recall(RecallRequest(VERSION, question, **options))


async def test_a_clue_says_through_which_link_it_was_found(index: CorpusIndex) -> None:
    recollection = await recall(index)
    span = recollection.clues[0]
    assert (span.kind, span.chunk_ids) == ("span", ("c1",))
    assert span.text in lakes()[1].text
    assert [(step.from_id, step.kind, step.label) for step in span.via] == [("c0", "mention", "Selm")]
    assert 0 < span.score <= 1
    assert recollection.method == "extractive"


async def test_names_that_lead_on_are_recalled_to_be_looked_up(index: CorpusIndex) -> None:
    names = [clue for clue in (await recall(index)).clues if clue.kind == "surrogate"]
    assert names[0].text == "Selm"
    assert names[0].chunk_ids == ("c1",)


async def test_the_sentence_nearest_to_the_question_is_quoted(index: CorpusIndex) -> None:
    clues = (await recall(index, "Which lake's outflow reaches the sea after three mills?")).clues
    harbour = next(clue for clue in clues if clue.chunk_ids == ("c2",))
    assert harbour.text in ("Port Brannoch is a harbour town.", "Its lighthouse was built by Ada Lindqvist.")


async def test_settings_bound_what_is_recalled(index: CorpusIndex) -> None:
    none = RecallSettings(max_clues=0, max_surrogates=0)
    assert (await recall(index, settings=none)).clues == ()
    one = RecallSettings(max_clues=1, max_surrogates=1)
    assert [clue.kind for clue in (await recall(index, settings=one)).clues] == ["span", "surrogate"]


async def test_a_draft_is_the_most_telling_sentence(index: CorpusIndex) -> None:
    draft = (await recall(index, "Which outflow leaves near Tolvik?", draft=True)).clues[-1]
    assert (draft.kind, draft.text) == ("draft", "Its only outflow is the river Selm, which leaves it near Tolvik.")


async def test_recalled_clues_lead_retrieval_where_links_lead(index: CorpusIndex) -> None:
    clues = (await recall(index)).clues
    retriever = IndexRetriever(HashingEmbedder(), leasing(index))
    plain = await retriever.retrieve(RetrievalRequest(VERSION, QUESTION, top_k=2, spread=False))
    led = await retriever.retrieve(RetrievalRequest(VERSION, QUESTION, top_k=2, spread=False, clues=clues))
    both = await retriever.retrieve(RetrievalRequest(VERSION, QUESTION, top_k=2, clues=clues))
    assert [piece.chunk.chunk_id for piece in led.evidence] == ["c0", "c1"]
    assert [piece.chunk.chunk_id for piece in both.evidence] == ["c0", "c1"]
    assert plain.evidence[0].chunk.chunk_id == "c0"


async def test_an_empty_corpus_recalls_nothing() -> None:
    assert (await recall(index_of([]), draft=True)).clues == ()


async def test_misuse_is_refused(index: CorpusIndex) -> None:
    with pytest.raises(UsageError, match="empty"):
        await recall(index, "  ")
    recaller = LinkRecaller(HashingEmbedder(32), leasing(index))
    with pytest.raises(ArtifactError, match="another embedder"):
        await recaller.recall(RecallRequest(VERSION, QUESTION))


async def test_a_long_question_is_cut_and_says_so(index: CorpusIndex) -> None:
    recollection = await recall(index, QUESTION + " padding" * 20_000)
    assert any("middle were not" in note for note in recollection.notes)
