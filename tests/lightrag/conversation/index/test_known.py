"""What is laid out of changes, against a layout of everything."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from lightrag.conversation.index.known import Known
from lightrag.conversation.index.rows import Row
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


@given(histories(), st.integers(0, 9), st.booleans(), st.lists(st.integers(0, 14), max_size=3))
def test_rows_of_what_came_bit_by_bit_are_those_of_what_came_at_once(
    history: tuple[list[StoredMessage], list[MemoryEntry]], revision: int, turns: bool, cuts: list[int]
) -> None:
    messages, entries = history
    once, bit_by_bit = Known(turns=turns), Known(turns=turns)
    once.take(messages, entries)
    for start, end in pairwise([0, *sorted(cuts), 99]):
        bit_by_bit.take(messages[start:end], entries[start:end])
        bit_by_bit.rows()
    assert bit_by_bit.rows() == once.rows()
    ids = once.changed(revision)
    assert _facing(once.rows_around(ids), ids) == _facing(bit_by_bit.rows_around(ids), ids) == _facing(once.rows(), ids)


@given(histories(), st.data())
def test_what_is_read_again_takes_the_place_of_what_was_known(
    history: tuple[list[StoredMessage], list[MemoryEntry]], data: st.DataObject
) -> None:
    messages, entries = history
    states: list[EntryState] = ["current", "superseded", "deleted"]
    later = [replace(entry, state=data.draw(st.sampled_from(states)), revision=10) for entry in entries[::2]]
    read = [replace(message, extracted=True, revision=10) for message in messages[::2]]
    once, again = Known(), Known()
    again.take(messages, entries)
    again.rows()
    again.take(read, later)
    once.take([*read, *messages[1::2]], [*later, *entries[1::2]])
    assert again.rows() == once.rows()
    changed = again.changed(9)
    assert _facing(again.rows_around(changed), changed) == _facing(once.rows(), changed)


def test_rows_that_nothing_has_changed_stay_what_they_were_with_what_was_derived_of_them() -> None:
    def message(seq: int, hours: int) -> StoredMessage:
        return StoredMessage(f"m{seq}", seq, "home", Message("user", f"saying {seq}", START + timedelta(hours=hours)))

    known = Known()
    known.take([message(1, 0), message(2, 1), message(3, 30)], [])
    before = known.rows()
    known.take([message(4, 31)], [])
    after = known.rows()
    assert [row.entry.entry_id for row in after] == ["m1", "m2", "m3", "m4"]
    assert all(new is old for new, old in zip(after, before, strict=False))


def test_a_long_session_is_read_in_a_time_that_grows_with_its_length() -> None:
    messages = [
        StoredMessage(f"m{seq}", seq, "home", Message("user", f"saying {seq}", START + timedelta(minutes=seq)))
        for seq in range(1, 20_001)
    ]
    known = Known()
    begun = time.process_time()
    known.take(messages, [])
    assert len(known.rows_around(known.messages.keys())) == len(known.rows()) == 20_000
    assert time.process_time() - begun < 20  # half a second; if every message looked at all others, minutes


def _facing(rows: Sequence[Row], ids: set[str]) -> dict[str, tuple[object, ...]]:
    """Of each row of the ids: itself, and what stands before it in its session."""
    found: dict[str, tuple[object, ...]] = {}
    for place, row in enumerate(rows):
        if row.entry.entry_id in ids:
            before = rows[place - 1] if place else None
            found[row.entry.entry_id] = (row, before if before and before.session == row.session else None)
    return found
