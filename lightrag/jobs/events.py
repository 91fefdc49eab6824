"""What a job's process says, line by line, folded into what a record holds."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from lightrag.jobs.types import StageProgress

SAMPLES: Final = 240
"""Points of the course of a job that are kept; every second one is dropped when there are more."""


class EventLog:
    """The events of one attempt so far."""

    def __init__(self) -> None:
        self.stages: dict[str, StageProgress] = {}
        self.summary: dict[str, Any] | None = None
        self.error = ""
        self.samples: list[dict[str, Any]] = []
        """Progress over time, evenly thinned out."""
        self._began: dict[str, float] = {}
        self._step = 1
        self._count = 0

    @property
    def progress(self) -> tuple[StageProgress, ...]:
        """Steps in the order in which they began."""
        return tuple(self.stages.values())

    def read(self, lines: Iterable[str]) -> bool:
        """Take further lines in; whether there was an event among them. Other lines, a library's, are passed over."""
        found = False
        for line in lines:
            event = _event(line)
            match event.get("event"):
                case "progress":
                    self._progress(event)
                case "summary":
                    self.summary = {name: value for name, value in event.items() if name != "event"}
                case "error":
                    self.error = str(event.get("message", "it failed without saying why"))
                case _:
                    continue
            found = True
        return found

    def _progress(self, event: dict[str, Any]) -> None:
        stage, seconds = str(event["stage"]), float(event.get("seconds", 0.0))
        began = self._began.setdefault(stage, seconds)
        counts = {name: int(event.get(name, 0)) for name in ("tokens", "bytes", "failed")}
        done, total = int(event.get("done", 0)), int(event.get("total", 0))
        self.stages[stage] = StageProgress(stage, done, total, seconds=seconds - began, **counts)
        self._count += 1
        if self._count % self._step == 0:
            self.samples.append({"stage": stage, "seconds": seconds, "done": done, "total": total, **counts})
        if len(self.samples) > SAMPLES:
            self.samples = self.samples[1::2]
            self._step *= 2


def _event(line: str) -> dict[str, Any]:
    if not line.startswith('{"event"'):
        return {}
    try:
        found = json.loads(line)
    except ValueError:  # a line that was cut off with its process
        return {}
    return found if isinstance(found, dict) else {}


__all__ = ["EventLog"]
