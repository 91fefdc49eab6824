"""Gists: bounds, levels, stability."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.config import GistSettings
from lightrag.errors import LimitError
from lightrag.memory.gists import ExtractiveGister, PromptedGister, corpus_gists, document_gists, top_gists
from lightrag.models import ScriptedLanguageModel
from lightrag.models.tokenization import EstimatingTokenizer
from lightrag.types import Chunk, Gist

TOKENIZER = EstimatingTokenizer()
GISTER = ExtractiveGister(TOKENIZER)


def chunks(count: int, document: str = "d", words: str = "alpha beta") -> list[Chunk]:
    texts = [
        f"Report {index} of {words} came in. Ada Lind read it on day {index * 7}. All was well."
        for index in range(count)
    ]
    return [
        Chunk(f"{document}-{index}", document, index, text, 0, len(text), tokens=20, language="en")
        for index, text in enumerate(texts)
    ]


@settings(deadline=None, max_examples=25)
@given(count=st.integers(0, 60), per_gist=st.integers(2, 9), tokens=st.integers(16, 60), budget=st.integers(64, 300))
async def test_the_top_level_fits_its_budget_and_covers_every_chunk(
    count: int, per_gist: int, tokens: int, budget: int
) -> None:
    wanted = GistSettings(budget_tokens=budget, chunks_per_gist=per_gist, tokens_per_gist=tokens)
    level0 = await document_gists(chunks(count), GISTER, wanted)
    gists = [*level0, *await corpus_gists(level0, GISTER, wanted, "en")]
    top = top_gists(gists)
    assert sum(gist.tokens for gist in top) <= budget
    covered = {chunk_id for gist in top for chunk_id in gist.chunk_ids}
    assert covered == {f"d-{index}" for index in range(count)}
    assert all(TOKENIZER.count(gist.text) == gist.tokens <= tokens + 2 for gist in gists)


async def test_a_document_keeps_its_gists_whatever_else_is_in_the_corpus() -> None:
    wanted = GistSettings(chunks_per_gist=3)
    first = await document_gists(chunks(7), GISTER, wanted)
    again = await document_gists(chunks(7), GISTER, wanted)
    other = await document_gists(chunks(7, "e", "gamma delta"), GISTER, wanted)
    assert first == again
    assert not {gist.gist_id for gist in first} & {gist.gist_id for gist in other}


async def test_one_document_changed_or_added_makes_few_gists_above_anew() -> None:
    wanted = GistSettings(chunks_per_gist=4, tokens_per_gist=32, budget_tokens=200)
    documents = [await document_gists(chunks(3, f"d{number}"), GISTER, wanted) for number in range(200)]

    async def above(order: list[list[Gist]], known: list[Gist]) -> list[Gist]:
        level0 = [gist for gists in order for gist in gists]
        return await corpus_gists(level0, GISTER, wanted, "en", known={gist.gist_id: gist for gist in known})

    first = await above(documents, [])
    changed = await document_gists(chunks(3, "d90", "gamma delta"), GISTER, wanted)
    for after in (
        [*documents[:90], changed, *documents[91:]],
        [*documents[:90], *documents[91:]],
        [*documents, await document_gists(chunks(3, "e"), GISTER, wanted)],
    ):
        anew = await above(after, [])
        assert await above(after, first) == anew  # the same as without the ones before
        fresh = {gist.gist_id for gist in anew} - {gist.gist_id for gist in first}
        assert 0 < len(fresh) <= 4 * max(gist.level for gist in anew)


async def test_known_gists_cost_no_call_and_other_settings_none_is_known() -> None:
    wanted = GistSettings(chunks_per_gist=3, tokens_per_gist=30, budget_tokens=64)
    model = ScriptedLanguageModel(lambda prompt, _: "Ada read it.")
    gister = PromptedGister(model, TOKENIZER)
    level0 = [gist for number in range(30) for gist in await document_gists(chunks(1, f"d{number}"), GISTER, wanted)]
    made = await corpus_gists(level0, gister, wanted, "en")
    known = {gist.gist_id: gist for gist in made}
    calls = len(model.calls)
    assert await corpus_gists(level0, gister, wanted, "en", known=known) == made
    assert len(model.calls) == calls > 0
    await corpus_gists(level0, gister, wanted, "de", known=known)
    await corpus_gists(level0, gister, wanted.model_copy(update={"tokens_per_gist": 31}), "en", known=known)
    assert len(model.calls) == 3 * calls


async def test_quoted_gists_prefer_what_is_particular() -> None:
    text = (
        "It was fine. Ada Lind closed the Bergen mill in March 2016 after a fire. It was fine again. It was all fine."
    )
    (gist,) = await GISTER.condense([text], 24, "en")
    assert gist == "Ada Lind closed the Bergen mill in March 2016 after a fire."


async def test_a_single_endless_sentence_is_cut_and_marked() -> None:
    (gist,) = await GISTER.condense(["word " * 500], 16, "en")
    assert gist.endswith(" …")


async def test_a_gist_longer_than_the_whole_budget_is_refused() -> None:
    with pytest.raises(LimitError, match=r"gists\.tokens_per_gist"):
        await corpus_gists([], GISTER, GistSettings(budget_tokens=64, tokens_per_gist=65), "en")


async def test_a_model_writes_gists_in_one_batch_within_the_bound() -> None:
    model = ScriptedLanguageModel(lambda prompt, _: "Ada read it. " * 40)
    gister = PromptedGister(model, TOKENIZER)
    gists = await document_gists(chunks(6), gister, GistSettings(chunks_per_gist=3, tokens_per_gist=30))
    assert len(model.calls) == len(gists) == 2
    assert all(gist.method == "prompted" and TOKENIZER.count(gist.text) <= 30 for gist in gists)
    assert gists[0].text.endswith(".")
