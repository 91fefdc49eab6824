"""The two bulk jobs from listing to summary, whoever schedules their stations."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from blake3 import blake3

from lightrag.config import Settings
from lightrag.conversation.bulk.consolidating import due_users
from lightrag.conversation.bulk.layouts import Layout, detect_layout
from lightrag.conversation.bulk.receipts import FailedConversation, JobProgress, JobSummary, Receipt, Report
from lightrag.conversation.bulk.records import Listed, Place, Records
from lightrag.conversation.bulk.spec import ConsolidationSpec, ImportSpec, LayoutName
from lightrag.conversation.bulk.stations import ConsolidationLine, ImportLine, Station
from lightrag.conversation.history import History
from lightrag.conversation.opening import memory_configuration
from lightrag.conversation.types import Scope
from lightrag.errors import DataError, UsageError
from lightrag.storage.objects import open_object_store

UNIT_RECORDS = 2000
"""Records that one worker takes at a time, unless one user has more."""
UNIT_USERS = 16

Line = ImportLine | ConsolidationLine
Scheduler = Callable[[Sequence[str], Line], Iterator[str]]
"""Brings units through all stations, in any order and anywhere, and yields a receipt for each."""


def run_locally(units: Sequence[str], line: Line) -> Iterator[str]:
    """Do everything in this process, one unit after the other: the simplest scheduler."""
    with closing(_station(line)) as station:
        for unit in units:
            yield station.run(unit)


def _station(line: Line) -> Station:
    return line.station("extract", "index")


# --- Import -----------------------------------------------------------------------------------------------------------


def import_conversations(
    settings: Settings, spec: ImportSpec, *, schedule: Scheduler = run_locally, report: Report | None = None
) -> JobSummary:
    """Import what a spec describes; what was imported before is passed over.

    Args:
        settings: which memories, and who extracts.
        spec: what to import.
        schedule: who runs the stations; by default this process.
        report: told how far the job is.

    Raises:
        UsageError: the source holds no conversations, or their layout is not known.
        NotFoundError: there is nothing at the location.
        BackendError: a store failed; what was accepted stays, and the next run goes on from it.
    """
    memory_configuration(settings)  # what is wrong with it is said before anything is read
    run = _Run(report or (lambda progress: None))
    run.tell("list", 0)
    listing = _list(spec)
    line = ImportLine(settings, spec, listing.layout, spec.name or spec.location)
    units = list(_units(listing.places))
    failed = Receipt(failed=tuple(listing.failed))
    receipt = run.through(units, line, schedule, len(listing.places), failed)
    return JobSummary(
        spec.tenant,
        receipt,
        source=line.source,
        errors_at=_write_errors(settings, line, receipt.failed),
        seconds=run.seconds,
        notes=_notes(receipt),
    )


@dataclass(slots=True)
class _Listing:
    layout: LayoutName
    places: dict[str, list[Place]] = field(default_factory=dict)
    """Of every user, in order."""
    failed: list[FailedConversation] = field(default_factory=list)


def _list(spec: ImportSpec) -> _Listing:
    listing: _Listing | None = None
    damaged: list[Listed] = []
    for listed in Records(spec.location, spec.options).all():
        if listed.record is None:
            damaged.append(listed)
            continue
        if listing is None:
            name = detect_layout(listed.record, spec.columns) if spec.layout == "auto" else spec.layout
            listing = _Listing(name)
            layout = Layout(name, spec.columns, spec.user)
        try:
            user = layout.user(listed.record, listed.place.path)
            Scope(spec.tenant, user)
        except (DataError, UsageError) as error:
            listing.failed.append(_failure(listed.place, str(error)))
            continue
        _append(listing.places.setdefault(user, []), listed.place)
    if listing is None:
        reasons = "".join(f"; {listed.place.path}: {listed.reason}" for listed in damaged[:3])
        raise UsageError(f"{spec.location!r} holds no conversations{reasons}", subject=spec.location)
    listing.failed += [_failure(listed.place, listed.reason) for listed in damaged]
    return listing


def _failure(place: Place, reason: str) -> FailedConversation:
    return FailedConversation("", "", f"{place.path}#{place.start}", reason)


def _append(places: list[Place], place: Place) -> None:
    """Add a place, joined with the one before where nothing lies between them."""
    last = places[-1] if places else None
    if last is not None and last.path == place.path:
        if place.path.lower().endswith(".parquet"):
            if (last.start, last.length + last.records) == (place.start, place.length):
                places[-1] = last._replace(records=last.records + 1)
                return
        elif not place.path.lower().endswith(".json") and last.start + last.length + 1 == place.start:
            places[-1] = last._replace(length=last.length + 1 + place.length, records=last.records + 1)
            return
    places.append(place)


def _units(places: Mapping[str, Sequence[Place]]) -> Iterator[str]:
    unit: dict[str, list[Place]] = {}
    records = 0
    for user, own in places.items():
        count = sum(place.records for place in own)
        if unit and (records + count > UNIT_RECORDS or len(unit) == UNIT_USERS):
            yield json.dumps(unit)
            unit, records = {}, 0
        unit[user] = list(own)
        records += count
    if unit:
        yield json.dumps(unit)


def _write_errors(settings: Settings, line: ImportLine, failed: Sequence[FailedConversation]) -> str:
    """List all failures of the newest run beside the tenant's data; returns where, empty without any."""
    store = open_object_store(settings.storage_url, settings.storage.options)
    path = f"{line.spec.tenant}/imports/{blake3(line.source.encode()).hexdigest(length=12)}/errors.jsonl"
    if not failed:
        store.delete([path])
        return ""
    rows = "".join(json.dumps(each._asdict(), ensure_ascii=False) + "\n" for each in failed)
    store.put(path, rows.encode())
    return f"{store.url}/{path}"


