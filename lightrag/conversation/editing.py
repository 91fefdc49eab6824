"""Changes that a person asks for: another text for an entry, or its end. Both keep what was, and can be undone."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import uuid4

from lightrag.conversation.history import History, Why
from lightrag.conversation.service import Edited
from lightrag.conversation.types import EntryDraft, MemoryEntry, Scope
from lightrag.errors import ConflictError, NotFoundError, UsageError


def edit_entry(history: History, scope: Scope, entry_id: str, text: str, revision: int | None = None) -> Edited:
    """Let an entry with another text take the place of one. Blocking.

    Args:
        history: where it is.
        scope: whose.
        entry_id: the entry.
        text: what holds instead.
        revision: that the entry must have; ``None``: any.

    Raises:
        UsageError: the text is empty, or the id is that of a message, which stays as it was said.
        NotFoundError: this user has no such entry, or it holds no longer.
        ConflictError: the entry has another revision.
    """
    if not text.strip():
        raise UsageError("the new text is empty: delete the entry instead", subject=entry_id)
    entry = _current(history, scope, entry_id, revision)
    draft = _draft(entry, text.strip())
    why = Why(uuid4().hex, "edited by request", time.time())
    with history.ledger.write(scope) as tx:
        _require_unchanged(history.entries.retire(tx, entry_id, "update", why, valid_to=_end(entry)), scope, entry_id)
        (made,) = history.entries.insert(tx, [draft], why, "update")
        if made == entry_id:
            raise AssertionError("an entry that holds no longer cannot be met again")
        history.entries.name_successor(tx, entry_id, made)
    return Edited(made, why.operation)


def withdraw_entry(history: History, scope: Scope, entry_id: str, revision: int | None = None) -> str:
    """End an entry with the messages that nothing else was made of, so that no search finds it. Blocking.

    Returns:
        The operation, which can be undone.

    Raises:
        UsageError: the id is that of a message, which goes with its entries.
        NotFoundError: this user has no such entry, or it holds no longer.
        ConflictError: the entry has another revision.
    """
    entry = _current(history, scope, entry_id, revision)
    why = Why(uuid4().hex, "deleted by request", time.time())
    with history.ledger.write(scope) as tx:
        _require_unchanged(
            history.entries.retire(tx, entry_id, "supersede", why, valid_to=_end(entry)), scope, entry_id
        )
    return why.operation


def _current(history: History, scope: Scope, entry_id: str, revision: int | None) -> MemoryEntry:
    if entry_id.startswith("m"):
        raise UsageError(
            f"{entry_id!r} is a message as it was said; wait until entries are made of it, and change those",
            subject=entry_id,
        )
    entry = history.entries.get(scope, entry_id)
    if entry.state != "current":
        raise NotFoundError(f"{scope} has no current memory entry {entry_id!r}", subject=entry_id)
    if revision is not None and entry.revision != revision:
        raise ConflictError(
            f"entry {entry_id!r} has revision {entry.revision}, not {revision}: read it again", subject=entry_id
        )
    return entry


def _require_unchanged(retired: bool, scope: Scope, entry_id: str) -> None:
    if not retired:
        raise ConflictError(f"the entry {entry_id!r} of {scope} was changed meanwhile: read it again", subject=entry_id)


def _end(entry: MemoryEntry) -> datetime:
    """Now, or the entry's own time where that lies in the future."""
    now = datetime.now(UTC)
    return max(now, entry.time) if entry.time.tzinfo else max(now.replace(tzinfo=None), entry.time)


def _draft(entry: MemoryEntry, text: str) -> EntryDraft:
    return EntryDraft(
        text,
        entry.time,
        # Its messages say what it replaces: they end with the old entry.
        (),
        kind=entry.kind,
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
