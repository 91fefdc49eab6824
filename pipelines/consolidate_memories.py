"""Consolidate the memories of everybody who has changed: ``python -m pipelines.consolidate_memories --tenant NAME``.

Thin on purpose: it reads arguments and hands the stations of ``lightrag.conversation.bulk`` to Ray. Exit codes as in
:mod:`pipelines.memory_command`. Run it by night; who has not changed costs nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from lightrag.conversation.bulk.jobs import consolidate_tenant
from lightrag.conversation.bulk.spec import ConsolidationSpec
from pipelines.memory_command import add_common, run_job

_OPTIONS = ("user", "top_k", "keep_top_n", "score_threshold", "flush")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parsed = _parser().parse_args(arguments)
    given: dict[str, Any] = {name: value for name in _OPTIONS if (value := getattr(parsed, name)) not in (None, False)}
    return run_job(parsed, ConsolidationSpec, given or None, consolidate_tenant)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.consolidate_memories",
        description="Let later memories update, merge or end earlier ones, for everybody who has changed.",
    )
    add = parser.add_argument
    add("--user", default=None, help="only this one")
    add("--top-k", type=int, default=None, help="neighbours looked at per entry (default: 20)")
    add("--keep-top-n", type=int, default=None, help="of these, how many are kept (default: 10)")
    add("--score-threshold", type=float, default=None, help="least similarity, 0 to 1 (default: 0.8)")
    add("--flush", action="store_true", help="first extract what waits in buffers and in the queue")
    add_common(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
