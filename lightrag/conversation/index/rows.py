"""The rows that a search of one user's memory runs over, made from messages and entries.

A message is a row of its own until something says the same in fewer words: an extractive entry quotes its message, so
it takes the message's place and is found by all of its words. A prompted entry stands beside its message, which holds
as long as something that was extracted from it does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

from lightrag.conversation.index.fields import chunk
from lightrag.conversation.types import MemoryEntry, StoredMessage, comparable
from lightrag.retrieval.turns import indexed_text, is_question, telling
from lightrag.types import Chunk

SESSION_GAP = timedelta(hours=4)
"""A longer silence starts a new session; neighbours of another session are no context."""

_ENTRY, _TURN = 0, 1


def item_number(item_id: str) -> int:
    """The number under which an entry (``e12``) or a message (``m7``) is kept in vector stores."""
    return int(item_id[1:]) * 2 + (_TURN if item_id[0] == "m" else _ENTRY)


@dataclass(frozen=True)
class Row:
    """One thing that can be found. What a search reads of it is derived once, and kept as long as the row is."""

    entry: MemoryEntry
    """As it is shown; a message that no entry stands for is an entry of kind ``turn``."""
    text: str
    """What it is embedded under."""
    session: str
    order: tuple[datetime, int]
    """Place in the session: when it was said, then arrival."""
    quote: bool
    """Whether its text is a message's own, so that the message before it gives context."""
    asked: str = ""
    """What another one said right before, which may ask what this answers."""

    @cached_property
    def item(self) -> int:
        """Its number in vector stores."""
        return item_number(self.entry.entry_id)

    @cached_property
    def indexed(self) -> str:
        """What BM25 reads."""
        return indexed_text("", self.text, self.asked)

    @cached_property
    def chunk(self) -> Chunk:
        """In the form in which retrieval filters, links and scores passages."""
        return chunk(self.entry, self.session, self.text)

    @cached_property
    def telling(self) -> float:
        """How much it can tell, in (0, 1]. Facts were written to tell; what was said as it was said may only ask."""
        if not self.quote:
            return 1.0
        said = self.text.partition(": ")[2]
        return telling(said, len(said) // 4)

    @cached_property
    def asks(self) -> bool:
        """Whether it is a question."""
        return is_question(self.text)


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


def session_rows(
    label: str,
    said: Sequence[StoredMessage],
    entries: Sequence[MemoryEntry],
    messages: Mapping[str, StoredMessage],
    *,
    turns: bool,
) -> list[Row]:
    """Lay out what can be found of one session, in order.

    Args:
        label: of the session.
        said: its messages, in order.
        entries: all that are not deleted and were made of any of them.
        messages: of the user, by id.
        turns: whether messages that were extracted already stay rows of their own; those with images always do.
    """
    orders = {stored.message_id: (comparable(stored.message.time), stored.seq) for stored in said}
    asked = dict(_asked(said))
    quoted: set[str] = set()
    rows: list[Row] = []
    for entry in entries:
        quote = _quoted(entry, messages)
        if quote is not None:
            # Every saying of it is covered; the first one is what it is found under.
            quoted.update(entry.sources)
        if entry.kind != "summary" and entry.sources[0] in orders:
            first = entry.sources[0]
            text = entry.text if quote is None else quote
            rows.append(Row(entry, text, label, orders[first], quote is not None, asked.get(first, "")))
    ended = _ended(entries)
    for stored in said:
        name = stored.message_id
        if name not in quoted and (turns or not stored.extracted or stored.message.images):
            entry = turn_entry(stored)
            if name in ended:
                entry = replace(entry, state="superseded", valid_to=ended[name])
            rows.append(Row(entry, entry.text, label, orders[name], True, asked.get(name, "")))
    rows.sort(key=lambda row: (row.order, row.entry.kind == "turn", row.entry.entry_id))
    return rows


def loose_row(entry: MemoryEntry, messages: Mapping[str, StoredMessage]) -> Row:
    """The row of an entry that stands in no session: about many messages, or about none that there is."""
    quote = _quoted(entry, messages)
    text = entry.text if quote is None else quote
    return Row(entry, text, f"{entry.kind}/{entry.entry_id}", (datetime.min, 0), quote is not None)


def _quoted(entry: MemoryEntry, messages: Mapping[str, StoredMessage]) -> str | None:
    """The message that an entry quotes, as it was spoken; ``None`` for an entry in its own words."""
    if entry.method != "extractive" or not entry.sources or entry.sources[0] not in messages:
        return None
    message = messages[entry.sources[0]].message
    return spoken(message.who, message.content)


def _asked(said: Sequence[StoredMessage]) -> Iterator[tuple[str, str]]:
    """Of messages that another one's message comes right before: what that says."""
    for before, stored in itertools.pairwise(said):
        if before.message.who != stored.message.who:
            yield stored.message_id, before.message.content


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


__all__ = ["SESSION_GAP", "Row", "item_number", "loose_row", "session_rows", "spoken", "turn_entry"]
