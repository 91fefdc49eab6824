"""What waits in the buffers of a conversation and in its user's queue, seen in one look.

Almost every add leaves its messages waiting: whoever knows that need not open another transaction.
"""

from __future__ import annotations

from typing import NamedTuple

from sqlalchemy import BindParameter, Connection, bindparam, func, select

from lightrag.conversation.history import schema

_m = schema.messages.c
_s = schema.segments.c
_b = schema.batches.c

_SCOPE: BindParameter[int] = bindparam("scope")
_TALK: BindParameter[str] = bindparam("talk")
# Built once: to build a statement takes longer than SQLite needs to answer it.
_HERE = select(func.count()).where(_m.scope_id == _SCOPE, _m.conversation == _TALK)
_OPEN = (_s.scope_id == _SCOPE, _s.conversation == _TALK, _s.batch_id.is_(None))
_LOOK = select(
    _HERE.where(_m.segment_id.is_(None)).scalar_subquery(),
    _HERE.where(_m.segment_id.in_(select(_s.segment_id).where(*_OPEN))).scalar_subquery(),
    select(func.coalesce(func.sum(_s.tokens), 0)).where(*_OPEN).scalar_subquery(),
    select(func.count()).where(_b.scope_id == _SCOPE, _b.done.is_(False)).scalar_subquery(),
)


class Waiting(NamedTuple):
    """What is not extracted yet."""

    sensory: int
    """Messages of the conversation that belong to no segment."""
    short_term: int
    """Messages of the conversation in segments that belong to no extraction batch."""
    tokens: int
    """What these segments measure together."""
    queued: int
    """Unfinished extraction batches of the user, of all conversations."""

    @property
    def buffered(self) -> int:
        """Messages of the conversation that no batch holds."""
        return self.sensory + self.short_term


def look(connection: Connection, scope_id: int, conversation: str) -> Waiting:
    """Read all of it from one state of the history."""
    return Waiting(*map(int, connection.execute(_LOOK, {"scope": scope_id, "talk": conversation}).one()))


__all__ = ["Waiting", "look"]
