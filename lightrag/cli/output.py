"""How the command speaks: tables and colours on a terminal, JSON with ``--json``, errors on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lightrag.errors import LightRAGError, UsageError

console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

FAILED = 1
MISUSED = 2


def print_json(value: Any) -> None:
    """Print one JSON value on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under headings."""
    table = Table(title=escape(title), title_justify="left", header_style="bold", box=box.SIMPLE_HEAD, show_edge=False)
    table.padding = (0, 1, 0, 0)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    console.print(table)


def report(error: LightRAGError, *, as_json: bool) -> int:
    """Say what went wrong, and return the exit code."""
    code = MISUSED if isinstance(error, UsageError) else FAILED
    if as_json:
        print_json({"error": type(error).__name__, "detail": str(error), "subject": error.subject})
    else:
        errors.print(f"[bold red]error:[/] {escape(str(error))}")
    return code


__all__ = ["FAILED", "MISUSED", "console", "errors", "print_json", "print_table", "report"]
