"""Which text of a call is which."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.compat.arguments import told_apart
from lightrag.compat.readers import text_identity
from lightrag.errors import UsageError

CONTEXT = "In 1870 the council of Lindholm voted to build a longer pier, and Ada Lind opened it at noon. " * 3
QUERY = "Who opened the pier?"
HELD = text_identity(CONTEXT)


def tell(*texts: str, memorised: str = "", task: str = "memorag", characters: int = 0, **named: str):  # type: ignore[no-untyped-def]
    given_by_name = {"context": None, "query": None, **named}
    asked = told_apart(texts, task=task, memorised=memorised, characters=characters, **given_by_name)
    return asked.context, asked.query


def test_every_documented_form_is_understood() -> None:
    assert tell(context=CONTEXT, query=QUERY) == (CONTEXT, QUERY)
    assert tell(CONTEXT, QUERY) == (CONTEXT, QUERY)
    assert tell(CONTEXT, query=QUERY) == (CONTEXT, QUERY)
    assert tell(QUERY, context=CONTEXT) == (CONTEXT, QUERY)
    assert tell(QUERY, memorised=HELD) == (None, QUERY)
    assert tell(query=QUERY, memorised=HELD, task="qa") == (None, QUERY)
    assert tell(CONTEXT, task="summarize") == (CONTEXT, "")
    assert tell(task="summarize", memorised=HELD) == (None, "")
    assert tell(context=CONTEXT, query="the pier", task="summarize") == (CONTEXT, "the pier")


def test_swapped_texts_are_refused_with_the_cure() -> None:
    with pytest.raises(UsageError, match="use keywords"):
        tell(QUERY, CONTEXT)
    with pytest.raises(UsageError, match="use keywords"):
        tell("A fairly long question about everything that is said in the text. " * 4, CONTEXT, memorised=HELD)
    with pytest.raises(UsageError, match="looks like a context"):
        tell(CONTEXT, memorised=HELD)
    with pytest.raises(UsageError, match="looks like a context"):
        tell(CONTEXT * 30, memorised=HELD)
    assert tell(context=QUERY, query=CONTEXT) == (QUERY, CONTEXT)


@given(st.text("ab \n", min_size=1, max_size=40).filter(str.strip), st.text("cd ", min_size=1).filter(str.strip))
@settings(max_examples=60, deadline=None)
def test_a_context_at_least_half_as_long_as_the_question_comes_first(context: str, query: str) -> None:
    if len(query) <= 2 * len(context):
        assert tell(context, query) == (context, query)
    else:
        with pytest.raises(UsageError, match="swapped"):
            tell(context, query)


def test_a_request_in_the_place_of_a_new_text_does_not_wipe_the_memory() -> None:
    with pytest.raises(UsageError, match=r"pipe\(task_type='summarize'\)"):
        tell("Summarise it", task="summarize", memorised=HELD, characters=len(CONTEXT))
    assert tell(context="A short one.", task="summarize", memorised=HELD, characters=len(CONTEXT))[0] == "A short one."


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ((), {"context": CONTEXT, "query": QUERY, "task": "rag"}, r"task_type 'rag' is not one of \['memorag'"),
        ((QUERY,), {}, "nothing was memorised"),
        ((), {"context": CONTEXT}, "question is empty"),
        ((), {"context": CONTEXT, "query": "  "}, "question is empty"),
        ((), {"context": " \n", "query": QUERY}, "context is empty"),
        ((CONTEXT, QUERY, "qa"), {}, "got 3 texts"),
        ((CONTEXT, QUERY), {"query": QUERY}, "got 3 texts"),
        ((), {"context": 3, "query": QUERY}, "context must be a text, not int"),
        ((None,), {"query": QUERY, "memorised": HELD}, "argument must be a text, not NoneType"),
    ],
)
def test_calls_that_make_no_sense_are_explained(texts: tuple, options: dict, message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(UsageError, match=message):
        tell(*texts, **options)