def _notes(receipt: Receipt) -> list[str]:
    notes = []
    if receipt.queued:
        notes.append(f"{receipt.queued} extractions failed and wait: run the job again when the model answers")
    if receipt.index:
        notes.append(
            f"vectors of {len(receipt.index)} users are made by the process that holds the store, at the next search"
        )
    return notes


# --- Consolidation ----------------------------------------------------------------------------------------------------


def consolidate_tenant(
    settings: Settings, spec: ConsolidationSpec, *, schedule: Scheduler = run_locally, report: Report | None = None
) -> JobSummary:
    """Consolidate everybody who has changed since the last time; safe to interrupt and to repeat.

    Args:
        settings: which memories, and who reconciles.
        spec: whose, and how.
        schedule: who runs the stations; by default this process.
        report: told how far the job is.

    Raises:
        UsageError: the one user who is asked for has no memory.
        BackendError: a store failed; decisions that were made stay.
    """
    run = _Run(report or (lambda progress: None))
    run.tell("list", 0)
    history = History.open(str(memory_configuration(settings).history_db_path))
    with closing(history):
        due, settled = due_users(history.ledger, spec)
    if spec.user and not (due or settled):
        raise UsageError(f"{spec.tenant} remembers nothing of a user {spec.user!r}", subject=spec.user)
    units = [json.dumps(due[start : start + UNIT_USERS]) for start in range(0, len(due), UNIT_USERS)]
    receipt = run.through(units, ConsolidationLine(settings, spec), schedule, len(due), Receipt())
    notes = [f"{receipt.queued} decisions failed and wait: run the job again"] if receipt.queued else []
    return JobSummary(spec.tenant, receipt, passed_over=settled, seconds=run.seconds, notes=notes)


# --- Both -------------------------------------------------------------------------------------------------------------


class _Run:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._began = time.monotonic()
        self._receipt = Receipt()
        self.seconds: dict[str, float] = {}

    def tell(self, stage: str, total: int) -> None:
        seen = self._receipt
        seconds = time.monotonic() - self._began
        self._report(
            JobProgress(stage, seen.users, total, seen.messages, seen.entries, len(seen.failed), round(seconds, 3))
        )

    def through(self, units: Sequence[str], line: Line, schedule: Scheduler, total: int, begun: Receipt) -> Receipt:
        """Bring units through; with none, nothing is started."""
        self._receipt = begun
        self.seconds["list"] = round(time.monotonic() - self._began, 3)
        self.tell("process", total)
        started = time.monotonic()
        for text in schedule(units, line) if units else ():
            self._receipt += Receipt.from_json(text)
            self.tell("process", total)
        self.seconds["process"] = round(time.monotonic() - started, 3)
        return self._receipt


__all__ = ["Line", "Scheduler", "consolidate_tenant", "import_conversations", "run_locally"]
