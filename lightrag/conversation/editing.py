"""Changes that a person asks for: another text for an entry, or its end. Both keep what was, and can be undone."""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import uuid4

from lightrag.conversation.history import History, Why
from lightrag.conversation.history.ledger import Write
from lightrag.conversation.index.rows import turn_entry
from lightrag.conversation.service import Edited
from lightrag.conversation.types import ChangeAction, EntryDraft, MemoryEntry, Scope
from lightrag.errors import ConflictError, NotFoundError, UsageError


def edit_entry(history: History, scope: Scope, entry_id: str, text: str, revision: int | None = None) -> Edited:
    """Let an entry with another text take the place of one, at every time that may be asked about. Blocking.

    Args:
        history: where it is.
        scope: whose.
        entry_id: the entry, or a message of which no entry was made.
        text: what holds instead.
        revision: that the entry must have; ``None``: any.

    Raises:
        UsageError: the text is empty, or the id is that of a message that waits or has entries of its own.
        NotFoundError: this user has no such entry, or it holds no longer.
        ConflictError: the entry has another revision.
    """
    if not text.strip():
        raise UsageError("the new text is empty: delete the entry instead", subject=entry_id)
    entry = _current(history, scope, entry_id, revision)
    draft = _draft(entry, text.strip())
    why = Why(uuid4().hex, "edited by request", time.time())
    with history.ledger.write(scope) as tx:
        replaced = _retire(history, tx, entry, "update", why)
        (made,) = history.entries.insert(tx, [draft], why, "update")
        if made == replaced:
            raise AssertionError("an entry that holds no longer cannot be met again")
        history.entries.name_successor(tx, replaced, made)
    return Edited(made, why.operation)


def withdraw_entry(
    history: History,
    scope: Scope,
    entry_id: str,
    revision: int | None = None,
    reason: str = "deleted by request",
) -> str:
    """End an entry with the messages that nothing else was made of, so that no search finds it, of any time. Blocking.

    Returns:
        The operation, which can be undone.

    Raises:
        UsageError: the id is that of a message that waits or has entries of its own.
        NotFoundError: this user has no such entry, or it holds no longer.
        ConflictError: the entry has another revision.
    """
    entry = _current(history, scope, entry_id, revision)
    why = Why(uuid4().hex, reason, time.time())
    with history.ledger.write(scope) as tx:
        _retire(history, tx, entry, "supersede", why)
    return why.operation


def _current(history: History, scope: Scope, entry_id: str, revision: int | None) -> MemoryEntry:
    entry = _said(history, scope, entry_id) if entry_id.startswith("m") else history.entries.get(scope, entry_id)
    if entry.state != "current":
        raise NotFoundError(f"{scope} has no current memory entry {entry_id!r}", subject=entry_id)
    if revision is not None and entry.revision != revision:
        raise ConflictError(
            f"entry {entry_id!r} has revision {entry.revision}, not {revision}: read it again", subject=entry_id
        )
    return entry


def _said(history: History, scope: Scope, message_id: str) -> MemoryEntry:
    """A message that no entry was made of, as an entry."""
    stored = history.messages.get(scope, message_id)
    if not stored.extracted:
        raise UsageError(
            f"{message_id!r} is a message as it was said, which waits until entries are made of it: consolidate with "
            "flush, and change those",
            subject=message_id,
        )
    made = [entry for entry in history.entries.since(scope, -1) if message_id in entry.sources]
    holding = [entry.entry_id for entry in made if entry.state == "current"]
    if holding:
        raise UsageError(
            f"{message_id!r} is a message as it was said; change the entries made of it: {', '.join(holding)}",
            subject=message_id,
        )
    return replace(turn_entry(stored), state="superseded" if made else "current")


def _retire(history: History, tx: Write, entry: MemoryEntry, action: ChangeAction, why: Why) -> str:
    """End an entry from its beginning: it was wrong, or is not wanted, whatever time is asked about."""
    entry_id = entry.entry_id
    if entry.kind == "turn":
        # Messages have no state: an entry that quotes this one takes its place, and ends.
        quote = replace(_draft(entry, entry.text), sources=entry.sources, method="extractive")
        (entry_id,) = history.entries.insert(tx, [quote], why)
    if not history.entries.retire(tx, entry_id, action, why, valid_to=entry.time):
        raise ConflictError(f"the entry {entry_id!r} was changed meanwhile: read it again", subject=entry_id)
    return entry_id


def _draft(entry: MemoryEntry, text: str) -> EntryDraft:
    return EntryDraft(
        text,
        entry.time,
        # Its messages say what it replaces: they end with the old entry.
        (),
        kind="fact" if entry.kind == "turn" else entry.kind,
        speaker=entry.speaker,
        speaker_id=entry.speaker_id,
        conversation=entry.conversation,
        topic=entry.topic,
        method="prompted",
        category=entry.category,
        importance=entry.importance,
        entities=entry.entities,
        event_time=entry.event_time,
        tags=entry.tags,
        images=entry.images,
        covers=entry.covers,
    )


__all__ = ["edit_entry", "withdraw_entry"]
