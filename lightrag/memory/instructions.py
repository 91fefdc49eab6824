"""What a question means for a memory, whatever it is made of: which instructions to give, which clues to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from typing import Final

from lightrag.config import RecallSettings
from lightrag.errors import UsageError
from lightrag.memory.base import RecallRequest
from lightrag.memory.clue_lines import clue_lines, distinct
from lightrag.memory.prompts import PromptKey
from lightrag.types import Clue

REPLY_TOKENS: Final[Mapping[PromptKey, int]] = {"span": 192, "sur": 128, "qa": 256, "sum": 512}
"""Longest replies; the published pipeline allows 128 for clues, 256 for answers and 512 for key points."""


def check_question(request: RecallRequest) -> None:
    """Make sure that there is something to recall.

    Raises:
        UsageError: the question is empty and the task needs one.
    """
    if not request.question.strip() and request.task != "summarize":
        raise UsageError("the question is empty: ask something, or use the task 'summarize'")


def instructions_for(request: RecallRequest) -> list[PromptKey]:
    """Name the instructions that a request needs, all of which go into one batch."""
    if request.task == "summarize":
        return ["sum"]
    keys: list[PromptKey] = [] if request.task == "qa" else ["span", "sur"]
    return [*keys, "qa"] if request.draft or request.task == "qa" else keys


def read_clues(replies: Sequence[Mapping[PromptKey, str]], settings: RecallSettings) -> tuple[Clue, ...]:
    """Read the clues out of what memories replied: spans or key points, then surrogate queries, then a draft.

    Of several memories each gives its best clue before any gives its second one. Numbering is stripped, and clues that
    nearly repeat an earlier one are dropped, also across instructions and memories.

    Args:
        replies: raw text by instruction, of each memory, the most relevant memory first.
        settings: most clues and surrogate queries of a question. A summary may have a key point of every memory.
    """
    points = max(settings.max_clues, len(replies))
    limit = points if any("sum" in reply for reply in replies) else settings.max_clues
    spans = distinct(_interleaved(replies, ("span", "sum")), limit)
    both = distinct([*spans, *_interleaved(replies, ("sur",))], len(spans) + settings.max_surrogates)
    drafts = [text for reply in replies if (text := reply.get("qa", "").strip())]
    return (
        *(Clue(line, "span") for line in spans),
        *(Clue(line, "surrogate") for line in both[len(spans) :]),
        *(Clue(text, "draft") for text in drafts),
    )


def _interleaved(replies: Sequence[Mapping[PromptKey, str]], keys: Sequence[PromptKey]) -> list[str]:
    """Lines of all replies to some instructions: first lines, then second ones, and so on."""
    rows = [clue_lines(reply[key]) for reply in replies for key in keys if key in reply]
    return [line for line in chain.from_iterable(zip_longest(*rows)) if line is not None]


__all__ = ["REPLY_TOKENS", "check_question", "instructions_for", "read_clues"]
