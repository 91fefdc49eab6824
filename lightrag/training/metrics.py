"""What a run writes down while it goes: one JSON object per line, so that any tool can follow and plot it.

Lines have a ``step``, counted from 0, and whatever was measured there. A resumed run repeats no line.
"""

from __future__ import annotations

import json
from pathlib import Path

FILE_NAME = "metrics.jsonl"
_TAIL_BYTES = 4096


class MetricsLog:
    """The metrics of the run in a folder.

    Args:
        folder: of the run; ``None`` writes nothing.
        step: at which the run goes on; later lines of an interrupted run are forgotten.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self._file = None if folder is None else folder / FILE_NAME
        if self._file is not None and self._file.exists():
            kept = [line for line in self._file.read_text(encoding="utf-8").splitlines() if _before(line, step)]
            partial = self._file.with_suffix(".partial")
            partial.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
            partial.replace(self._file)

    def write(self, step: int, **values: float) -> None:
        """Add a line."""
        if self._file is None:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """All lines of a run that were completely written."""
    file = folder / FILE_NAME
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [row for line in lines if (row := _parse(line)) is not None]


def newest_loss(folder: Path) -> dict[str, float] | None:
    """The last line with a training loss, without reading the others."""
    file = folder / FILE_NAME
    if not file.exists():
        return None
    with file.open("rb") as lines:
        lines.seek(max(0, file.stat().st_size - _TAIL_BYTES))
        tail = lines.read().decode("utf-8", "replace").splitlines()
    rows = [row for line in tail if (row := _parse(line)) is not None and "loss" in row]
    return rows[-1] if rows else None


def _before(line: str, step: int) -> bool:
    row = _parse(line)
    return row is not None and row["step"] < step


def _parse(line: str) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except ValueError:  # cut short when the process was killed
        return None
    return row if isinstance(row, dict) and "step" in row else None


__all__ = ["FILE_NAME", "MetricsLog", "newest_loss", "read_metrics"]
