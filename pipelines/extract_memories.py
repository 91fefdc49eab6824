"""Import conversations into memories with Ray Data: ``python -m pipelines.extract_memories SOURCE --tenant NAME``.

Thin on purpose: it reads arguments and hands the stations of ``lightrag.conversation.bulk`` to Ray. Exit codes as in
:mod:`pipelines.memory_command`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from lightrag.conversation.bulk.jobs import import_conversations
from lightrag.conversation.bulk.spec import Columns, ImportSpec
from pipelines.command import WRONG
from pipelines.memory_command import add_common, run_job
from pipelines.reporting import open_display


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = _parser().parse_args(arguments)
    if not parsed.source and not parsed.json:
        from lightrag.errors import UsageError

        with open_display(as_json=parsed.json is not None) as display:
            display.failure(UsageError("say what to import: python -m pipelines.extract_memories SOURCE"))
        return WRONG
    return run_job(parsed, ImportSpec, _given(parsed), import_conversations)


def _given(parsed: argparse.Namespace) -> dict[str, Any] | None:
    if not parsed.source:
        return None
    columns = {name: value for name in Columns.model_fields if (value := getattr(parsed, f"{name}_column"))}
    return {
        "location": parsed.source,
        "name": parsed.name,
        "layout": parsed.layout,
        "user": parsed.user,
        "columns": columns,
        "options": dict(parsed.option),
    }


def _option(text: str) -> tuple[str, str]:
    name, mark, value = text.partition("=")
    if not mark:
        raise argparse.ArgumentTypeError(f"takes NAME=VALUE, got {text!r}")
    return name, value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.extract_memories",
        description="Import conversations into memories. What was imported is passed over; a stopped run is resumed.",
    )
    add = parser.add_argument
    add("source", nargs="?", help="file, folder, glob, s3:// gs:// az:// prefix: .jsonl .ndjson .json .parquet")
    add("--layout", default="auto", choices=["auto", "messages", "conversations", "locomo", "longmemeval"])
    add("--name", default="", help="identity of the source, where its location may change (default: its location)")
    add("--user", default="", help="whose memory all of it is (default: as the records say)")
    for column in Columns.model_fields:
        add(f"--{column}-column", default="", metavar="NAME", help=f"field with the {column} (default: usual names)")
    add("--option", action="append", type=_option, default=[], metavar="NAME=VALUE", help="for the object store")
    add_common(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
