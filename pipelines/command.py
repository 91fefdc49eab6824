"""What the commands of all jobs have in common: exit codes, signals, specs on the command line, JSON lines."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from lightrag.errors import LightRAGError, NotFoundError, UsageError
from pipelines.allocation import give_arrow_memory_back

DONE, FAILED, WRONG = 0, 1, 2
"""Exit codes: done; failed, and finished work is kept for the next run; called wrongly."""


def run(job: Callable[[], bool], failure: Callable[[LightRAGError], None], *, stopped: str) -> int:
    """Run a job and return the exit code.

    Args:
        job: says whether everything was done. SIGTERM and Ctrl-C end it.
        failure: shows why it ended early.
        stopped: what to say after a signal.
    """
    signal.signal(signal.SIGTERM, _stop)
    give_arrow_memory_back()
    try:
        return DONE if job() else FAILED
    except (UsageError, NotFoundError) as error:
        failure(error)
        return WRONG
    except LightRAGError as error:
        failure(error)
        return FAILED
    except KeyboardInterrupt:
        failure(LightRAGError(stopped))
        return FAILED


def spec_text(text: str) -> str:
    """Return the spec that ``--json`` is given: the text itself, the file after an ``@``, standard input for ``-``.

    Raises:
        UsageError: it is none of these, or the file cannot be read.
    """
    if text == "-":
        return sys.stdin.read()
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_text(encoding="utf-8")
        except OSError as error:
            raise UsageError(f"spec file {text[1:]!r} cannot be read: {error.strerror}", subject=text[1:]) from error
    if not text.lstrip().startswith("{"):
        raise UsageError(f"--json takes a spec ({{…}}, @file or -), got {text!r}; put it after the other arguments")
    return text


def write_event(event: str, **values: Any) -> None:
    """Write one JSON object on a line of standard output."""
    sys.stdout.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def write_failure(error: LightRAGError) -> None:
    """Write why a job ended, as an ``error`` event."""
    write_event("error", kind=type(error).__name__, message=str(error), subject=error.subject)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


__all__ = ["DONE", "FAILED", "WRONG", "run", "spec_text", "write_event", "write_failure"]
