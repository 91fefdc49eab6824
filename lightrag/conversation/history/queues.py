"""Which older entries an entry may update, and which of these pairs have been judged already."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import delete, insert, select, update

from lightrag.conversation.history import schema
from lightrag.conversation.history.ledger import CHUNK, Ledger, Write
from lightrag.conversation.types import Scope

_q = schema.queues.c
_d = schema.decisions.c


class Candidate(NamedTuple):
    """An older entry in the queue of a newer one."""

    target: int
    """Row number of the older entry."""
    score: float
    """Cosine similarity of the two texts."""


class UpdateQueues:
    """Update queues of all scopes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def built_until(self, scope: Scope) -> int:
        """The revision up to which entries have been put into queues."""
        where = schema.scopes.c.scope_id == self._ledger.scope_id(scope)
        with self._ledger.read(str(scope)) as connection:
            return int(connection.execute(select(schema.scopes.c.consolidated_revision).where(where)).scalar_one())

    def write(self, scope: Scope, queues: Mapping[int, Sequence[Candidate]], until: int) -> None:
        """Replace the queues of some entries and remember up to which revision queues are complete."""
        with self._ledger.write(scope) as tx:
            self._replace(tx, queues)
            where = schema.scopes.c.scope_id == tx.scope_id
            tx.connection.execute(update(schema.scopes).where(where).values(consolidated_revision=until))

    def _replace(self, tx: Write, queues: Mapping[int, Sequence[Candidate]]) -> None:
        sources = list(queues)
        for at in range(0, len(sources), CHUNK):
            where = (_q.scope_id == tx.scope_id) & _q.source_seq.in_(sources[at : at + CHUNK])
            tx.connection.execute(delete(schema.queues).where(where))
        rows = [
            {"scope_id": tx.scope_id, "source_seq": source, "targets": _encode(candidates)}
            for source, candidates in queues.items()
            if candidates
        ]
        if rows:
            tx.connection.execute(insert(schema.queues), rows)

    def read(self, scope: Scope) -> dict[int, list[Candidate]]:
        """The queue of every entry that has one."""
        where = _q.scope_id == self._ledger.scope_id(scope)
        with self._ledger.read(str(scope)) as connection:
            rows = connection.execute(select(_q.source_seq, _q.targets).where(where)).all()
        return {
            row.source_seq: [Candidate(int(target), score) for target, score in json.loads(row.targets)] for row in rows
        }

    def judged(self, scope: Scope) -> set[tuple[int, int]]:
        """All judged pairs as (target, source)."""
        where = _d.scope_id == self._ledger.scope_id(scope)
        with self._ledger.read(str(scope)) as connection:
            rows = connection.execute(select(_d.target_seq, _d.source_seq).where(where))
            return {(row.target_seq, row.source_seq) for row in rows}

    def judge(self, tx: Write, target: int, sources: Iterable[int]) -> None:
        """Remember inside an open transaction that these pairs have been judged."""
        rows = [{"scope_id": tx.scope_id, "target_seq": target, "source_seq": source} for source in set(sources)]
        where = (_d.scope_id == tx.scope_id) & (_d.target_seq == target)
        known = set(tx.connection.execute(select(_d.source_seq).where(where)).scalars())
        fresh = [row for row in rows if row["source_seq"] not in known]
        if fresh:
            tx.connection.execute(insert(schema.decisions), fresh)


def _encode(candidates: Sequence[Candidate]) -> str:
    return json.dumps(
        [[candidate.target, round(candidate.score, 4)] for candidate in candidates], separators=(",", ":")
    )


__all__ = ["Candidate", "UpdateQueues"]
