"""What has been read of one user's history, kept so that what changes costs what it touches and not all there is."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator
from datetime import datetime

from lightrag.conversation.history.entries import number
from lightrag.conversation.index.rows import SESSION_GAP, Row, build_rows
from lightrag.conversation.types import MemoryEntry, StoredMessage, comparable

_Said = tuple[datetime, int, str]
"""When a message was said, its number, its id: the order within a conversation."""


class Known:
    """Messages and entries of one user, as of a revision."""

    def __init__(self) -> None:
        self.messages: dict[str, StoredMessage] = {}
        self.entries: dict[str, MemoryEntry] = {}
        self._said: dict[str, list[_Said]] = {}
        """By conversation, in order."""
        self._told: dict[str, set[str]] = {}
        """Entries that were made of a message."""

    def take(self, messages: Iterable[StoredMessage], entries: Iterable[MemoryEntry]) -> None:
        """Add what is new or has changed."""
        for message in messages:
            if message.message_id not in self.messages:
                insort(self._said.setdefault(message.conversation, []), _said(message))
            self.messages[message.message_id] = message
        for entry in entries:
            self.entries[entry.entry_id] = entry
            for source in entry.sources:
                self._told.setdefault(source, set()).add(entry.entry_id)

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

    def rows_around(self, ids: Collection[str], *, turns: bool) -> list[Row]:
        """Lay out some messages and entries with all of the sessions that they belong to.

        Returns:
            Rows in order. Those of the ids, and what stands before each in its session, are as in a layout of
            everything; what else there is may not be.
        """
        wanted = {name for name in ids if name in self.entries}
        touched = {name for name in ids if name in self.messages}
        touched.update(source for name in wanted for source in self.entries[name].sources if source in self.messages)
        messages = {name: self.messages[name] for name in self._sessions(touched)}
        wanted.update(*(self._told.get(name, ()) for name in messages))
        alive = [self.entries[name] for name in sorted(wanted, key=number) if self.entries[name].state != "deleted"]
        # Where an entry quotes a message of another session first, it covers those of this one all the same.
        for entry in alive:
            messages |= {name: self.messages[name] for name in entry.sources if name in self.messages}
        return build_rows(list(messages.values()), alive, turns=turns)

    def _sessions(self, touched: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for name in touched:
            if name not in found:
                found.update(self._session(self.messages[name]))
        return found

    def _session(self, message: StoredMessage) -> Iterator[str]:
        """Messages of its conversation that no long silence parts from it."""
        said = self._said[message.conversation]
        here = bisect_left(said, _said(message))
        first = last = here
        while first and said[first][0] - said[first - 1][0] <= SESSION_GAP:
            first -= 1
        while last + 1 < len(said) and said[last + 1][0] - said[last][0] <= SESSION_GAP:
            last += 1
        return (name for _, _, name in said[first : last + 1])


def _said(message: StoredMessage) -> _Said:
    return comparable(message.message.time), message.seq, message.message_id


__all__ = ["Known"]
