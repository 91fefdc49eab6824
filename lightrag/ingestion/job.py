"""One ingest job from listing to commit, whoever schedules its stages.

The job is a loop around a plan. A plan is the difference between what the source lists and what the corpus and staging
know; carrying it out puts results into staging; publishing turns them into one commit. Where another job commits first,
or clears away what this one counted on, the plan is made again, and what was done already is found in staging. So a job
that was killed, one that was overtaken and one that runs alone all take the same path.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import NamedTuple

from lightrag.documents import SUFFIXES
from lightrag.errors import ConflictError, LimitError, NotFoundError, UsageError
from lightrag.ingestion.committed import find_stored, foreign_states, known_documents
from lightrag.ingestion.encode import (
    Encoded,
    EncodePlan,
    GroupScheduler,
    encode_locally,
    plan_encoding,
    run_encoding,
)
from lightrag.ingestion.group_units import GroupReceipt
from lightrag.ingestion.indexing import IndexScheduler, index_locally
from lightrag.ingestion.line import Line, Receipt, Unit, run_locally
from lightrag.ingestion.plan import Listing, Plan, Start, make_plan
from lightrag.ingestion.publish import Outcome, Publisher, Task
from lightrag.ingestion.staging import STAGES
from lightrag.ingestion.states import Failure
from lightrag.ingestion.summary import FailedDocument, IngestSummary, Progress, Report
from lightrag.storage.commits import Commit
from lightrag.storage.compaction import compact

Scheduler = Callable[[Sequence[Unit], Line], Iterator[Receipt]]
"""Brings units through all stages, in any order and anywhere, and yields a receipt for each."""

ATTEMPTS = 10
"""How often a job starts again because another one came first."""
_UNITS = 1000
"""Units that a large job is cut into, about, by making them up to ``_GROWTH`` times larger than in a small one."""
_GROWTH = 16
_SHARES = 16
"""Units for each worker in a small job, at least, so that none waits long for the last one."""
_LEAST_BYTES = 64 * 1024
"""Of a unit that was made smaller for this."""
_EXAMPLES = 20


def ingest(
    line: Line,
    *,
    schedule: Scheduler = run_locally,
    encode: GroupScheduler = encode_locally,
    index: IndexScheduler = index_locally,
    report: Report | None = None,
    job_id: str = "",
) -> IngestSummary:
    """Ingest what the line's spec describes.

    Args:
        line: what to ingest, and how.
        schedule: who runs the stages; by default this thread.
        encode: who encodes groups of documents, where the settings ask for KV memories or latents.
        index: who makes the gists and the index of the new version; by default this process.
        report: told how far the job is.
        job_id: recorded with the version; the same id resuming continues its protection from vacuum.

    Raises:
        UsageError: the source holds no document that can be read, or is not what its description says.
        NotFoundError: the source does not exist.
        LimitError: more documents failed than ``ingest.error_limit`` allows; nothing was committed.
        ConflictError: other jobs committed first every time.
        BackendError: a store or a model failed; what was staged stays for the next job.

    Example::

        spec = IngestSpec(corpus="reports", source=SourceSpec(location="reports/"))
        with Line(load_settings(), spec) as line:
            summary = ingest(line)
    """
    work = _Schedulers(schedule, encode, index)
    return _Job(line, work, report or (lambda progress: None), job_id or f"ingest-{secrets.token_hex(6)}").run()


class _Schedulers(NamedTuple):
    documents: Scheduler
    groups: GroupScheduler
    indexing: IndexScheduler


class _Job:
    def __init__(self, line: Line, work: _Schedulers, report: Report, job_id: str) -> None:
        self._line = line
        self._work = work
        self._report = report
        self._job_id = job_id
        self._began = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._receipts: list[Receipt] = []
        self._failed: dict[str, Failure] = {}
        """What this job found to fail, over all attempts."""
        self._encoded = Encoded()
        """Of the last attempt."""
        self._group_receipts: dict[str, GroupReceipt] = {}
        """What this job has encoded, over all attempts."""

    def run(self) -> IngestSummary:
        log = self._line.log
        _ = self._line.group_keys  # settings that contradict each other fail here, before anything is done
        with self._timed("list"):
            self._report(Progress("list"))
            listing = Listing.of(self._line.source, self._line.recipe)
        self._require_documents(listing)
        for _ in range(ATTEMPTS):
            base = log.latest()
            with self._timed("plan"):
                task = self._task(listing, base)
            idle = Outcome({}, task.plan.failed)
            if not task.plan.pending and not task.plan.ready and self._is_settled(task, idle):
                return self._summary(task, idle, base)
            with log.hold(self._job_id):
                try:
                    outcome = self._carry_out(task.plan)
                    self._require_few_failures(listing, outcome)
                    if self._is_settled(task, outcome):
                        return self._summary(task, outcome, base)
                    commit = self._publish(task, outcome)
                except (ConflictError, NotFoundError):
                    # Another job came first, or has committed what waited in staging. What was done stays there.
                    continue
            with self._timed("tidy"):
                commit = self._tidied(commit)
            return self._summary(task, outcome, commit)
        raise ConflictError(
            f"{ATTEMPTS} times another job committed to {log.corpus} first; run this one again when fewer are running",
            subject=str(log.corpus),
        )

    def _require_documents(self, listing: Listing) -> None:
        if listing.states or self._line.spec.remove:
            return
        # Taking an empty listing for the wish to delete everything would turn a typing error into a loss.
        ignored = ", ".join(f"{entry.source} ({entry.reason})" for entry in listing.ignored[:3])
        raise UsageError(
            f"{self._line.spec.source.location!r} holds no documents"
            + (f"; ignored: {ignored}" if ignored else "")
            + f". Files that are read end in {' '.join(sorted(SUFFIXES))}",
            subject=listing.name,
        )

    def _task(self, listing: Listing, base: Commit | None) -> Task:
        line = self._line
        known = known_documents(line.log, base)
        later = {name: line.recipe.keys_after(each.keys.read) for name, each in known.items() if each.keys}
        asked = frozenset(name for name in line.spec.remove if name in later)
        staying = {name: each for name, each in known.items() if name not in asked}
        listing = replace(listing, foreign=tuple(foreign_states(staying, listing.name, later)))
        wanted = {state.document_id: state.keys for state in listing.everything}
        staged = line.staging.find(wanted)
        plan = make_plan(
            listing,
            known,
            staged,
            given_up=self._failed,
            keep_missing=line.spec.keep_missing,
            retry_failed=line.spec.retry_failed,
        )
        plan = replace(plan, removed=plan.removed | asked)
        pending = {state.document_id: state.keys for state in plan.pending if state.document_id not in plan.starts}
        stored = find_stored(line.log, base, pending, known)
        version = base.version if base else 0
        starts = {**plan.starts, **{name: Start(place.path, version) for name, place in stored.items()}}
        return Task(base, listing, known, replace(plan, starts=starts))

    def _is_settled(self, task: Task, outcome: Outcome) -> bool:
        """Whether the newest version already says what a commit would say."""
        if task.base is None or outcome.places or task.plan.removed:
            return False
        if task.base.settings.get("version_key") != self._line.recipe.version_key:
            return False
        if task.base.settings.get("groups", {}) != self._line.group_keys:
            return False
        keys = {state.document_id: state.keys.gist for state in task.listing.everything}
        concerned = {state.document_id for state in task.listing.states} | outcome.failed.keys()
        recorded = {
            name: (known.failure.stage, known.failed_key)
            for name, known in task.known.items()
            if known.failure and name in concerned
        }
        return recorded == {name: (failure.stage, keys[name]) for name, failure in outcome.failed.items()}

    def _carry_out(self, plan: Plan) -> Outcome:
        places = dict(plan.ready)
        self._failed.update(plan.failed)
        units = list(plan.units(self._unit_bytes(sum(state.item.size for state in plan.pending))))
        total = len(places) + len(plan.pending)
        with self._timed("process"):
            self._report(self._progress(len(places), total))
            for receipt in self._work.documents(units, self._line) if units else ():
                self._receipts.append(receipt)
                places.update(receipt.done)
                self._failed.update(receipt.failed)
                self._report(self._progress(total - len(plan.pending) + self._finished, total))
        return Outcome(places, dict(self._failed))

    def _unit_bytes(self, total: int) -> int:
        """Bytes of a unit: several workers share a small job evenly, and a large one has not too many units."""
        ingest = self._line.settings.ingest
        workers = max(ingest.parse_workers, ingest.embed_workers, ingest.gist_workers)
        fair = max(total // (_SHARES * workers), _LEAST_BYTES) if workers > 1 else ingest.batch_bytes
        return max(min(ingest.batch_bytes, fair), min(total // _UNITS, _GROWTH * ingest.batch_bytes))

    def _publish(self, task: Task, outcome: Outcome) -> Commit:
        publisher = Publisher(self._line, task, outcome, self._job_id)
        with self._timed("publish"):
            self._report(replace(self._progress(len(outcome.places), len(outcome.places)), stage="publish"))
            contents = publisher.write(self._work.indexing)
        with self._timed("encode") if self._line.group_recipes else nullcontext():
            plans = plan_encoding(self._line, task.base, contents)
            del contents  # encoding may take hours, and needs nothing of it here
            self._encoded = self._encode_groups(plans)
        with self._timed("publish"):
            commit = publisher.commit(self._encoded)
        staged = {path for receipt in self._receipts for path in receipt.staged}
        self._line.staging.clear({*staged, *publisher.used, *self._encoded.staged})
        return commit

    def _encode_groups(self, plans: Sequence[EncodePlan]) -> Encoded:
        total = sum(len(plan.units) + len(plan.resumed) for plan in plans)

        def report(done: Encoded) -> None:
            self._group_receipts.update((receipt.key, receipt) for receipt in done.receipts)
            if total:
                self._report(self._encode_progress(done, total))

        return run_encoding(self._line, plans, self._work.groups, report)

    def _tidied(self, commit: Commit) -> Commit:
        """Rewrite small and half-dead files, remove what no version needs, and return the newest version."""
        storage = self._line.settings.storage
        with suppress(ConflictError):  # another job does the same right now
            commit = compact(self._line.log, job_id=f"{self._job_id}-compact") or commit
        self._line.log.vacuum(retain=storage.retain_versions, grace_seconds=storage.grace_seconds)
        return commit

    def _require_few_failures(self, listing: Listing, outcome: Outcome) -> None:
        failed = [state for state in listing.states if state.document_id in outcome.failed]
        limit = self._line.settings.ingest.error_limit
        if len(failed) > limit * len(listing.states):
            reasons = "; ".join(outcome.failed[state.document_id].message for state in failed[:3])
            raise LimitError(
                f"{len(failed)} of {len(listing.states)} documents failed, more than ingest.error_limit = {limit:g} "
                f"allows; nothing was committed. {reasons}",
                subject=listing.name,
            )

    # --- Reports ------------------------------------------------------------------------------------------------------

    @property
    def _finished(self) -> int:
        return sum(len(receipt.done) + len(receipt.failed) for receipt in self._receipts)

    def _progress(self, done: int, total: int) -> Progress:
        return Progress(
            "process",
            done,
            total,
            chunks=sum(receipt.chunks for receipt in self._receipts),
            tokens=sum(receipt.tokens for receipt in self._receipts),
            bytes=sum(receipt.bytes for receipt in self._receipts),
            failed=len(self._failed),
            seconds=time.monotonic() - self._began,
        )

    def _encode_progress(self, done: Encoded, total: int) -> Progress:
        return Progress(
            "encode",
            len(done.receipts) + len(done.resumed) + done.rerouted,
            total,
            tokens=sum(receipt.tokens for receipt in done.receipts),
            bytes=sum(receipt.size for receipt in done.receipts),
            failed=len(self._failed),
            seconds=time.monotonic() - self._began,
        )

    def _summary(self, task: Task, outcome: Outcome, version: Commit | None) -> IngestSummary:
        known, plan = task.known, task.plan
        changed = [name for name in outcome.places if name in known and known[name].keys]
        counts = version.counts if version else {}
        progress = self._progress(0, 0)
        sources = {state.document_id: state.item.source for state in task.listing.everything}
        own = {state.document_id for state in task.listing.states}
        return IngestSummary(
            str(self._line.log.corpus),
            version.version if version else None,
            committed=version is not task.base,
            source=task.listing.name,
            new=len(outcome.places) - len(changed),
            changed=len(changed),
            unchanged=len(plan.unchanged & own),
            deleted=len(plan.removed),
            failed=len(outcome.failed),
            documents=counts.get("documents", 0),
            chunks=counts.get("chunks", 0),
            tokens=counts.get("tokens", 0),
            processed_chunks=progress.chunks,
            processed_tokens=progress.tokens,
            processed_bytes=progress.bytes,
            resumed=len(plan.ready) + sum(not start.version for start in plan.starts.values()),
            groups_encoded=len(self._group_receipts),
            groups_carried=self._encoded.kept,
            groups_resumed=len(self._encoded.resumed - self._group_receipts.keys()),
            groups_bytes=sum(receipt.size for receipt in self._group_receipts.values()),
            ignored=len(task.listing.ignored),
            ignored_examples=[f"{entry.source}: {entry.reason}" for entry in task.listing.ignored[:_EXAMPLES]],
            errors=[
                FailedDocument(sources[name], failure.stage, failure.reason, failure.message)
                for name, failure in outcome.failed.items()
            ],
            seconds={**self._seconds, "total": time.monotonic() - self._began},
            stage_seconds=self._stage_seconds(),
            notes=[*self._notes(task, outcome)],
        )

    def _stage_seconds(self) -> dict[str, float]:
        seconds: dict[str, float] = {
            stage: sum(receipt.seconds[stage] for receipt in self._receipts) for stage in STAGES
        }
        if self._group_receipts:
            seconds["encode"] = sum(receipt.seconds for receipt in self._group_receipts.values())
        return seconds

    def _notes(self, task: Task, outcome: Outcome) -> Iterator[str]:
        asked, used = self._line.settings.chunking.max_tokens, self._line.recipe.chunk_tokens
        if used < asked:
            yield f"chunks have at most {used} tokens instead of {asked}: the embedder reads no more"
        if anew := sum(state.document_id in outcome.places for state in task.listing.foreign):
            yield f"{anew} documents of other sources were brought up to the settings of now"
        if stale := sum(name in task.known and task.known[name].keys is not None for name in outcome.failed):
            yield f"{stale} of the failed documents were in the corpus before; they stay as they were where they fit"

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._seconds[step] = self._seconds.get(step, 0.0) + time.monotonic() - began


__all__ = ["ATTEMPTS", "Scheduler", "ingest"]
