"""The public fakes keep the contracts of real models."""

from __future__ import annotations

import asyncio
import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lightrag.models.fakes
from lightrag.errors import BackendError, LimitError, UsageError
from lightrag.models.base import Embedder, LanguageModel, Prompt, Sampling
from lightrag.models.fakes import HashingEmbedder, ScriptedLanguageModel
from lightrag.types import Usage


def test_the_examples_in_the_docstrings_run() -> None:
    failed, attempted = doctest.testmod(lightrag.models.fakes)
    assert (failed, attempted > 0) == (0, True)


def test_they_are_models() -> None:
    assert isinstance(ScriptedLanguageModel([]), LanguageModel)
    assert isinstance(HashingEmbedder(), Embedder)


async def test_answers_come_in_the_order_of_the_script() -> None:
    model = ScriptedLanguageModel(["one", "two", "three"])
    first, second = await model.complete([Prompt.of("a"), Prompt.of("b")])
    assert (first.text, second.text) == ("one", "two")
    assert [call.prompt.messages[0].text for call in model.calls] == ["a", "b"]
    assert model.usage == first.usage + second.usage
    assert model.usage.calls == 2


async def test_a_function_answers_from_the_prompt() -> None:
    model = ScriptedLanguageModel(lambda prompt, sampling: f"{prompt.messages[-1].text}? {sampling.temperature}")
    [completion] = await model.complete([Prompt.of("why")], Sampling(temperature=0.5))
    assert completion.text == "why? 0.5"


async def test_a_scheduled_fault_is_raised_and_the_next_call_answers() -> None:
    model = ScriptedLanguageModel([BackendError("overloaded", retryable=True), "fine"])
    with pytest.raises(BackendError, match="overloaded"):
        await model.complete([Prompt.of("a")])
    assert (await model.complete([Prompt.of("a")]))[0].text == "fine"


async def test_an_exhausted_script_says_so() -> None:
    with pytest.raises(UsageError, match="no further answer"):
        await ScriptedLanguageModel([]).complete([Prompt.of("a")])


async def test_streaming_gives_the_same_text_in_pieces() -> None:
    text = "It was opened  by the mayor\nin 1874. "
    deltas = [delta async for delta in ScriptedLanguageModel([text]).stream(Prompt.of("who?"))]
    assert "".join(delta.text for delta in deltas) == text
    assert len(deltas) > 5
    assert deltas[-1].finish_reason == "stop"
    assert deltas[-1].usage is not None
    assert all(delta.finish_reason is None for delta in deltas[:-1])


async def test_limits_and_stop_strings_apply() -> None:
    model = ScriptedLanguageModel(["one two three four"] * 2, context_tokens=40)
    [short] = await model.complete([Prompt.of("a")], Sampling(max_tokens=2))
    assert (short.text, short.finish_reason) == ("one two ", "length")
    [stopped] = await model.complete([Prompt.of("a")], Sampling(max_tokens=20, stop=(" three",)))
    assert (stopped.text, stopped.finish_reason) == ("one two", "stop")
    with pytest.raises(LimitError, match="do not fit"):
        await model.complete([Prompt.of("word " * 50)], Sampling(max_tokens=2))


async def test_cancelled_calls_are_counted_and_cost_nothing() -> None:
    model = ScriptedLanguageModel(["late"], seconds=30)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(model.complete([Prompt.of("a")]), 0.01)
    assert model.cancelled == 1
    assert model.usage == Usage()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5))
def test_hashed_vectors_are_unit_rows_and_depend_on_the_text_alone(texts: list[str]) -> None:
    rows = asyncio.run(HashingEmbedder(64).embed(texts))
    assert rows.shape == (len(texts), 64)
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), np.ones(len(texts)), atol=1e-5)
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(asyncio.run(HashingEmbedder(64).embed([text]))[0], row)


async def test_a_document_beyond_the_limit_is_refused_and_a_query_is_not() -> None:
    embedder = HashingEmbedder(max_tokens=4)
    with pytest.raises(LimitError, match="text 0"):
        await embedder.embed(["one two three four five"])
    assert (await embedder.embed(["one two three four five"], "query")).shape == (1, 256)
