"""What the jobs over memories show: a progress bar and a table for people, JSON lines for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from lightrag.conversation.bulk.receipts import JobProgress, JobSummary
from lightrag.errors import LightRAGError
from pipelines.command import write_event, write_failure

_SHOWN = 10
_FACTS = {
    "users": "users", "conversations": "conversations", "imported": "imported", "unchanged": "unchanged",
    "messages": "messages accepted", "ignored": "messages ignored", "entries": "entries", "operations": "changes",
    "calls": "model calls", "tokens": "model tokens", "queued": "waiting",
}  # fmt: skip


class Display(Protocol):
    """Shows one job."""

    def progress(self, progress: JobProgress) -> None:
        """Show how far the job is."""
        ...

    def summary(self, summary: JobSummary) -> None:
        """Show what it did."""
        ...

    def failure(self, error: LightRAGError) -> None:
        """Show why it failed."""
        ...


class JsonDisplay:
    """One JSON object per line on standard output: ``progress`` events, then ``summary`` or ``error``."""

    def progress(self, progress: JobProgress) -> None:
        """Write a progress event."""
        write_event("progress", **asdict(progress))

    def summary(self, summary: JobSummary) -> None:
        """Write the summary."""
        write_event("summary", **json.loads(summary.to_json()))

    def failure(self, error: LightRAGError) -> None:
        """Write the error."""
        write_failure(error)


class TerminalDisplay:
    """A bar while the job runs, then what it did."""

    def __init__(self, bar: Progress, console: Console) -> None:
        self._console = console
        self._bar = bar
        self._task = bar.add_task("", total=None)

    def progress(self, progress: JobProgress) -> None:
        """Move the bar."""
        name = "listing" if progress.stage == "list" else "users"
        self._bar.update(self._task, description=name, completed=progress.done, total=progress.total or None)

    def summary(self, summary: JobSummary) -> None:
        """Print what changed and what failed."""
        self._bar.stop()
        console, receipt = self._console, summary.receipt
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        for name, label in _FACTS.items():
            if value := getattr(receipt, name):
                table.add_row(f"[dim]{label}[/]", f"{value:,}")
        if summary.passed_over:
            table.add_row("[dim]passed over[/]", f"{summary.passed_over:,} users who have not changed")
        console.print(f"[bold]{escape(summary.tenant)}: {'done' if summary.complete else 'not everything is done'}[/]")
        console.print(table)
        for note in summary.notes:
            console.print(f"[yellow]note[/] {escape(note)}")
        for problem in receipt.problems[:_SHOWN]:
            console.print(f"[yellow]problem[/] {escape(problem)}")
        for failed in receipt.failed[:_SHOWN]:
            where = "/".join(part for part in (failed.user, failed.conversation) if part) or failed.place
            console.print(f"[red]not imported[/] {escape(where)}: {escape(failed.reason)}")
        if receipt.failed:
            console.print(f"{len(receipt.failed):,} failed in all; they are listed in {escape(summary.errors_at)}")

    def failure(self, error: LightRAGError) -> None:
        """Print the message."""
        self._bar.stop()
        self._console.print(f"[red]error[/] {escape(str(error))}")


@contextmanager
def open_display(*, as_json: bool) -> Iterator[Display]:
    """Show a job to a program or to a person."""
    if as_json:
        yield JsonDisplay()
        return
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, *times, console=console, transient=True, disable=not console.is_terminal) as bar:
        yield TerminalDisplay(bar, console)


__all__ = ["Display", "JsonDisplay", "TerminalDisplay", "open_display"]
