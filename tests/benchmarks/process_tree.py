"""CPU seconds and memory of a process with everything it starts, read from ``/proc``."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """What a command used, all its processes together."""

    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    """Highest sum of proportional set sizes, so that shared pages count once."""
    cpu_by_name: Mapping[str, float]
    peak_by_name: Mapping[str, float]
    """At the moment of the peak."""
    peak_with_workers: int
    """Highest sum while Ray's workers ran."""


class Row(NamedTuple):
    """One process."""

    pid: int
    start: str
    """Start time, which tells it from a later process with the same number."""
    name: str
    cpu_seconds: float


def measure(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, timeout: float = 3600, memory: bool = True
) -> Cost:
    """Run a command to its end.

    Raises:
        RuntimeError: it failed; the message holds its standard error.
    """
    began = time.monotonic()
    cpu: dict[tuple[int, str], float] = {}
    names: dict[tuple[int, str], str] = {}
    peak, with_workers, looked = 0, 0, 0.0
    peak_by_name: dict[str, float] = {}
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            if time.monotonic() - began > timeout:
                process.kill()
                raise RuntimeError(f"{command} took more than {timeout} s")
            found = tree(process.pid)
            for pid, start, name, seconds in found:
                cpu[pid, start] = seconds
                names[pid, start] = name
            if memory and time.monotonic() - looked > 0.5:
                looked = time.monotonic()
                sizes = [(name, proportional_bytes(pid)) for pid, _, name, _ in found]
                total = sum(size for _, size in sizes)
                if total > peak:
                    peak, peak_by_name = total, _by_name(sizes)
                if any(name.startswith("ray::") for name, _ in sizes):
                    with_workers = max(with_workers, total)
            # Every look at all processes costs 2 ms, which the measured ones miss on a machine with few cores. What a
            # process computes between the last look and its end is not counted.
            time.sleep(0.05 if memory else 0.25)
        error = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}: {error[-2000:]}")
    by_name = _by_name([(names[key], seconds) for key, seconds in cpu.items()])
    return Cost(sum(cpu.values()), time.monotonic() - began, peak, by_name, peak_by_name, with_workers)


def _by_name(values: Sequence[tuple[str, float]]) -> dict[str, float]:
    result: dict[str, float] = {}
    for name, value in values:
        result[name] = result.get(name, 0) + value
    return dict(sorted(result.items(), key=lambda item: -item[1]))


def tree(root: int) -> list[Row]:
    """Processes below and including ``root``."""
    children: dict[int, list[Row]] = {}
    own = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        fields = text[text.rindex(")") + 2 :].split()
        name = text[text.index("(") + 1 : text.rindex(")")]
        row = Row(int(entry), fields[19], name, (int(fields[11]) + int(fields[12])) / _TICKS)
        children.setdefault(int(fields[1]), []).append(row)
        if int(entry) == root:
            own.append(row)
    found, waiting = own, [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found = found + below
        waiting += [row.pid for row in below]
    return found


def title(pid: int) -> str:
    """Command line of a process, which Ray's workers set to what they do; empty where it has ended."""
    try:
        return Path("/proc", str(pid), "cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ")
    except OSError:
        return ""


def proportional_bytes(pid: int) -> int:
    """Memory of a process, of shared pages its part; 0 where it has ended."""
    try:
        for line in Path("/proc", str(pid), "smaps_rollup").read_text(encoding="utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # it has ended
    return 0
