"""Offline and online consolidation: queues of neighbours, decisions, and their application with provenance.

Only pairs with a new member are ever looked at, and a judged pair is never judged again. Order is strict (time said,
then arrival), so of two entries only the later one can say something about the earlier one, never both. Every decision
is applied in one transaction that first checks that both still hold: interrupt it anywhere and repeat it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import uuid4

from lightrag.conversation.history import Candidate, History, Why
from lightrag.conversation.index.keeper import IndexKeeper
from lightrag.conversation.index.rows import item_number
from lightrag.conversation.index.view import MemoryView
from lightrag.conversation.types import ChangeAction, EntryDraft, MemoryEntry, Problem, Scope, UpdateReport, position
from lightrag.conversation.update.base import Action, Decision, Later, Reconciler, UpdateCase
from lightrag.conversation.update.neighbours import candidate_queues
from lightrag.conversation.vectors import VectorStore
from lightrag.errors import BackendError, LimitError
from lightrag.types import Usage

KINDS = frozenset({"fact", "relation"})
"""What consolidation is about; turns are what was said, and summaries are made anew."""


@dataclass(frozen=True, slots=True)
class _Judged:
    case: UpdateCase
    decision: Decision


class Consolidator:
    """Consolidates one user's entries at a time. Safe to share between tasks."""

    def __init__(
        self, history: History, keeper: IndexKeeper, store: VectorStore, reconciler: Reconciler, *, workers: int = 5
    ) -> None:
        self._history = history
        self._keeper = keeper
        self._store = store
        self._reconciler = reconciler
        self._workers = workers

    # --- Queues -------------------------------------------------------------------------------------------------------

    async def build_queues(self, scope: Scope, top_k: int = 20, keep_top_n: int = 10) -> int:
        """Find for every entry that is new since the last time which older ones it may update.

        Args:
            scope: whose.
            top_k: neighbours looked at.
            keep_top_n: of these, how many are kept.

        Returns:
            Number of entries whose queue changed.
        """
        view = await self._keeper.view(scope)
        return await asyncio.to_thread(self._build, scope, view, min(top_k, keep_top_n))

    def _build(self, scope: Scope, view: MemoryView, keep: int) -> int:
        queues = self._history.queues
        until = queues.built_until(scope)
        if until >= view.revision:
            return 0
        entries = _holding(view)
        settled = {target for target, source in queues.judged(scope) if target == source}
        known = queues.read(scope)
        new = {number(entry) for entry in entries if entry.revision > until} - settled - set(known)
        if not new:
            queues.write(scope, {}, view.revision)
            return 0
        stored = self._store.vectors(scope)
        numbers = {item_number(entry.entry_id): number(entry) for entry in entries}
        found = candidate_queues(entries, stored, numbers, frozenset(new), keep)
        merged = {seq: _merge(known.get(seq, []), candidates, keep) for seq, candidates in found.items()}
        queues.write(scope, merged, view.revision)
        return len(merged)

    # --- Decisions ----------------------------------------------------------------------------------------------------

    async def consolidate(
        self, scope: Scope, score_threshold: float = 0.9, *, workers: int | None = None, only: Iterable[str] = ()
    ) -> UpdateReport:
        """Decide about every entry that a later one in whose queue it stands is near enough to.

        Args:
            scope: whose.
            score_threshold: least similarity.
            workers: decisions asked for at the same time.
            only: ids of the later entries to consider; empty: all.
        """
        view = await self._keeper.view(scope, vectors=False)
        cases = await asyncio.to_thread(self._cases, scope, view, score_threshold, frozenset(only))
        limit = asyncio.Semaphore(workers or self._workers)
        report = UpdateReport()
        for start in range(0, len(cases), 64):
            part = cases[start : start + 64]
            outcomes = await asyncio.gather(*(self._decide(case, limit) for case in part))
            for outcome in outcomes:
                report = await self._settle(scope, outcome, report)
        return report

    def _cases(self, scope: Scope, view: MemoryView, threshold: float, only: frozenset[str]) -> list[UpdateCase]:
        entries = {number(entry): entry for entry in _holding(view)}
        judged = self._history.queues.judged(scope)
        later: dict[int, list[Later]] = {}
        for source, candidates in self._history.queues.read(scope).items():
            if source not in entries or (only and entries[source].entry_id not in only):
                continue
            for target, score in candidates:
                if score >= threshold and target in entries and (target, source) not in judged:
                    later.setdefault(target, []).append(Later(entries[source], score))
        cases = [
            UpdateCase(entries[target], tuple(sorted(found, key=lambda each: position(each.entry))))
            for target, found in later.items()
        ]
        return sorted(cases, key=lambda case: position(case.target))

    async def _decide(self, case: UpdateCase, limit: asyncio.Semaphore) -> _Judged | Problem:
        async with limit:
            try:
                return _Judged(case, await self._reconciler.decide(case))
            except (BackendError, LimitError) as error:
                return Problem("update", str(error), case.target.entry_id, retried=True)

    async def _settle(self, scope: Scope, outcome: _Judged | Problem, report: UpdateReport) -> UpdateReport:
        if isinstance(outcome, Problem):
            return _add(report, None, "", problem=outcome)
        case, decision = outcome.case, outcome.decision
        if decision.problem:
            problem = Problem("update", decision.problem, case.target.entry_id, retried=True)
            return _add(report, None, "", problem=problem, usage=decision.usage)
        operation = await asyncio.to_thread(self._apply, scope, case, decision)
        action = decision.action if operation is not None else None
        return _add(report, action, operation or "", usage=decision.usage)

    def _apply(self, scope: Scope, case: UpdateCase, decision: Decision) -> str | None:
        """Make a decision true; ``None`` where the entries no longer hold, so that it means nothing any more."""
        queues, entries = self._history.queues, self._history.entries
        why = Why(uuid4().hex, decision.reason, time.time())
        target = case.target
        later = [each.entry for each in case.later]
        by = next((entry for entry in later if entry.entry_id == decision.by), later[-1])
        with self._history.ledger.write(scope) as tx:
            if not entries.hold(tx, [target.entry_id, *(entry.entry_id for entry in later)]):
                return None
            queues.judge(tx, number(target), [number(entry) for entry in later])
            if decision.action == "ignore":
                return ""
            if decision.action == "update":
                entries.retire(tx, target.entry_id, "update", why, valid_to=by.time)
                made = entries.insert(tx, [_updated(target, later, decision.text)], why, "update")[0]
                entries.name_successor(tx, target.entry_id, made)
                # Made of what has been judged: only later entries may say something about it.
                queues.judge(tx, int(made[1:]), [int(made[1:])])
                return why.operation
            merged = decision.action == "merge"
            action: ChangeAction = "merge" if merged else "supersede"
            entries.retire(tx, target.entry_id, action, why, valid_to=by.time, by=by.entry_id)
            if merged:
                entries.absorb(tx, by.entry_id, target, why)
        return why.operation


