"""What is particular to searching conversations: answers seldom repeat the question, and questions answer nothing."""

from __future__ import annotations

import pytest

from tests.lightrag.conversation.conftest import Opener, say

TALK = [
    ("Ada", "Good morning! I repaired the fence of the garden yesterday."),
    ("Bob", "Where did you learn to repair a fence like that?"),
    ("Ada", "My uncle Theodor showed me, back in the village."),
    ("Bob", "Nice. I am still busy with my tax forms and the car."),
    ("Ada", "Where do you want to spend the summer holidays?"),
    ("Bob", "At a lake in Finland, together with my cousins from Turku."),
]


def talk(*, day: str = "2024-01-15") -> list[dict[str, object]]:
    return [say(text, f"{day}T10:{n:02d}:00", speaker_name=who) for n, (who, text) in enumerate(TALK)]


@pytest.mark.parametrize("strategy", ["hybrid", "context"])
def test_an_answer_is_found_by_the_words_of_its_question(open_memory: Opener, strategy: str) -> None:
    memory = open_memory(retrieve_strategy=strategy, index_strategy="hybrid")
    memory.add_memory(talk())
    found = [hit.entry.text for hit in memory.search("Where does Bob spend the summer holidays?", limit=2).entries]
    assert any("Finland" in text for text in found)


def test_a_turn_that_states_comes_before_a_shorter_one_that_only_asks_the_same(open_memory: Opener) -> None:
    memory = open_memory()
    asked = say("Summer holidays at home?", "2024-01-14T10:00:00", speaker_name="Ada")
    told = say("We will spend the summer holidays at home again, as always.", "2024-01-16T10:00:00", speaker_name="Ada")
    memory.add_memory([asked, *talk()[:4], told])
    found = [hit.entry.text for hit in memory.search("summer holidays home", limit=2).entries]
    assert found == [
        "Ada: We will spend the summer holidays at home again, as always.",
        "Ada: Summer holidays at home?",
    ]


def test_what_was_said_in_another_session_is_no_question_to_this_answer(open_memory: Opener) -> None:
    memory = open_memory(retrieve_strategy="context", index_strategy="hybrid")
    memory.add_memory(talk()[:5])
    later = say("At a lake in Finland.", "2024-01-16T10:00:00", speaker_name="Bob")
    memory.add_memory(later)
    found = [hit.entry.text for hit in memory.search("summer holidays", limit=6).entries]
    assert not any("Finland" in text for text in found)
