"""Consolidation of everybody who has changed; who has not is passed over with one query for all of them.

A user is settled at a revision when a whole pass at that revision had nothing to do. The mark says so, and every write
to the user's history moves the revision on.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select

from lightrag.conversation.bulk.receipts import Receipt
from lightrag.conversation.bulk.spec import ConsolidationSpec
from lightrag.conversation.engine import Engine
from lightrag.conversation.history import schema
from lightrag.conversation.history.ledger import Ledger, guard
from lightrag.conversation.memory import ConversationMemory
from lightrag.conversation.types import AddReport, Scope, UpdateReport

PASSES = 4
"""At most, until one has nothing to do."""

_scopes = schema.scopes.c
_marks = schema.consolidations.c


def due_users(ledger: Ledger, spec: ConsolidationSpec) -> tuple[list[str], int]:
    """Users of a tenant who have changed since they were consolidated with these options, and how many have not."""
    settled = (_marks.revision == _scopes.revision) & (_marks.options == spec.fingerprint)
    joined = schema.scopes.outerjoin(schema.consolidations, _marks.scope_id == _scopes.scope_id)
    query = select(_scopes.user_name, settled.label("settled")).select_from(joined).where(_scopes.tenant == spec.tenant)
    if spec.user:
        query = query.where(_scopes.user_name == spec.user)
    with ledger.read(spec.tenant) as connection:
        rows = connection.execute(query.order_by(_scopes.user_name)).all()
    due = [row.user_name for row in rows if not row.settled]
    return due, len(rows) - len(due)


async def consolidate_user(engine: Engine, scope: Scope, spec: ConsolidationSpec) -> Receipt:
    """Consolidate until nothing is left to do; safe to interrupt anywhere and to repeat.

    Raises:
        BackendError: the history or the vector store failed. A model that fails is in the receipt.
    """
    memory = ConversationMemory(engine, scope)
    flushed = await memory.flush() if spec.flush else AddReport(())
    queued = flushed.queued
    done = Receipt(users=1, queued=queued, **_spent(scope, flushed))
    report = UpdateReport()
    for _ in range(PASSES):
        report = await memory.offline_update(
            top_k=spec.top_k, keep_top_n=spec.keep_top_n, score_threshold=spec.score_threshold
        )
        done += _counted(scope, report)
        # Pairs that are left as they are count too: that they were judged is written down.
        if not report.examined or report.problems:
            break
    if not (queued or report.examined or report.problems):
        _settle(engine, scope, spec)
    return done + Receipt(changed=int(done.operations > 0))


def _counted(scope: Scope, report: UpdateReport) -> Receipt:
    return Receipt(
        operations=len(report.operations),
        queued=sum(problem.retried for problem in report.problems),
        **_spent(scope, report),
    )


def _spent(scope: Scope, report: AddReport | UpdateReport) -> dict[str, Any]:
    return {
        "calls": report.usage.calls,
        "tokens": report.usage.prompt_tokens + report.usage.completion_tokens,
        "problems": tuple(f"{scope.user}: {problem.stage}: {problem.reason}" for problem in report.problems),
    }


def _settle(engine: Engine, scope: Scope, spec: ConsolidationSpec) -> None:
    """Mark the revision at which the last pass had nothing to do, if nobody has written since."""
    ledger = engine.history.ledger
    # The pass wrote once itself: that queues are built until the revision it saw.
    seen = engine.history.queues.built_until(scope) + 1
    revision = ledger.revision(scope)
    if revision > seen:
        return
    mine = _marks.scope_id == ledger.scope_id(scope)
    values = {"scope_id": ledger.scope_id(scope), "revision": revision, "options": spec.fingerprint}
    with guard(str(scope)), ledger.engine.begin() as connection:
        connection.execute(delete(schema.consolidations).where(mine))
        connection.execute(insert(schema.consolidations).values(**values))


__all__ = ["PASSES", "consolidate_user", "due_users"]
