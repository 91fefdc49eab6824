"""Topics are cut where they change, and no turn is lost or repeated. Letters are the published cases."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.conversation.index.vectorizer import Vectorizer
from lightrag.conversation.segmentation import Turn, turns_of
from lightrag.conversation.segmentation.attention import TOLERANCE, agree, between_turns, peaks
from lightrag.conversation.segmentation.similarity import SimilaritySegmenter, best_cut
from lightrag.conversation.types import Message, Role, StoredMessage
from lightrag.models.fakes import HashingEmbedder
from tests.lightrag.conversation.conftest import Opener, say


def stored(texts: Sequence[tuple[Role, str]]) -> list[StoredMessage]:
    return [
        StoredMessage(f"m{n}", n, "c", Message(role, text, datetime(2024, 1, 1)))
        for n, (role, text) in enumerate(texts)
    ]


def turns(*texts: str) -> list[Turn]:
    return turns_of(stored([("user", text) for text in texts]))


def test_Q2_similarity_alone_finds_the_change_between_two_topics() -> None:
    cats = [
        "my cat eats fish and the cat sleeps",
        "the cat eats fish on the mat",
        "the cat sleeps on the mat with fish",
    ]
    cars = ["this engine needs new oil and brakes", "the brakes and engine want oil", "new oil for the engine brakes"]
    segmenter = SimilaritySegmenter(Vectorizer(HashingEmbedder()))
    assert asyncio.run(segmenter.boundaries(turns(*cats, *cars))) == [3]
    assert asyncio.run(segmenter.boundaries(turns(*cats))) == []


def test_Q3_Q4_attention_confirms_near_boundaries_and_never_invents_one() -> None:
    assert agree([3], [3 + TOLERANCE]) == [3]
    assert agree([3, 20], [4]) == [3]
    assert agree([3], [30]) == [3]
    assert agree([], [2, 9]) == []


def test_Q5_Q6_turns_follow_roles_not_positions() -> None:
    grouped = turns_of(stored([("assistant", "hi"), ("user", "a"), ("user", "b"), ("assistant", "c")]))
    assert [[each.message.content for each in turn.messages] for turn in grouped] == [["hi"], ["a"], ["b", "c"]]


def test_Q8_zero_vectors_make_no_boundary_and_no_nan() -> None:
    vectors = np.zeros((6, 4), dtype=np.float32)
    assert best_cut(vectors, 0.5, np.zeros(6)) == []


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_Q9_the_buffer_is_bounded_by_what_it_holds(open_memory: Opener, role: str) -> None:
    memory = open_memory(topic_segment=True, sensory_tokens=10, short_term_tokens=10, messages_use="hybrid")
    for n in range(5):
        memory.add_memory(say(f"answer {n} " + "word " * 5000, role=role))
    messages = memory.aio.engine.history.messages
    assert messages.sensory(memory.scope, "default") == []


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=40), st.floats(0.1, 3))
def test_a_cut_is_made_of_ascending_places_inside(kinds: list[int], penalty: float) -> None:
    vectors = np.eye(4, dtype=np.float32)[kinds]
    found = best_cut(vectors, penalty, np.zeros(len(kinds)))
    assert found == sorted(set(found))
    assert all(0 < place < len(kinds) for place in found)


def test_attention_between_turns_is_a_share_of_what_goes_back() -> None:
    random = np.random.default_rng(0)
    attention = random.random((20, 20)).astype(np.float32)
    matrix = between_turns(attention, [(1, 7), (7, 13), (13, 19)])
    assert matrix[0].sum() == 0
    assert matrix[1:].sum(axis=1) == pytest.approx([1, 1])
    assert matrix[2, 0] == pytest.approx(
        attention[13:17, 3:7].sum(axis=1).mean()
        / (attention[13:17, 3:7].sum(axis=1).mean() + attention[13:17, 7:13].sum(axis=1).mean())
    )


def test_peaks_are_inner_local_maxima() -> None:
    matrix = np.zeros((6, 6))
    for turn, value in enumerate([0.1, 0.2, 0.9, 0.3, 0.4]):
        matrix[turn + 1, turn] = value
    assert peaks(matrix) == [2]


def test_segments_keep_every_message_once_and_in_order(open_memory: Opener) -> None:
    memory = open_memory(topic_segment=True, sensory_tokens=20, short_term_tokens=40)
    texts = [f"Thing {n} about {'cats' if n % 7 < 4 else 'cars'} that I own." for n in range(40)]
    for text in texts:
        memory.add_memory(say(text))
    memory.flush()
    assert [entry.text.removeprefix("User: ") for entry in memory.entries()] == texts
