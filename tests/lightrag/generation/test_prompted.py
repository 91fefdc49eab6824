"""Written answers: prompt, citations, window."""

from __future__ import annotations

import pytest

from lightrag.compression import CompressedContext
from lightrag.errors import LimitError
from lightrag.generation.base import GenerationDelta, GenerationRequest
from lightrag.generation.prompted import PromptedAnswerer
from lightrag.models import ScriptedLanguageModel
from lightrag.types import Chunk, CorpusVersion, Evidence, LatentPart

CORPUS = CorpusVersion("acme", "mill", 1)


def evidence(count: int, words: int = 5) -> tuple[Evidence, ...]:
    return tuple(
        Evidence(
            Chunk(
                f"c{index}", "d", index, f"Passage {index} " + "word " * words, 0, 9, tokens=9, title="Report", page="7"
            ),
            1.0 - index / 10,
        )
        for index in range(count)
    )


async def run(model: ScriptedLanguageModel, request: GenerationRequest) -> list[GenerationDelta]:
    return [delta async for delta in PromptedAnswerer(model, max_tokens=50).answer(request)]


async def test_passages_are_numbered_and_citations_are_resolved() -> None:
    model = ScriptedLanguageModel(["Ada did, as {context} says [2], not [9]."])
    deltas = await run(model, GenerationRequest(CORPUS, "rag", "Who {question} signed?", evidence(3)))
    prompt = model.calls[0].prompt.messages[-1].text
    assert "[2] (Report, page 7)\nPassage 1" in prompt
    assert "Who {question} signed?" in prompt
    assert "".join(delta.text for delta in deltas) == "Ada did, as {context} says [2], not [9]."
    assert deltas[-1].cited == ("c1",)
    assert deltas[-1].model == "scripted"
    assert deltas[-1].usage.calls == 1
    assert model.calls[0].prompt.cache_salt == "acme/mill@1"


async def test_passages_that_do_not_fit_are_left_out_from_the_worst_end_and_reported() -> None:
    model = ScriptedLanguageModel(["ok"], context_tokens=900)
    deltas = await run(model, GenerationRequest(CORPUS, "rag", "Who?", evidence(6, words=100)))
    prompt = model.calls[0].prompt.messages[-1].text
    assert "Passage 0" in prompt
    assert "Passage 5" not in prompt
    assert "did not fit" in deltas[-1].notes[0]


async def test_a_window_too_small_for_one_passage_is_an_error() -> None:
    model = ScriptedLanguageModel(["ok"], context_tokens=300)
    with pytest.raises(LimitError, match="longer window"):
        await run(model, GenerationRequest(CORPUS, "rag", "Who?", evidence(1, words=2000)))


async def test_latents_stand_in_the_prompt_where_the_passages_go() -> None:
    latent = LatentPart(states=object(), source="c0")
    context = CompressedContext(("before ", latent, " after"), "mixed", 3, 30, evidence=evidence(1))
    model = ScriptedLanguageModel(["ok"], capabilities=["latents"])
    await run(model, GenerationRequest(CORPUS, "rag", "Who?", evidence(1), context=context))
    content = model.calls[0].prompt.messages[-1].content
    assert isinstance(content, tuple)
    assert content[2] is latent


async def test_the_prompt_follows_the_language_of_the_question() -> None:
    model = ScriptedLanguageModel(["好"])
    await run(model, GenerationRequest(CORPUS, "rag", "这家工厂是谁在哪一年创办的？", evidence(1)))
    assert "段落" in model.calls[0].prompt.messages[-1].text


async def test_own_instructions_replace_the_built_in_ones() -> None:
    model = ScriptedLanguageModel(["ok"])
    request = GenerationRequest(CORPUS, "rag", "Who?", evidence(1), instructions="Reply in rhyme to {input}: {context}")
    await run(model, request)
    assert model.calls[0].prompt.messages[-1].text.startswith("Reply in rhyme to Who?: [1]")


async def test_an_answer_cut_at_its_limit_says_so() -> None:
    deltas = await run(ScriptedLanguageModel(["word " * 200]), GenerationRequest(CORPUS, "rag", "Who?", evidence(1)))
    assert "limit of 50 tokens" in deltas[-1].notes[0]
    assert deltas[-1].limited
