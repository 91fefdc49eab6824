"""Which questions say what they are about only together with those before them."""

from __future__ import annotations

import pytest

from lightrag.followups import refers_back, searched_for
from lightrag.types import ChatMessage

FOLLOWING = """
And when was that? | When was that? | Why? | And in 2018? | When was it founded? | Who founded it? | How old was she?
What about the drying shed? | And who inherited it from her? | Tell me more. | How so? | Who wrote that book?
What happened then? | How much did they make the year before? | Is that true? | What's that? | When's it due?
Wann war das? | Und warum? | Wie hieß er? | Et quand ? | Qu'est-ce qu'il a fait ? | ¿Y cuándo fue eso? | и когда?
那是什么时候？ | 它在哪里？ | それはいつですか？
"""
ALONE = """
Who founded the mill? | When did the drying shed burn down? | What did the mill make in 2017? | What is a beacon?
Who signed? | What is the river that feeds the mill? | And what did Ada Lind inherit from her uncle? | What's new?
Is it true that the mill was founded in 1874 by Ada Lind? | What are the fees? | Which colour do I like? | Hello | ?!
What does the contract say about those who leave early? | Summarize the report. | Paper production 2017
Wer hat die Mühle gegründet? | Wann brannte der Schuppen ab? | Qui a fondé le moulin ? | ¿Quién fundó el molino?
Chi ha fondato il mulino? | Wat is een baken? | Кто основал мельницу?
造纸厂是什么时候成立的？ | 工場はいつ設立されましたか？
"""


def split(questions: str) -> list[str]:
    return [each.strip() for line in questions.strip().splitlines() for each in line.split(" | ")]


@pytest.mark.parametrize("question", split(FOLLOWING))
def test_a_question_without_a_subject_of_its_own_refers_back(question: str) -> None:
    assert refers_back(question)


@pytest.mark.parametrize("question", split(ALONE))
def test_a_question_that_names_its_subject_stands_alone(question: str) -> None:
    assert not refers_back(question)
    messages = [ChatMessage("user", "When did the ferry sink?"), ChatMessage("user", question)]
    assert searched_for(messages) == question
