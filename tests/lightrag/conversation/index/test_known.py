"""What is laid out of some changes, against a layout of everything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from lightrag.conversation.index.known import Known
from lightrag.conversation.index.rows import Row, build_rows
from lightrag.conversation.types import EntryState, MemoryEntry, Message, StoredMessage

START = datetime(2024, 5, 6, 9)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[StoredMessage], list[MemoryEntry]]:
    """Conversations with pauses of all lengths, and entries of every kind over their messages."""
    count = draw(st.integers(0, 14))
    messages = [
        StoredMessage(
            f"m{seq}",
            seq,
            draw(st.sampled_from(["home", "work"])),
            Message(
                draw(st.sampled_from(["user", "assistant"])),
                f"saying {seq}",
                START + timedelta(hours=draw(st.integers(0, 24))),
            ),
            segment=1,
            extracted=draw(st.booleans()),
            revision=draw(st.integers(1, 9)),
        )
        for seq in range(1, count + 1)
    ]
    ids = [message.message_id for message in messages]
    methods: list[Literal["extractive", "prompted"]] = ["extractive", "prompted"]
    states: list[EntryState] = ["current", "superseded", "deleted"]
    entries = [
        MemoryEntry(
            f"e{seq}",
            f"entry {seq}",
            START,
            kind=draw(st.sampled_from(["fact", "summary"])),
            state=draw(st.sampled_from(states)),
            method=draw(st.sampled_from(methods)),
            sources=tuple(draw(st.lists(st.sampled_from(ids), max_size=3, unique=True)) if ids else ()),
            revision=draw(st.integers(1, 9)),
        )
        for seq in range(1, draw(st.integers(0, 8)) + 1)
    ]
    return messages, entries


@given(histories(), st.integers(0, 9), st.booleans())
def test_rows_around_changes_are_those_of_a_whole_layout(
    history: tuple[list[StoredMessage], list[MemoryEntry]], revision: int, turns: bool
) -> None:
    messages, entries = history
    known = Known()
    known.take(messages, entries)
    ids = known.changed(revision)
    whole = build_rows(messages, known.alive(), turns=turns)
    part = known.rows_around(ids, turns=turns)
    assert _facing(part, ids) == _facing(whole, ids)


@given(histories())
def test_what_is_read_again_takes_the_place_of_what_was_known(
    history: tuple[list[StoredMessage], list[MemoryEntry]],
) -> None:
    messages, entries = history
    once, twice = Known(), Known()
    once.take(messages, entries)
    twice.take(messages[::2], entries[::2])
    twice.take(messages, entries)
    ids = set(once.messages) | set(once.entries)
    assert _facing(once.rows_around(ids, turns=True), ids) == _facing(twice.rows_around(ids, turns=True), ids)


def _facing(rows: Sequence[Row], ids: set[str]) -> dict[str, tuple[object, ...]]:
    """Of each row of the ids: itself, and what stands before it in its session."""
    found = {}
    for place, row in enumerate(rows):
        if row.entry.entry_id in ids:
            before = rows[place - 1] if place else None
            same = before is not None and before.session == row.session
            shown = (before.entry.entry_id, before.text, before.quote) if before is not None and same else None
            found[row.entry.entry_id] = (row.entry, row.text, row.quote, row.asked, shown)
    return found
