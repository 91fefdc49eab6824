"""Image files that came with messages, as they were given."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from lightrag.conversation.history import schema
from lightrag.conversation.history.ledger import Ledger
from lightrag.conversation.types import Scope
from lightrag.errors import NotFoundError

_p = schema.pictures.c
_m = schema.messages.c


class PictureLog:
    """Pictures of all scopes; :class:`MessageLog` writes them with their messages."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def since(self, scope: Scope, revision: int) -> list[tuple[int, int]]:
        """Message number and place in the message of pictures whose message changed after a revision."""
        where = (_p.scope_id == self._ledger.scope_id(scope)) & (_m.seq == _p.message_seq) & (_m.revision > revision)
        query = select(_p.message_seq, _p.position).where(where).order_by(_p.message_seq, _p.position)
        with self._ledger.read(str(scope)) as connection:
            return [(row.message_seq, row.position) for row in connection.execute(query)]

    def contents(self, scope: Scope, places: Sequence[tuple[int, int]]) -> list[bytes]:
        """The files at some places, in their order."""
        scope_id = self._ledger.scope_id(scope)
        found = []
        with self._ledger.read(str(scope)) as connection:
            for seq, position in places:
                where = (_p.scope_id == scope_id) & (_p.message_seq == seq) & (_p.position == position)
                found.append(bytes(connection.execute(select(_p.content).where(where)).scalar_one()))
        return found

    def get(self, scope: Scope, reference: str) -> bytes:
        """The file behind a reference, the latest where several messages have it.

        Raises:
            NotFoundError: no message of this user has it.
        """
        where = (_p.scope_id == self._ledger.scope_id(scope)) & (_p.reference == reference)
        query = select(_p.content).where(where).order_by(_p.message_seq.desc()).limit(1)
        with self._ledger.read(str(scope)) as connection:
            content = connection.execute(query).scalar()
        if content is None:
            raise NotFoundError(f"{scope} has no picture {reference[:80]!r}", subject=reference[:80])
        return bytes(content)


__all__ = ["PictureLog"]
