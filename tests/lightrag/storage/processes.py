"""Processes that run a piece of code, all beginning at the same moment."""

from __future__ import annotations

import subprocess
import sys
import textwrap


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """Run code in a process of its own; what it prints can be read from its ``stdout``."""
    command = [sys.executable, "-c", textwrap.dedent(code), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def race(racers: dict[str, subprocess.Popen[str]]) -> dict[str, str]:
    """Let go, once all of them have printed ``ready`` and wait for a line; returns what each printed after that."""
    for racer in racers.values():
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    for racer in racers.values():
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    return {name: racer.communicate(timeout=90)[0] for name, racer in racers.items()}
