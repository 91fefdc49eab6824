"""What has been read of one user's history, laid out session by session: a change costs what it touches."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple

from lightrag.conversation.history.entries import number
from lightrag.conversation.index.rows import SESSION_GAP, Row, loose_row, session_rows
from lightrag.conversation.index.speakers import Calls
from lightrag.conversation.types import MemoryEntry, StoredMessage, comparable

_Said = tuple[datetime, int, str]
"""When a message was said, its number, its id: the order within a conversation."""


class _Laid(NamedTuple):
    """A session as it was last laid out."""

    messages: int
    rows: tuple[Row, ...]


class Known:
    """Messages and entries of one user, as of a revision. Belongs to one thread at a time.

    Args:
        turns: whether messages that were extracted already stay rows of their own.
    """

    def __init__(self, *, turns: bool = True) -> None:
        self.messages: dict[str, StoredMessage] = {}
        self.entries: dict[str, MemoryEntry] = {}
        self.calls = Calls()
        """Who calls whom what, in all messages."""
        self._turns = turns
        self._said: dict[str, list[_Said]] = {}
        """By conversation, in order."""
        self._told: dict[str, set[str]] = {}
        """Entries that were made of a message."""
        self._laid: dict[str, _Laid] = {}
        """By label of the session."""
        self._alone: dict[str, Row] = {}
        """Rows of entries that stand in no session."""
        self._touched: set[str] = set()
        """Messages of which something is new."""
        self._stale: set[str] = set()
        """Labels of sessions that have to be laid out anew."""

    def take(self, messages: Iterable[StoredMessage], entries: Iterable[MemoryEntry]) -> None:
        """Add what is new or has changed."""
        for message in messages:
            name = message.message_id
            if name not in self.messages:
                insort(self._said.setdefault(message.conversation, []), _said(message))
                self.calls.add(message.message)
                # Entries may be read before the messages that they were made of.
                self._touched.update(
                    source for told in self._told.get(name, ()) for source in self.entries[told].sources
                )
            self.messages[name] = message
            self._touched.add(name)
        for entry in entries:
            self.entries[entry.entry_id] = entry
            for source in entry.sources:
                self._told.setdefault(source, set()).add(entry.entry_id)
            self._touched.update(entry.sources)

    def alive(self) -> list[MemoryEntry]:
        """Entries that are not deleted, in order of arrival."""
        return [entry for entry in self.entries.values() if entry.state != "deleted"]

    def changed(self, revision: int) -> set[str]:
        """Ids of what may have come, gone or changed after a revision."""
        ids = {message.message_id for message in self.messages.values() if message.revision > revision}
        for entry in self.entries.values():
            if entry.revision > revision:
                ids.add(entry.entry_id)
                # A quote takes its messages' place, and gives it back when it is deleted.
                ids.update(entry.sources)
        return ids

    # --- Laying out ---------------------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        """Everything that can be found, conversation by conversation, session by session, in order."""
        placed: list[tuple[str, Sequence[Row]]] = []
        labels: set[str] = set()
        self._settle()
        for conversation, said in self._said.items():
            for place, (first, last) in enumerate(_sessions(said)):
                labels.add(label := _label(conversation, said[first]))
                placed.append((f"{conversation}/{place}", self._session(label, said[first : last + 1])))
        placed += [(row.session, (row,)) for row in self._loose(self.entries)]
        placed.sort(key=lambda each: each[0])
        self._laid = {label: self._laid[label] for label in labels}
        return [row for _, rows in placed for row in rows]

    def rows_around(self, ids: Collection[str]) -> list[Row]:
        """Some messages and entries, with all of the sessions that they belong to, in order."""
        wanted = [self.entries[name] for name in ids if name in self.entries]
        touched = {name for name in ids if name in self.messages}
        touched.update(source for entry in wanted for source in entry.sources if source in self.messages)
        self._settle()
        sessions = self._sessions_of(sorted(touched, key=_message_number))
        rows = [row for label, said in sessions for row in self._session(label, said)]
        return [*rows, *self._loose(entry.entry_id for entry in wanted)]

    def _settle(self) -> None:
        """Find the sessions that something has changed in."""
        known = (name for name in self._touched if name in self.messages)
        self._stale.update(label for label, _ in self._sessions_of(known))
        self._touched.clear()

    def _sessions_of(self, names: Iterable[str]) -> Iterator[tuple[str, Sequence[_Said]]]:
        """Label and messages of the sessions that messages belong to, each session once."""
        met: set[str] = set()
        for name in names:
            if name not in met:
                label, said = self._session_of(name)
                met.update(each for _, _, each in said)
                yield label, said

    def _session(self, label: str, said: Sequence[_Said]) -> Sequence[Row]:
        """Rows of a session, as they are where nothing has changed."""
        before = self._laid.get(label)
        if before is not None and before.messages == len(said) and label not in self._stale:
            return before.rows
        messages = [self.messages[name] for _, _, name in said]
        told = {name for message in messages for name in self._told.get(message.message_id, ())}
        entries = [self.entries[name] for name in sorted(told, key=number)]
        alive = [entry for entry in entries if entry.state != "deleted"]
        made = session_rows(label, messages, alive, self.messages, turns=self._turns)
        # Rows keep what was derived of them, so those that are the same stay.
        old = {row.entry.entry_id: row for row in before.rows} if before else {}
        rows = tuple(same if (same := old.get(row.entry.entry_id)) == row else row for row in made)
        self._laid[label] = _Laid(len(said), rows)
        self._stale.discard(label)
        return rows

    def _session_of(self, name: str) -> tuple[str, Sequence[_Said]]:
        """The label and the messages of the session that a message belongs to."""
        message = self.messages[name]
        said = self._said[message.conversation]
        first = last = bisect_left(said, _said(message))
        while first and _follows(said[first - 1], said[first]):
            first -= 1
        while last + 1 < len(said) and _follows(said[last], said[last + 1]):
            last += 1
        return _label(message.conversation, said[first]), said[first : last + 1]

    def _loose(self, names: Iterable[str]) -> Iterator[Row]:
        """Rows of those entries that stand in no session."""
        for name in names:
            entry = self.entries[name]
            if entry.state == "deleted" or (entry.kind != "summary" and self.messages.keys() & set(entry.sources[:1])):
                continue
            row = loose_row(entry, self.messages)
            if self._alone.get(name) != row:
                self._alone[name] = row
            yield self._alone[name]


def _sessions(said: Sequence[_Said]) -> Iterator[tuple[int, int]]:
    """First and last place of each session."""
    first = 0
    for place, (before, after) in enumerate(pairwise(said), 1):
        if not _follows(before, after):
            yield first, place - 1
            first = place
    if said:
        yield first, len(said) - 1


def _follows(before: _Said, after: _Said) -> bool:
    """Whether no long silence lies between two messages."""
    return after[0] - before[0] <= SESSION_GAP


def _said(message: StoredMessage) -> _Said:
    return comparable(message.message.time), message.seq, message.message_id


def _label(conversation: str, first: _Said) -> str:
    """Of a session, which stays the same when others come before it."""
    return f"{conversation}/{first[2]}"


def _message_number(name: str) -> int:
    return number(name, "message")


__all__ = ["Known"]
