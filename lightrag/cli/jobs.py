"""Commands about jobs. They speak to the records themselves, so that jobs need no running service."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast, get_args

import typer
from rich.markup import escape

from lightrag.cli.output import FAILED, console, print_json, print_table
from lightrag.config import Settings, load_settings
from lightrag.errors import UsageError
from lightrag.jobs.types import Job, JobState, StageProgress

if TYPE_CHECKING:
    from lightrag.jobs.service import JobService

PAUSE: Final = 0.5

jobs = typer.Typer(help="Submit, list, watch, cancel and retry jobs.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option("--config", help="Settings file (YAML). Default: $LRAG_CONFIG.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Tenant = Annotated[str, typer.Option(help="Whose jobs (default: of the settings).")]


@jobs.command()
def submit(
    source: Annotated[str, typer.Argument(help="Folder, file, glob, s3:// gs:// az:// prefix, .parquet or .jsonl.")],
    corpus: Annotated[str, typer.Option("--corpus", "-c", help="Name of the corpus.")],
    name: Annotated[str, typer.Option(help="Identity of the source, where its location may change.")] = "",
    source_format: Annotated[str, typer.Option("--format", help="auto, documents, parquet or jsonl.")] = "auto",
    text_column: Annotated[str, typer.Option(help="Of tables.")] = "text",
    id_column: Annotated[str, typer.Option(help="Of tables (default: position in the file).")] = "",
    keep_missing: Annotated[
        bool, typer.Option("--keep-missing", help="Keep documents that are not there now.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try those again that failed before.")] = False,
    priority: Annotated[int, typer.Option(help="Higher ones start first.")] = 0,
    watching: Annotated[bool, typer.Option("--watch", help="Wait for its end, as `watch` does.")] = False,
    tenant: Tenant = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Queue an ingest job; it runs in a process of its own."""
    from lightrag.ingestion.spec import IngestSpec

    with _service(config) as (service, settings):
        described = {"location": source, "name": name, "format": source_format}
        described |= {"text_column": text_column, "id_column": id_column}
        values: dict[str, Any] = {"corpus": corpus, "tenant": tenant or settings.tenant, "source": described}
        spec = IngestSpec.parse(values | {"keep_missing": keep_missing, "retry_failed": retry_failed})
        job = service.submit(spec, priority=priority)
        if watching:
            raise typer.Exit(_watch(service, job, as_json=as_json))
        if as_json:
            print_json(plain(job))
        else:
            console.print(f"Queued job [bold]{job.job_id}[/]; follow it with: lightrag jobs watch {job.job_id}")


