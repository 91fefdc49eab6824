"""Usage is written in the background, and counted once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lightrag.config import load_settings
from lightrag.errors import BackendError
from lightrag.tenancy.service import Tenancy
from lightrag.tenancy.usage import UsageKey, UsageRecords, Used


def total(home: Path) -> int:
    """Requests that the records hold, read by somebody else."""
    tenancy = Tenancy.open(load_settings(home=home))
    day = datetime.now(UTC).date()
    lines = tenancy.usage_records.report("default", day.replace(day=1), day)
    tenancy.records.close()
    return sum(line.used.requests for line in lines)


async def test_closing_while_usage_is_being_written_counts_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    add = UsageRecords.add

    def slow(self: UsageRecords, counted: Mapping[UsageKey, Used]) -> None:
        entered.set()
        go_on.wait(30)
        add(self, counted)

    monkeypatch.setattr(UsageRecords, "add", slow)
    tenancy = Tenancy.open(load_settings(home=tmp_path, tenancy={"lease_seconds": 0.05}))
    tenancy.note("default", Used(requests=1))
    tenancy.keep_flushing()
    assert await asyncio.to_thread(entered.wait, 30)
    threading.Timer(0.2, go_on.set).start()
    await tenancy.close()
    assert total(tmp_path) == 1


async def test_what_could_not_be_written_is_written_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenancy = Tenancy.open(load_settings(home=tmp_path))
    tenancy.note("default", Used(requests=1))
    with monkeypatch.context() as patched:
        patched.setattr(UsageRecords, "add", lambda self, counted: (_ for _ in ()).throw(BackendError("away")))
        with pytest.raises(BackendError, match="away"):
            await tenancy.flush()
    await tenancy.close()
    assert total(tmp_path) == 1
