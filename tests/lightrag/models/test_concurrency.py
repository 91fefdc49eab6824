"""Waiting for asynchronous work from anywhere."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from lightrag.models.concurrency import run_blocking

FORKING = """
import asyncio, os
from lightrag.models.concurrency import run_blocking

async def twice(value):
    await asyncio.sleep(0)
    return 2 * value

run_blocking(twice(1))
child = os.fork()
if child == 0:
    os._exit(0 if run_blocking(twice(3)) == 6 else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


async def twice(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


def test_a_plain_caller_gets_result_or_error() -> None:
    async def fail() -> None:
        raise KeyError("gone")

    assert run_blocking(twice(4)) == 8
    with pytest.raises(KeyError, match="gone"):
        run_blocking(fail())


async def test_a_caller_inside_a_running_loop_gets_it_too() -> None:
    assert run_blocking(twice(4)) == 8
    assert await twice(1) == 2


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    # In a process of its own: forking one that runs native threads is not safe.
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