@jobs.command(name="list")
def list_jobs(
    state: Annotated[str, typer.Option(help=" ".join(get_args(JobState)))] = "",
    corpus: Annotated[str, typer.Option("--corpus", "-c", help="Of this corpus only.")] = "",
    limit: Annotated[int, typer.Option(help="Jobs on a page.")] = 20,
    cursor: Annotated[str, typer.Option(help="Where the page before ended.")] = "",
    tenant: Tenant = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show jobs, newest first."""
    if state and state not in get_args(JobState):
        raise UsageError(f"--state is one of {', '.join(get_args(JobState))}, not {state!r}", subject="--state")
    with _service(config) as (service, settings):
        wanted = cast("JobState", state) if state else None
        page = service.page(tenant or settings.tenant, cursor=cursor or None, limit=limit, state=wanted, corpus=corpus)
    if as_json:
        print_json({"jobs": [plain(job) for job in page.jobs], "next": page.next})
        return
    if not page.jobs:
        console.print("No jobs; queue one with [bold]lightrag jobs submit PATH --corpus NAME[/]")
        return
    rows = [(job.job_id, job.corpus, _state(job), _where(job), f"{job.created:%Y-%m-%d %H:%M}") for job in page.jobs]
    print_table("Jobs", ["job", "corpus", "state", "progress", "queued (UTC)"], rows)
    if page.next:
        console.print(f"[dim]older ones: --cursor {page.next}[/]")


@jobs.command()
def watch(job_id: str, tenant: Tenant = "", config: Config = None, as_json: Json = False) -> None:
    """Show how a job goes on until it ends. The exit code is 0 if it succeeds; leaving does not stop it."""
    with _service(config) as (service, settings):
        raise typer.Exit(_watch(service, service.get(tenant or settings.tenant, job_id), as_json=as_json))


@jobs.command()
def logs(job_id: str, tenant: Tenant = "", config: Config = None, as_json: Json = False) -> None:
    """Print what the job's last attempt wrote."""
    with _service(config) as (service, settings):
        text = service.log(tenant or settings.tenant, job_id)
    if as_json:
        print_json({"job_id": job_id, "log": text})
    else:
        sys.stdout.write(text)


@jobs.command()
def cancel(job_id: str, tenant: Tenant = "", config: Config = None, as_json: Json = False) -> None:
    """Stop a job. What it has finished is kept, and a retry goes on from there."""
    with _service(config) as (service, settings):
        _show(service.cancel(tenant or settings.tenant, job_id), as_json=as_json)


@jobs.command()
def retry(job_id: str, tenant: Tenant = "", config: Config = None, as_json: Json = False) -> None:
    """Run an ended job again, from where it ended; after a success, the documents that failed."""
    with _service(config) as (service, settings):
        _show(service.retry(tenant or settings.tenant, job_id), as_json=as_json)


@jobs.command()
def report(
    job_id: str,
    html: Annotated[Path | None, typer.Option(help="Write the page here.")] = None,
    tenant: Tenant = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Tell what a job did, where its time went, and what failed."""
    with _service(config) as (service, settings):
        found = service.report(tenant or settings.tenant, job_id)
    if html is not None:
        try:
            html.write_text(found.to_html(), encoding="utf-8")
        except OSError as error:
            raise UsageError(f"{str(html)!r} cannot be written: {error.strerror}", subject=str(html)) from error
    if as_json:
        print_json(found.to_plain())
        return
    console.print(
        f"[bold]{escape(found.corpus)}[/]: {found.state}" + (f", {escape(found.error)}" if found.error else "")
    )
    stages = [(line.stage, _number(line.wall_seconds), _number(line.cpu_seconds)) for line in found.stages]
    if stages:
        print_table("Where the time went", ["stage", "seconds", "processor seconds"], stages)
    failed = [(each["source"], each["stage"], each["message"]) for each in found.summary.get("errors", ())]
    if failed:
        print_table("Documents that failed", ["document", "stage", "message"], failed)


def plain(job: Job) -> dict[str, Any]:
    """A job as values of JSON, with rates."""
    return {
        **asdict(job),
        "progress": [asdict(each) | {"rate": each.rate, "seconds_left": each.seconds_left} for each in job.progress],
    }


def _watch(service: JobService, job: Job, *, as_json: bool) -> int:
    shown = None
    with console.status("") as status:
        while True:
            now = (job.state, job.progress)
            if now != shown and as_json:
                print_json(plain(job))
                sys.stdout.flush()
            status.update(f"{_state(job)} {escape(_where(job))}")
            shown = now
            if job.is_over:
                break
            time.sleep(PAUSE)
            job = service.get(job.tenant, job.job_id)
    if not as_json:
        _show(job, as_json=False)
    return 0 if job.state == "succeeded" else FAILED


def _show(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(plain(job))
        return
    did = ", ".join(f"{job.summary[name]} {name}" for name in ("new", "changed", "failed") if job.summary.get(name))
    said = job.error or did
    console.print(f"Job [bold]{job.job_id}[/] {_state(job)}" + (f": {escape(said)}" if said else ""))


def _state(job: Job) -> str:
    return "stopping" if job.cancel_requested and job.state == "running" else job.state


def _where(job: Job) -> str:
    return _step(job.progress[-1]) if job.progress and not job.is_over else ""


def _step(stage: StageProgress) -> str:
    parts = [stage.stage, f"{stage.done:,} of {stage.total:,}" if stage.total else ""]
    if stage.tokens and stage.seconds:
        parts.append(f"{stage.tokens / stage.seconds:,.0f} tokens/s")
    if stage.seconds_left:
        parts.append(f"{stage.seconds_left:,.0f} s left")
    return "  ".join(part for part in parts if part)


def _number(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:,.2f}"


@contextmanager
def _service(config: Path | None) -> Iterator[tuple[JobService, Settings]]:
    from lightrag.jobs.service import JobService

    settings = load_settings(config)
    service = JobService(settings)
    try:
        yield service, settings
    finally:
        service.close()


__all__ = ["jobs", "plain"]