def _holding(view: MemoryView) -> list[MemoryEntry]:
    return [row.entry for row in view.rows if row.entry.kind in KINDS and row.entry.state == "current"]


def _merge(known: Sequence[Candidate], found: Sequence[Candidate], keep: int) -> list[Candidate]:
    best = {candidate.target: candidate for candidate in (*known, *found)}
    return sorted(best.values(), key=lambda candidate: (-candidate.score, candidate.target))[:keep]


def _updated(target: MemoryEntry, later: Sequence[MemoryEntry], text: str) -> EntryDraft:
    latest = later[-1]
    sources = dict.fromkeys(source for entry in (target, *later) for source in entry.sources)
    return EntryDraft(
        text,
        latest.time,
        tuple(sources),
        kind=target.kind,
        speaker=target.speaker,
        speaker_id=target.speaker_id,
        conversation=target.conversation,
        topic=target.topic,
        method="prompted",
        category=target.category,
        importance=max(entry.importance for entry in (target, *later)),
        keywords=_joined(entry.keywords for entry in (target, *later)),
        entities=_joined(entry.entities for entry in (target, *later)),
        event_time=target.event_time,
        tags=_joined(entry.tags for entry in (target, *later)),
        images=_joined(entry.images for entry in (target, *later)),
    )


def _joined(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for part in parts for word in part))


def _add(
    report: UpdateReport,
    action: Action | None,
    operation: str,
    *,
    problem: Problem | None = None,
    usage: Usage = Usage(),
) -> UpdateReport:
    return UpdateReport(
        examined=report.examined + 1,
        updated=report.updated + (action == "update"),
        merged=report.merged + (action == "merge"),
        deleted=report.deleted + (action == "delete"),
        ignored=report.ignored + (action == "ignore"),
        operations=(*report.operations, operation) if operation else report.operations,
        problems=(*report.problems, problem) if problem else report.problems,
        usage=report.usage + usage,
    )


def number(entry: MemoryEntry) -> int:
    """The row number of an entry."""
    return int(entry.entry_id[1:])


__all__ = ["KINDS", "Consolidator"]
