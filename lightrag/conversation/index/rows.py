"""The rows that a search of one user's memory runs over, made from messages and entries.

A message is a row of its own until something says the same in fewer words: an extractive entry quotes its message, so
it takes the message's place and is found by all of its words. A prompted entry stands beside its message, which holds
as long as something that was extracted from it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from lightrag.conversation.types import MemoryEntry, StoredMessage, comparable

SESSION_GAP = timedelta(hours=4)
"""A longer silence starts a new session; neighbours of another session are no context."""

_ENTRY, _TURN = 0, 1


def item_number(item_id: str) -> int:
    """The number under which an entry (``e12``) or a message (``m7``) is kept in vector stores."""
    return int(item_id[1:]) * 2 + (_TURN if item_id[0] == "m" else _ENTRY)


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that can be found."""

    entry: MemoryEntry
    """As it is shown; a message that no entry stands for is an entry of kind ``turn``."""
    text: str
    """What it is embedded and indexed under."""
    session: str
    order: tuple[int, int]
    """Place in the conversation: microseconds, then arrival."""
    quote: bool
    """Whether its text is a message's own, so that the message before it gives context."""
    asked: str = ""
    """What another one said right before, which may ask what this answers."""

    @property
    def item(self) -> int:
        """Its number in vector stores."""
        return item_number(self.entry.entry_id)


def turn_entry(stored: StoredMessage) -> MemoryEntry:
    """A message as an entry: provisional until extraction has read it."""
    message = stored.message
    return MemoryEntry(
        stored.message_id,
        spoken(message.who, message.content) if message.content else f"{message.who} sent an image.",
        message.time,
        kind="turn",
        state="current" if stored.extracted else "provisional",
        speaker=message.speaker or message.role,
        speaker_id=message.speaker_id,
        conversation=stored.conversation,
        topic=stored.segment,
        sources=(stored.message_id,),
        tags=message.tags,
        images=message.images,
    )


def spoken(who: str, text: str) -> str:
    """A text with who says it."""
    return f"{who}: {text}"


class Sessions:
    """Which session each message belongs to: a conversation's messages without long silences between them."""

    def __init__(self, messages: Iterable[StoredMessage]) -> None:
        self._of: dict[str, tuple[str, tuple[int, int]]] = {}
        self._asked: dict[str, str] = {}
        by_conversation: dict[str, list[StoredMessage]] = {}
        for message in messages:
            by_conversation.setdefault(message.conversation, []).append(message)
        for conversation, members in by_conversation.items():
            self._number(conversation, members)

    def _number(self, conversation: str, members: list[StoredMessage]) -> None:
        ordered = sorted(members, key=lambda stored: (comparable(stored.message.time), stored.seq))
        session = 0
        for place, stored in enumerate(ordered):
            before = ordered[place - 1] if place else None
            if before and comparable(stored.message.time) - comparable(before.message.time) > SESSION_GAP:
                session += 1
            elif before and before.message.who != stored.message.who:
                self._asked[stored.message_id] = before.message.content
            self._of[stored.message_id] = (f"{conversation}/{session}", (place, stored.seq))

    def of(self, message_id: str) -> tuple[str, tuple[int, int]]:
        """Session and place of a message."""
        return self._of.get(message_id, ("", (0, int(message_id[1:]))))

    def asked_before(self, message_id: str) -> str:
        """What another one said right before a message in its session; empty where nobody did."""
        return self._asked.get(message_id, "")


def build_rows(messages: Sequence[StoredMessage], entries: Sequence[MemoryEntry], *, turns: bool = True) -> list[Row]:
    """Lay out what can be found, conversation by conversation in order.

    Args:
        messages: every message of the scope.
        entries: every entry of the scope that is not deleted.
        turns: whether messages that were extracted already stay rows of their own; those with images always do.
    """
    sessions = Sessions(messages)
    by_id = {stored.message_id: stored for stored in messages}
    quoted: set[str] = set()
    rows: list[Row] = []
    for entry in entries:
        if entry.kind == "summary" or not entry.sources:
            # About many messages, so a neighbour of none.
            session, order, asked = f"{entry.kind}/{entry.entry_id}", (0, 0), ""
        else:
            session, order = sessions.of(entry.sources[0])
            asked = sessions.asked_before(entry.sources[0])
        is_quote = entry.method == "extractive" and len(entry.sources) > 0 and entry.sources[0] in by_id
        text = entry.text
        if is_quote:
            # Every saying of it is covered; the first one is what it is found under.
            quoted.update(entry.sources)
            message = by_id[entry.sources[0]].message
            text = spoken(message.who, message.content)
        rows.append(Row(entry, text, session, order, is_quote, asked))
    ended = _ended(entries)
    for stored in messages:
        if stored.message_id not in quoted and (turns or not stored.extracted or stored.message.images):
            entry = turn_entry(stored)
            if stored.message_id in ended:
                entry = replace(entry, state="superseded", valid_to=ended[stored.message_id])
            session, order = sessions.of(stored.message_id)
            rows.append(Row(entry, entry.text, session, order, True, sessions.asked_before(stored.message_id)))
    rows.sort(key=lambda row: (row.session, row.order, row.entry.kind == "turn", row.entry.entry_id))
    return rows


def _ended(entries: Sequence[MemoryEntry]) -> dict[str, datetime | None]:
    """Messages of whose facts none holds any more, with the time when the last one ended."""
    facts: dict[str, list[MemoryEntry]] = {}
    for entry in entries:
        if entry.kind in ("fact", "relation"):
            for source in entry.sources:
                facts.setdefault(source, []).append(entry)
    return {
        source: max((entry.valid_to for entry in found if entry.valid_to), key=comparable, default=None)
        for source, found in facts.items()
        if all(entry.state == "superseded" for entry in found)
    }


__all__ = ["SESSION_GAP", "Row", "Sessions", "build_rows", "item_number", "spoken", "turn_entry"]
