"""What a language model is told when it extracts, in few words: the instructions are sent with every batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lightrag.conversation.types import StoredMessage, TopicSegment

FACTS = (
    "You keep the long-term memory of a conversation. From the numbered lines, write down every fact worth "
    "remembering: about people, their lives, tastes, plans, events, names, numbers, places. One self-contained "
    "sentence per fact, with the person's name instead of a pronoun, and relative dates turned into calendar dates "
    "by the day that stands above the line. Leave out greetings and empty phrases. Never add what is not said."
)
FACTS_SHAPE = 'Answer with JSON only: {"data": [{"source_id": <line number>, "fact": "<sentence>"}]}'
FACTS_SHAPE_WITH_METADATA = (
    'Answer with JSON only: {"data": [{"source_id": <line number>, "fact": "<sentence>", "importance": <0 to 1>, '
    '"category": "<preference|plan|event|relation|fact>", "entities": ["<name>"], "keywords": ["<word>"], '
    '"event_time": "<ISO date or empty>"}]}'
)
RELATIONS = (
    "You keep the long-term memory of a conversation. From the numbered lines, write down how the people relate to "
    "each other and to others: who supports, asks, thanks, praises, promises, agrees or disagrees with whom, and about "
    "what. One self-contained sentence each, with names and calendar dates. No bare facts about one person alone."
)
RELATIONS_SHAPE = 'Answer with JSON only: {"data": [{"source_id": <line number>, "relation": "<sentence>"}]}'
AGAIN = "That answer was not usable: {reason}. Answer again, complete, with JSON of the given shape only."


class Sheet(NamedTuple):
    """The numbered lines of one request."""

    text: str
    lines: tuple[StoredMessage, ...]
    """The message behind each number, from 0."""


def write_sheet(segments: Sequence[TopicSegment], roles: frozenset[str]) -> Sheet:
    """Number the lines of some segments; the numbers mean nothing outside this request.

    A day is named where it begins, not in every line: that is a tenth of what a chat costs to read.
    """
    parts: list[str] = []
    lines: list[StoredMessage] = []
    for place, segment in enumerate(segments):
        day = ""
        for stored in segment.messages:
            message = stored.message
            if message.role not in roles:
                continue
            said = f"{message.time:%Y-%m-%d %a}"
            if said != day:
                parts.append(f"--- {said} ---" if day else f"--- Topic {place}, {said} ---")
                day = said
            parts.append(f"[{message.time:%H:%M}] {len(lines)}.{message.who}: {stored.working_text}")
            lines.append(stored)
    return Sheet("\n".join(parts), tuple(lines))


__all__ = [
    "AGAIN",
    "FACTS",
    "FACTS_SHAPE",
    "FACTS_SHAPE_WITH_METADATA",
    "RELATIONS",
    "RELATIONS_SHAPE",
    "Sheet",
    "write_sheet",
]
