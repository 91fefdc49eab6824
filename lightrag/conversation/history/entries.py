"""Memory entries, their validity, and the undo log of everything that was ever decided about them.

Text never changes. What changes is whether an entry holds: its state, until when it was valid, what took its place and
how often it was said. Each such change is one line of the log with its values before and after.
"""

from __future__ import annotations

import time as clock
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import uuid4

from sqlalchemy import bindparam, insert, select, update

from lightrag.conversation.history import schema
from lightrag.conversation.history.ledger import CHUNK, Ledger, Write, at, draft_row, entry_value
from lightrag.conversation.types import Change, ChangeAction, EntryDraft, MemoryEntry, Scope
from lightrag.errors import NotFoundError, UsageError

_e = schema.entries.c
_x = schema.sources.c
_c = schema.changes.c
_LONGEST_ID = 19

# Built once, as in ``waiting``: a batch adds dozens of entries.
_HOLDING = select(_e.seq, _e.live_key)
_HOLDING = _HOLDING.where(_e.scope_id == bindparam("scope"), _e.live_key.in_(bindparam("keys", expanding=True)))
_INSERT = insert(schema.entries).returning(_e.seq)

_Changed = tuple[int, Mapping[str, Any], Mapping[str, Any]]
"""An entry's number, and what changed of it from which to which value."""


class Why(NamedTuple):
    """What every change is logged with."""

    operation: str
    """Changes that share it are undone together."""
    reason: str
    now: float
    """Seconds since 1970."""


