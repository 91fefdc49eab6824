"""Which text of a call is the context and which the question, and whether they make sense. Knows nothing of models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

from lightrag.compat.readers import text_identity
from lightrag.errors import UsageError

PipelineTask = Literal["memorag", "qa", "summarize"]

_MUCH_LONGER: Final = 2
_MUCH_SHORTER: Final = 10
_LONG_QUESTION: Final = 4000
"""Characters from which a lone text is taken for a context in the place of a question."""
_FORMS: Final = (
    "pipe(context=…, query=…), pipe(context, query), pipe(context, task_type='summarize'), or pipe(query) after "
    "memorize() or load()"
)


@dataclass(frozen=True, slots=True)
class Asked:
    """One call, told apart."""

    task: PipelineTask
    context: str | None
    """``None`` for what was memorised before."""
    query: str


def told_apart(
    texts: tuple[str, ...],
    *,
    context: str | None,
    query: str | None,
    task: str,
    memorised: str,
    characters: int = 0,
) -> Asked:
    """Sort out the arguments of a call.

    Args:
        texts: given without names.
        context: given by name.
        query: given by name.
        task: what to do.
        memorised: identity of the text that is memorised; empty for none.
        characters: its length.

    Raises:
        UsageError: the task is unknown, a text is missing, or two texts look swapped.
    """
    if task not in get_args(PipelineTask):
        raise UsageError(f"task_type {task!r} is not one of {list(get_args(PipelineTask))!r}", subject="task_type")
    given = [(name, text) for name, text in (("context", context), ("query", query)) if text is not None]
    for name, text in (*given, *(("argument", text) for text in texts)):
        if not isinstance(text, str):
            raise UsageError(f"{name} must be a text, not {type(text).__name__}", subject=name)
    if len(texts) == 1 and task == "summarize" and context is None and len(texts[0]) * _MUCH_SHORTER < characters:
        raise UsageError(
            f"a text of {len(texts[0]):,} characters would take the place of the memorised one of {characters:,}: to "
            "summarise that one, call pipe(task_type='summarize'); to memorise this one, use context=…"
        )
    context, query = _named(texts, context, query, task, memorised)
    if context is not None and not context.strip():
        raise UsageError("the context is empty: give a text to memorise", subject="context")
    if context is None and not memorised:
        raise UsageError("nothing was memorised: give context=…, or call memorize(context) or load(folder) first")
    if task != "summarize" and not (query or "").strip():
        raise UsageError(f"the question is empty: task {task!r} needs query=…", subject="query")
    return Asked(cast("PipelineTask", task), context, query or "")


def _named(
    texts: tuple[str, ...], context: str | None, query: str | None, task: str, memorised: str
) -> tuple[str | None, str | None]:
    """Give texts without names their names."""
    named = (context is not None) + (query is not None)
    if len(texts) + named > 2:
        raise UsageError(f"a call takes one context and one question, got {len(texts) + named} texts: call {_FORMS}")
    if len(texts) == 2:
        _check_order(*texts, memorised)
        return texts
    if not texts:
        return context, query
    [text] = texts
    if query is not None or (context is None and task == "summarize"):
        return text, query
    if context is None and (text_identity(text) == memorised or len(text) > _LONG_QUESTION):
        raise UsageError(
            f"a text of {len(text):,} characters in the place of the question looks like a context: {_FORMS}"
        )
    return context, text


def _check_order(context: str, query: str, memorised: str) -> None:
    swapped = len(query) > _MUCH_LONGER * len(context) or (query.strip() and text_identity(query) == memorised)
    if swapped:
        raise UsageError(
            f"context and question look swapped ({len(context):,} and {len(query):,} characters; the context comes "
            "first): use keywords, pipe(context=…, query=…)"
        )


__all__ = ["Asked", "PipelineTask", "told_apart"]
