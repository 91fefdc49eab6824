"""Small training data, and a job that loses a worker half-way; importable by Ray's workers."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightrag.training.loop import TrainingReport
from lightrag.training.memory_job import MemoryTraining

WORDS = (
    "the",
    "harbour",
    "office",
    "pier",
    "council",
    "mayor",
    "bay",
    "winter",
    "ice",
    "ship",
    "was",
    "opened",
    "kept",
)


def write_rows(file: Path, *rows: dict[str, Any]) -> str:
    """Write JSON lines; returns the path."""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(file)


def text(words: int, seed: int) -> str:
    """Some words."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def die_once(marker: Path, step: int) -> None:
    """Kill this process at a step, as a machine's failure would, unless one has died already."""
    if step == 3 and os.environ.get("RANK") == "1" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class FragileMemoryTraining(MemoryTraining):
    """One of its workers dies."""

    def run(self, device: str, *, on_step: Callable[[int, int, float], object] | None = None) -> TrainingReport:
        def fragile(step: int, steps: int, loss: float) -> None:
            die_once(Path(self.output) / "died", step)
            if on_step is not None:
                on_step(step, steps, loss)

        return super().run(device, on_step=fragile)
