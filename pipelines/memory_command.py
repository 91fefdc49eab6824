"""What the commands of the jobs over memories have in common: arguments, signals, exit codes.

0 done, 1 failed or not everything could be done (run it again; finished work is kept), 2 called wrongly.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from lightrag.config import load_settings
from lightrag.conversation.bulk.jobs import Line, Scheduler, run_locally
from lightrag.conversation.bulk.receipts import JobSummary
from lightrag.conversation.bulk.spec import JobSpec
from lightrag.errors import UsageError
from pipelines.command import run, spec_text
from pipelines.reporting import open_display

Spec = TypeVar("Spec", bound=JobSpec)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add the options of every job."""
    add = parser.add_argument
    add("--tenant", default="", help="whose memories (default: of the settings)")
    add("--config", default=None, help="settings file (YAML)")
    add("--address", default="", help="Ray cluster (default: RAY_ADDRESS, else a private one for this job)")
    add("--local", action="store_true", help="do everything in this process, without Ray")
    add("--json", nargs="?", const="", metavar="SPEC", help="write JSON lines; with a SPEC, take the job from it")


def run_job(
    parsed: argparse.Namespace,
    kind: type[Spec],
    given: dict[str, Any] | None,
    job: Callable[..., JobSummary],
) -> int:
    """Run a job and return the exit code.

    Args:
        parsed: the arguments.
        kind: of the job's spec.
        given: the spec as the arguments say it; ``None`` where they say nothing.
        job: what to run, called with settings, spec, scheduler and report.
    """
    with open_display(as_json=parsed.json is not None) as display:

        def run_it() -> bool:
            spec = _spec(parsed, kind, given)
            settings = load_settings(parsed.config, **{**spec.settings, "tenant": spec.tenant})
            schedule: Scheduler = run_locally if parsed.local else _on_ray
            summary = job(settings, spec, schedule=schedule, report=display.progress)
            display.summary(summary)
            return summary.complete

        stopped = "stopped; finished work is kept, and the next run goes on from it"
        return run(run_it, display.failure, stopped=stopped)


def _on_ray(units: Sequence[str], line: Line) -> Iterator[str]:
    # Only now: a job with nothing to do needs no Ray.
    from pipelines.user_stations import schedule_on_ray

    yield from schedule_on_ray(units, line)


def _spec(parsed: argparse.Namespace, kind: type[Spec], given: dict[str, Any] | None) -> Spec:
    if parsed.json:
        if given is not None:
            raise UsageError("give either a spec after --json, or arguments")
        return kind.parse(spec_text(parsed.json))
    tenant = parsed.tenant or load_settings(parsed.config).tenant
    return kind.parse({"tenant": tenant, "address": parsed.address, **(given or {})})


__all__ = ["add_common", "run_job"]