class EntryLog:
    """Entries of all scopes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # --- Reading ------------------------------------------------------------------------------------------------------

    def since(self, scope: Scope, revision: int) -> list[MemoryEntry]:
        """Entries of any state that are new or changed after a revision, in order of arrival."""
        scope_id = self._ledger.scope_id(scope)
        return self._select(scope, (_e.scope_id == scope_id) & (_e.revision > revision))

    def get(self, scope: Scope, entry_id: str) -> MemoryEntry:
        """One entry.

        Raises:
            NotFoundError: this user has no such entry.
        """
        scope_id = self._ledger.scope_id(scope)
        found = self._select(scope, (_e.scope_id == scope_id) & (_e.seq == number(entry_id)))
        if not found:
            raise NotFoundError(f"{scope} has no memory entry {entry_id!r}", subject=entry_id)
        return found[0]

    def _select(self, scope: Scope, where: Any) -> list[MemoryEntry]:
        with self._ledger.read(str(scope)) as connection:
            rows = connection.execute(select(schema.entries).where(where).order_by(_e.seq)).all()
            linked: dict[int, list[str]] = {}
            for start in range(0, len(rows), CHUNK):
                part = [row.seq for row in rows[start : start + CHUNK]]
                query = select(schema.sources).where(_x.entry_seq.in_(part)).order_by(_x.entry_seq, _x.message_seq)
                for link in connection.execute(query):
                    linked.setdefault(link.entry_seq, []).append(f"m{link.message_seq}")
        return [entry_value(row, tuple(linked.get(row.seq, ()))) for row in rows]

    def changes(self, scope: Scope, entry_id: str | None = None) -> list[Change]:
        """The log of a scope, or of one entry, oldest first.

        Raises:
            NotFoundError: this user has no such entry.
        """
        where = _c.scope_id == self._ledger.scope_id(scope)
        if entry_id is not None:
            where &= _c.entry_seq == number(entry_id)
        with self._ledger.read(str(scope)) as connection:
            found = [
                _change(row) for row in connection.execute(select(schema.changes).where(where).order_by(_c.change_id))
            ]
        if entry_id is not None and not found:
            raise NotFoundError(f"{scope} has no memory entry {entry_id!r}", subject=entry_id)
        return found

    # --- Writing ------------------------------------------------------------------------------------------------------

    def insert(
        self, tx: Write, drafts: Sequence[EntryDraft], why: Why, action: ChangeAction = "add"
    ) -> tuple[str, ...]:
        """Add entries inside an open transaction; one that holds already gets one more occurrence instead."""
        known = self._holding(tx, [draft.live_key for draft in drafts])
        fresh: dict[int, EntryDraft] = {}
        again: list[EntryDraft] = []
        for draft in drafts:
            if draft.live_key in known:
                again.append(draft)
                continue
            values = draft_row(draft) | {"scope_id": tx.scope_id, "revision": tx.revision, "occurrences": 1}
            seq = known[draft.live_key] = int(tx.connection.execute(_INSERT, values).scalar_one())
            fresh[seq] = draft
        self._link(tx, {seq: draft.sources for seq, draft in fresh.items()})
        self._log(tx, action, [(seq, {}, {"state": "current"}) for seq in fresh], why)
        for draft in again:
            self._repeat(tx, known[draft.live_key], draft, why)
        return tuple(f"e{known[draft.live_key]}" for draft in drafts)

    def _holding(self, tx: Write, live_keys: Sequence[str]) -> dict[str, int]:
        """Entries that hold already, by their key."""
        found: dict[str, int] = {}
        for start in range(0, len(live_keys), CHUNK):
            keys = live_keys[start : start + CHUNK]
            rows = tx.connection.execute(_HOLDING, {"scope": tx.scope_id, "keys": keys})
            found |= {row.live_key: row.seq for row in rows}
        return found

    def _repeat(self, tx: Write, seq: int, draft: EntryDraft, why: Why) -> None:
        linked = tx.connection.execute(select(_x.message_seq).where(_x.entry_seq == seq)).scalars()
        known = {f"m{source}" for source in linked}
        fresh = [source for source in draft.sources if source not in known]
        if fresh or not draft.sources:
            seen = tx.connection.execute(select(_e.occurrences).where(_e.seq == seq)).scalar_one()
            values = {"occurrences": seen + 1, "revision": tx.revision}
            tx.connection.execute(update(schema.entries).where(_e.seq == seq).values(**values))
            self._link(tx, {seq: fresh})
            self._log(tx, "repeat", [(seq, {"occurrences": seen}, {"occurrences": seen + 1})], why)

    def _link(self, tx: Write, sources: Mapping[int, Sequence[str]]) -> None:
        rows = [
            {"entry_seq": seq, "message_seq": number(message_id, "message")}
            for seq, message_ids in sources.items()
            for message_id in dict.fromkeys(message_ids)
        ]
        if rows:
            tx.connection.execute(insert(schema.sources), rows)

    def retire(
        self,
        tx: Write,
        entry_id: str,
        action: ChangeAction,
        why: Why,
        *,
        valid_to: datetime | None = None,
        by: str | None = None,
    ) -> bool:
        """End the validity of an entry inside an open transaction. False where it held no longer."""
        after = {
            "state": "deleted" if action == "delete" else "superseded",
            "live_key": None,
            "valid_to": valid_to.isoformat() if valid_to else None,
            "superseded_by": number(by) if by else None,
        }
        return self._change(tx, number(entry_id), after, action, why)

    def hold(self, tx: Write, entry_ids: Sequence[str]) -> bool:
        """Whether all of these entries hold, inside an open transaction."""
        wanted = {number(entry_id) for entry_id in entry_ids}
        where = (_e.scope_id == tx.scope_id) & _e.seq.in_(wanted) & (_e.state == "current")
        return len(tx.connection.execute(select(_e.seq).where(where)).all()) == len(wanted)

    def name_successor(self, tx: Write, entry_id: str, successor: str) -> None:
        """Fill in what took the place of an entry that was retired in the same transaction."""
        where = (_e.scope_id == tx.scope_id) & (_e.seq == number(entry_id))
        tx.connection.execute(update(schema.entries).where(where).values(superseded_by=number(successor)))

    def absorb(self, tx: Write, entry_id: str, repeated: MemoryEntry, why: Why) -> None:
        """Add the occurrences of an entry that says the same as this one."""
        where = (_e.scope_id == tx.scope_id) & (_e.seq == number(entry_id))
        seen = tx.connection.execute(select(_e.occurrences).where(where)).scalar_one()
        self._change(tx, number(entry_id), {"occurrences": seen + repeated.occurrences}, "merge", why)

    def _change(self, tx: Write, seq: int, after: Mapping[str, Any], action: ChangeAction, why: Why) -> bool:
        where = (_e.scope_id == tx.scope_id) & (_e.seq == seq)
        row = tx.connection.execute(select(schema.entries).where(where, _e.state == "current")).first()
        if row is None:
            return False
        before = {name: getattr(row, name) for name in after}
        tx.connection.execute(update(schema.entries).where(where).values(**after, revision=tx.revision))
        self._log(tx, action, [(seq, before, after)], why)
        return True

    def undo(self, scope: Scope, operation: str) -> tuple[str, ...]:
        """Take back every change of an operation. Returns the ids of the entries touched.

        Raises:
            NotFoundError: there is no such operation, or it is undone already.
            UsageError: a later operation built on it; that one has to be undone first.
        """
        with self._ledger.write(scope) as tx:
            where = (_c.scope_id == tx.scope_id) & (_c.operation == operation) & _c.undone.is_(False)
            rows = list(tx.connection.execute(select(schema.changes).where(where).order_by(_c.change_id.desc())))
            if not rows:
                raise NotFoundError(f"{scope} has no operation {operation!r} to undo", subject=operation)
            for row in rows:
                self._refuse_if_built_upon(tx, row)
            # Retired entries come back last: what took their place must give up its key first.
            rows.sort(key=lambda row: bool(row.before))
            undoing = Why(uuid4().hex, f"undo of {operation}", clock.time())
            for row in rows:
                values = dict(row.before) or {"state": "deleted", "live_key": None}
                mine = (_e.scope_id == tx.scope_id) & (_e.seq == row.entry_seq)
                tx.connection.execute(update(schema.entries).where(mine).values(**values, revision=tx.revision))
                self._log(tx, "undo", [(row.entry_seq, dict(row.after), values)], undoing)
            tx.connection.execute(update(schema.changes).where(where).values(undone=True))
        return tuple(dict.fromkeys(f"e{row.entry_seq}" for row in rows))

    def _refuse_if_built_upon(self, tx: Write, row: Any) -> None:
        later = (_c.scope_id == tx.scope_id) & (_c.entry_seq == row.entry_seq) & (_c.change_id > row.change_id)
        later &= _c.undone.is_(False) & (_c.operation != row.operation) & _c.action.not_in(["undo", "repeat"])
        newer = tx.connection.execute(select(_c.operation, _c.action).where(later).limit(1)).first()
        if newer is not None:
            raise UsageError(
                f"entry 'e{row.entry_seq}' was changed again by operation {newer.operation!r} ({newer.action}): "
                "undo that one first",
                subject=newer.operation,
            )

    def _log(self, tx: Write, action: ChangeAction, changed: Sequence[_Changed], why: Why) -> None:
        common = {"operation": why.operation, "action": action, "reason": why.reason, "at": why.now}
        rows = [
            {"entry_seq": seq, "before": dict(before), "after": dict(after), "scope_id": tx.scope_id} | common
            for seq, before, after in changed
        ]
        if rows:
            tx.connection.execute(insert(schema.changes), rows)


def number(item_id: str, kind: Literal["entry", "message"] = "entry") -> int:
    """The row number in the id of an entry, such as ``e12``, or of a message, such as ``m7``.

    Raises:
        NotFoundError: the text is no such id.
    """
    # More digits than a database's numbers have are the id of nothing, too.
    if item_id[:1] != kind[0] or not item_id[1:].isdecimal() or len(item_id) > _LONGEST_ID:
        raise NotFoundError(f"{item_id!r} is no id of a memory {kind}", subject=item_id)
    return int(item_id[1:])


def _change(row: Any) -> Change:
    return Change(
        row.change_id,
        row.operation,
        row.action,
        f"e{row.entry_seq}",
        row.before,
        row.after,
        row.reason,
        at(row.at),
        bool(row.undone),
    )


__all__ = ["EntryLog", "Why", "number"]
