"""The write-ahead part of the history: accepted messages and the buffers they wait in.

A buffer is a state of rows, not a thing in memory: a message without a segment is in the sensory buffer, a segment
without a batch in the short-term buffer. So buffers survive crashes and are the same on every replica.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from blake3 import blake3
from sqlalchemy import bindparam, insert, select, update

from lightrag.conversation.history import schema
from lightrag.conversation.history.entries import number as row_number
from lightrag.conversation.history.ledger import CHUNK, Ledger, Write, message_row, message_value
from lightrag.conversation.history.waiting import Waiting, look
from lightrag.conversation.types import Message, Scope, StoredMessage, TopicSegment
from lightrag.errors import ConflictError, NotFoundError

_m = schema.messages.c
_s = schema.segments.c

# Built once, as in ``waiting``.
_REQUEST = select(schema.requests).where(
    schema.requests.c.scope_id == bindparam("scope"), schema.requests.c.request_id == bindparam("request")
)
_INSERT = insert(schema.messages).returning(_m.seq, sort_by_parameter_order=True)
_INSERT_SEGMENT = insert(schema.segments).returning(_s.segment_id)
_SENSORY = select(schema.messages).order_by(_m.seq)
_SENSORY = _SENSORY.where(_m.scope_id == bindparam("scope"), _m.conversation == bindparam("talk"))
_SENSORY = _SENSORY.where(_m.segment_id.is_(None))
_SHORT_TERM = select(_s.segment_id, _s.tokens).order_by(_s.segment_id)
_SHORT_TERM = _SHORT_TERM.where(_s.scope_id == bindparam("scope"), _s.conversation == bindparam("talk"))
_SHORT_TERM = _SHORT_TERM.where(_s.batch_id.is_(None))
_OF_BATCH = select(schema.messages).order_by(_m.seq).where(_m.scope_id == bindparam("scope"))
_OF_BATCH = _OF_BATCH.where(
    _m.segment_id.in_(select(_s.segment_id).where(_s.scope_id == bindparam("scope"), _s.batch_id == bindparam("batch")))
)


class OpenSegment(NamedTuple):
    """A segment that waits in the short-term buffer."""

    segment: int
    tokens: int


class Accepted(NamedTuple):
    """What an add stored."""

    message_ids: tuple[str, ...]
    repeated: bool
    waiting: Waiting
    """What waits now, these messages included."""


class MessageLog:
    """Messages, sensory and short-term buffers."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def accept(
        self,
        scope: Scope,
        conversation: str,
        messages: Sequence[Message],
        request_id: str | None = None,
        pictures: Sequence[Sequence[tuple[str, bytes]]] = (),
        *,
        topic_tokens: int | None = None,
    ) -> Accepted:
        """Make messages durable in one transaction. The same request id stores nothing again.

        Args:
            scope: whose.
            conversation: which.
            messages: checked.
            request_id: of the call.
            pictures: reference and file of the images of each message; empty where images are not kept.
            topic_tokens: the messages are one topic of that many tokens and go to the short-term buffer at once;
                ``None``: they wait in the sensory buffer until they are cut.

        Raises:
            ConflictError: the request id was used for other messages.
        """
        rows = [message_row(message) for message in messages]
        digest = "" if request_id is None else _digest(conversation, rows)
        with self._ledger.write(scope) as tx:
            if request_id is not None:
                known = tx.connection.execute(_REQUEST, {"scope": tx.scope_id, "request": request_id}).first()
                if known is not None:
                    if known.payload_hash != digest:
                        raise ConflictError(
                            f"request id {request_id!r} was used for other messages; use a new one", subject=request_id
                        )
                    return Accepted(tuple(known.accepted), True, look(tx.connection, tx.scope_id, conversation))
            common = {"scope_id": tx.scope_id, "conversation": conversation, "revision": tx.revision}
            if topic_tokens is not None:
                common["segment_id"] = _new_segment(tx, conversation, topic_tokens)
            result = tx.connection.execute(_INSERT, [row | common for row in rows])
            numbers = list(result.scalars())
            ids = tuple(f"m{seq}" for seq in numbers)
            _keep_pictures(tx, numbers, pictures)
            if request_id is not None:
                values = {"request_id": request_id, "payload_hash": digest, "accepted": list(ids)}
                tx.connection.execute(insert(schema.requests), values | {"scope_id": tx.scope_id})
            return Accepted(ids, False, look(tx.connection, tx.scope_id, conversation))

    def waiting(self, scope: Scope, conversation: str) -> Waiting:
        """What of a conversation is not extracted yet."""
        scope_id = self._ledger.scope_id(scope)
        with self._ledger.read(str(scope)) as connection:
            return look(connection, scope_id, conversation)

    def get(self, scope: Scope, message_id: str) -> StoredMessage:
        """One message.

        Raises:
            NotFoundError: this user has no such message.
        """
        scope_id = self._ledger.scope_id(scope)
        where = (_m.scope_id == scope_id) & (_m.seq == row_number(message_id, "message"))
        with self._ledger.read(str(scope)) as connection:
            row = connection.execute(select(schema.messages).where(where)).first()
        if row is None:
            raise NotFoundError(f"{scope} has no message {message_id!r}", subject=message_id)
        return message_value(row)

    def sensory(self, scope: Scope, conversation: str) -> list[StoredMessage]:
        """Messages of a conversation that belong to no segment yet, in order of arrival."""
        scope_id = self._ledger.scope_id(scope)
        with self._ledger.read(str(scope)) as connection:
            rows = connection.execute(_SENSORY, {"scope": scope_id, "talk": conversation})
            return [message_value(row) for row in rows]

    def buffered_conversations(self, scope: Scope) -> list[str]:
        """Conversations of a scope with something in either buffer."""
        scope_id = self._ledger.scope_id(scope)
        waiting = select(_m.conversation).where(_m.scope_id == scope_id, _m.segment_id.is_(None))
        segments = select(_s.conversation).where(_s.scope_id == scope_id, _s.batch_id.is_(None))
        with self._ledger.read(str(scope)) as connection:
            return sorted(connection.execute(waiting.union(segments)).scalars())

    def keep_compressed(self, scope: Scope, texts: Sequence[tuple[int, str]]) -> None:
        """Remember what pre-compression made of messages, by their ``seq``."""
        if not texts:
            return
        with self._ledger.write(scope) as tx:
            for seq, text in texts:
                where = (_m.scope_id == tx.scope_id) & (_m.seq == seq)
                tx.connection.execute(update(schema.messages).where(where).values(compressed=text))

    def cut(self, scope: Scope, conversation: str, groups: Sequence[tuple[Sequence[int], int]]) -> bool:
        """Turn buffered messages into segments: pairs of message ``seq`` and token count, in order.

        Returns:
            False, with nothing changed, where another worker has cut some of them already.
        """
        with self._ledger.write(scope) as tx:
            wanted = [seq for group, _ in groups for seq in group]
            free = _m.segment_id.is_(None) & (_m.scope_id == tx.scope_id)
            still = 0
            for at in range(0, len(wanted), CHUNK):
                part = wanted[at : at + CHUNK]
                still += len(tx.connection.execute(select(_m.seq).where(free, _m.seq.in_(part))).all())
            if still != len(wanted):
                return False
            for group, tokens in groups:
                number = _new_segment(tx, conversation, tokens)
                for at in range(0, len(group), CHUNK):
                    where = _m.seq.in_(group[at : at + CHUNK]) & (_m.scope_id == tx.scope_id)
                    tx.connection.execute(update(schema.messages).where(where).values(segment_id=number))
        return True

    def short_term(self, scope: Scope, conversation: str) -> list[OpenSegment]:
        """Segments of a conversation that belong to no extraction batch yet, in order."""
        scope_id = self._ledger.scope_id(scope)
        with self._ledger.read(str(scope)) as connection:
            rows = connection.execute(_SHORT_TERM, {"scope": scope_id, "talk": conversation})
            return [OpenSegment(row.segment_id, row.tokens) for row in rows]

    def segments_of(self, scope: Scope, batch_id: int) -> tuple[TopicSegment, ...]:
        """The segments of an extraction batch with their messages."""
        scope_id = self._ledger.scope_id(scope)
        with self._ledger.read(str(scope)) as connection:
            rows = connection.execute(_OF_BATCH, {"scope": scope_id, "batch": batch_id})
            found = [message_value(row) for row in rows]
        by_segment: dict[int, list[StoredMessage]] = {}
        for message in found:
            if message.segment is not None:
                by_segment.setdefault(message.segment, []).append(message)
        return tuple(
            TopicSegment(number, members[0].conversation, tuple(members)) for number, members in by_segment.items()
        )

    def since(self, scope: Scope, revision: int) -> list[StoredMessage]:
        """Messages that were accepted or extracted after a revision, in order of arrival."""
        scope_id = self._ledger.scope_id(scope)
        where = (_m.scope_id == scope_id) & (_m.revision > revision)
        with self._ledger.read(str(scope)) as connection:
            rows = connection.execute(select(schema.messages).where(where).order_by(_m.seq))
            return [message_value(row) for row in rows]


def _digest(conversation: str, rows: Sequence[Mapping[str, Any]]) -> str:
    return blake3(json.dumps([conversation, rows], sort_keys=True).encode()).hexdigest()


def _new_segment(tx: Write, conversation: str, tokens: int) -> int:
    values = {"scope_id": tx.scope_id, "conversation": conversation, "tokens": tokens}
    return int(tx.connection.execute(_INSERT_SEGMENT, values).scalar_one())


def _keep_pictures(tx: Write, numbers: Sequence[int], pictures: Sequence[Sequence[tuple[str, bytes]]]) -> None:
    rows = [
        {"scope_id": tx.scope_id, "message_seq": seq, "position": at, "reference": reference, "content": content}
        for seq, attached in zip(numbers, pictures, strict=False)
        for at, (reference, content) in enumerate(attached)
    ]
    if rows:
        tx.connection.execute(insert(schema.pictures), rows)


__all__ = ["Accepted", "MessageLog", "OpenSegment"]
