"""What a job shows while it runs and when it ends: a progress bar and a table for people, JSON lines for programs."""

from __future__ import annotations

import json
from dataclasses import asdict
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from lightrag.errors import LightRAGError
from lightrag.ingestion.summary import IngestSummary
from lightrag.ingestion.summary import Progress as JobProgress
from pipelines.command import write_event, write_failure

_STEPS = {"list": "listing", "process": "processing", "encode": "encoding", "publish": "indexing and committing"}
_SHOWN_ERRORS = 10


class Display(Protocol):
    """Shows one job."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def progress(self, progress: JobProgress) -> None:
        """Show how far the job is."""
        ...

    def summary(self, summary: IngestSummary) -> None:
        """Show what it did."""
        ...

    def failure(self, error: LightRAGError) -> None:
        """Show why it failed."""
        ...


class JsonDisplay:
    """One JSON object per line on standard output: ``progress`` events, then ``summary`` or ``error``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def progress(self, progress: JobProgress) -> None:
        """Write a progress event."""
        write_event("progress", **asdict(progress))

    def summary(self, summary: IngestSummary) -> None:
        """Write the summary."""
        write_event("summary", **json.loads(summary.to_json()))

    def failure(self, error: LightRAGError) -> None:
        """Write the error."""
        write_failure(error)


class TerminalDisplay:
    """A progress bar where there is a terminal, a table at the end, errors by name."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("", total=None, rate="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def progress(self, progress: JobProgress) -> None:
        """Move the bar."""
        rate = f"{progress.tokens / progress.seconds:,.0f} tokens/s" if progress.tokens and progress.seconds else ""
        self._bar.update(
            self._task,
            description=_STEPS[progress.stage],
            completed=progress.done,
            total=progress.total or None,
            rate=rate,
        )

    def summary(self, summary: IngestSummary) -> None:
        """Print what changed, what the corpus holds now, and what failed."""
        self._bar.stop()
        console = self._console
        console.print(f"[bold]{escape(summary.text)}[/]")
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, value in _facts(summary):
            table.add_row(f"[dim]{name}[/]", value)
        console.print(table)
        for note in summary.notes:
            console.print(f"[yellow]note[/] {escape(note)}")
        for error in summary.errors[:_SHOWN_ERRORS]:
            console.print(f"[red]{error.stage} failed[/] {escape(error.message)}")
        if len(summary.errors) > _SHOWN_ERRORS:
            console.print(f"… and {len(summary.errors) - _SHOWN_ERRORS} more; the corpus's errors table has them all")

    def failure(self, error: LightRAGError) -> None:
        """Print the message."""
        self._bar.stop()
        self._console.print(f"[red]error[/] {escape(str(error))}")


def _facts(summary: IngestSummary) -> list[tuple[str, str]]:
    facts = [
        ("corpus now", f"{summary.documents:,} documents, {summary.chunks:,} chunks, {summary.tokens:,} tokens"),
        ("processed", f"{summary.processed_bytes:,} bytes into {summary.processed_chunks:,} chunks"),
        ("seconds", ", ".join(f"{step} {seconds:.1f}" for step, seconds in summary.seconds.items())),
    ]
    if any(summary.stage_seconds.values()):
        stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.stage_seconds.items())
        facts.append(("CPU seconds", stages))
    if groups := summary.groups_encoded + summary.groups_carried + summary.groups_resumed:
        parts = [("encoded", summary.groups_encoded), ("unchanged", summary.groups_carried)]
        shown = ", ".join(f"{count:,} {word}" for word, count in [*parts, ("resumed", summary.groups_resumed)] if count)
        facts.append(("memories and latents", f"{groups:,} groups ({shown}), {summary.groups_bytes:,} bytes written"))
    if summary.resumed:
        facts.append(("resumed", f"{summary.resumed:,} documents from an earlier run"))
    if summary.ignored:
        facts.append(("ignored", f"{summary.ignored:,} files, such as {escape(summary.ignored_examples[0])}"))
    return facts


__all__ = ["Display", "JsonDisplay", "TerminalDisplay"]
