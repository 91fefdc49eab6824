"""How an attempt ended, from what it said last; with its report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from lightrag.config import JobSettings
from lightrag.ingestion.report import IngestReport
from lightrag.jobs.events import EventLog
from lightrag.jobs.store import Ending
from lightrag.jobs.types import Job, StageProgress

REPORT_JSON, REPORT_HTML = "report.json", "report.html"


def ending_of(job: Job, events: EventLog, reason: str, settings: JobSettings) -> tuple[Ending, dict[str, bytes]]:
    """Decide how an attempt ended whose process is gone.

    Args:
        job: the record.
        events: everything it said.
        reason: what to say where it said nothing.
        settings: for the price in the report.

    Returns:
        what to record, and the files of the report.
    """
    state, error = _state(job, events, reason)
    report = IngestReport(
        job.job_id,
        f"{job.tenant}/{job.corpus}",
        state,
        attempt=job.attempt,
        error=error,
        began=job.started.isoformat(timespec="seconds") if job.started else "",
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        summary=events.summary or {},
        samples=events.samples,
        worker_hour_price=settings.worker_hour_price,
    )
    plain = report.to_plain()
    ending = Ending(
        state,
        error,
        progress=events.progress,
        summary={name: value for name, value in plain["summary"].items() if name != "errors"},
        usage=_usage(events),
        report=plain,
    )
    return ending, {REPORT_JSON: report.to_json().encode(), REPORT_HTML: report.to_html().encode()}


def _state(job: Job, events: EventLog, reason: str) -> tuple[Literal["succeeded", "failed", "cancelled"], str]:
    if events.summary is not None:
        return "succeeded", ""
    if job.cancel_requested:
        return "cancelled", events.error
    return "failed", events.error or reason


def _usage(events: EventLog) -> dict[str, float]:
    summary: Mapping[str, Any] | None = events.summary
    if summary is not None:
        return {
            "documents": float(summary.get("new", 0) + summary.get("changed", 0)),
            "tokens": float(summary.get("processed_tokens", 0)),
            "bytes": float(summary.get("processed_bytes", 0)),
            "cpu_seconds": float(sum(summary.get("stage_seconds", {}).values())),
            "wall_seconds": float(summary.get("seconds", {}).get("total", 0.0)),
        }
    # What a stopped attempt has done is kept, and was paid for.
    done = events.stages.get("process", StageProgress("process", 0, 0))
    wall = sum(stage.seconds for stage in events.progress)
    return {
        "documents": float(done.done),
        "tokens": float(done.tokens),
        "bytes": float(done.bytes),
        "cpu_seconds": 0.0,
        "wall_seconds": wall,
    }


__all__ = ["REPORT_HTML", "REPORT_JSON", "ending_of"]
