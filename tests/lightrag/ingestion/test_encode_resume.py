"""Encoding that was interrupted: finished groups are found again, garbage goes, nothing half-done is ever visible."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lightrag.config import load_settings
from lightrag.errors import BackendError
from lightrag.ingestion.encode import encode_locally
from lightrag.ingestion.encoders import GroupStation
from lightrag.ingestion.group_units import GroupReceipt, GroupUnit
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.memory import StorePlace, load_memory
from lightrag.models import HashingEmbedder
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.groups import read_groups
from lightrag.storage.objects import open_object_store
from lightrag.types import CorpusId
from tests.lightrag.ingestion.conftest import Bench
from tests.lightrag.storage.conftest import S3Server, s3

__all__ = ["s3"]


def settings(model: Path) -> dict[str, Any]:
    return {"memory": {"model": str(model), "window_tokens": 1200}, "storage": {"grace_seconds": 0.0}}


def files(bench: Bench) -> set[str]:
    return {info.path for info in bench.log.store.list("default/corpora/tales/memory")}


class Scheduler:
    """Encodes in this thread, counts, and fails after some groups."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.fail_after = fail_after
        self.encoded: list[str] = []

    def __call__(self, units: Sequence[GroupUnit], line: Line) -> Iterator[GroupReceipt]:
        station = GroupStation(line, units[0].role)
        for unit in units:
            if len(self.encoded) == self.fail_after:
                raise BackendError("the device is gone")
            receipt = station.run(unit)
            self.encoded.append(unit.group.key)
            yield receipt


def run(bench: Bench, model: Path, scheduler: Scheduler) -> Any:
    with bench.line(settings=settings(model)) as line:
        return ingest(line, encode=scheduler)


def test_the_next_job_takes_up_finished_groups_and_encodes_the_rest(bench: Bench, tiny_qwen2: Path) -> None:
    bench.write_many(6)
    broken, whole = Scheduler(fail_after=2), Scheduler()
    with pytest.raises(BackendError, match="device is gone"):
        run(bench, tiny_qwen2, broken)
    assert bench.log.latest() is None
    summary = run(bench, tiny_qwen2, whole)
    assert set(broken.encoded).isdisjoint(whole.encoded)
    assert (summary.groups_resumed, summary.groups_encoded) == (2, len(whole.encoded))
    groups = read_groups(bench.log, bench.newest(), "memory")
    assert {group.group.key for group in groups} == {*broken.encoded, *whole.encoded}
    assert not bench.log.check_integrity(deep=True).problems
    assert not list(bench.log.store.list("default/corpora/tales/staging"))


def test_groups_whose_files_are_gone_are_encoded_again(bench: Bench, tiny_qwen2: Path) -> None:
    bench.write_many(4)
    with pytest.raises(BackendError):
        run(bench, tiny_qwen2, Scheduler(fail_after=1))
    bench.log.store.delete(files(bench))
    again = Scheduler()
    assert run(bench, tiny_qwen2, again).groups_resumed == 0
    assert len(again.encoded) == len(read_groups(bench.log, bench.newest(), "memory"))


def test_what_failed_jobs_leave_goes_with_the_next_vacuum(bench: Bench, tiny_qwen2: Path) -> None:
    bench.write_many(4)
    with pytest.raises(BackendError):
        run(bench, tiny_qwen2, Scheduler(fail_after=1))
    left = files(bench)
    assert left
    bench.write("000.txt", "Quite another text.")
    bench.ingest(settings={"storage": {"grace_seconds": 0.0}})
    assert files(bench) == set()
    assert not list(bench.log.store.list("default/corpora/tales/staging"))


def test_a_job_that_was_overtaken_encodes_nothing_twice(bench: Bench, tiny_qwen2: Path) -> None:
    bench.write_many(4)
    mine = Scheduler()

    def overtaken(units: Sequence[GroupUnit], line: Line) -> Iterator[GroupReceipt]:
        yield from mine(units, line)
        if bench.log.latest() is None:
            bench.log.commit(None, job_id="somebody")

    with bench.line(settings=settings(tiny_qwen2)) as line:
        summary = ingest(line, encode=overtaken)
    assert summary.version == 2
    assert len(mine.encoded) == len(set(mine.encoded)) == len(read_groups(bench.log, bench.newest(), "memory"))
    assert (summary.groups_encoded, summary.groups_carried, summary.groups_resumed) == (len(mine.encoded), 0, 0)


KILLED = """
import os, sys
from lightrag.config import load_settings
from lightrag.ingestion import encode, job
from lightrag.ingestion.line import Line
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.models import HashingEmbedder

def killed(units, line):
    for number, receipt in enumerate(encode.encode_locally(units, line), 1):
        if number == 2:
            os._exit(9)
        yield receipt

settings = load_settings(None, home=sys.argv[1], memory={"model": sys.argv[3], "window_tokens": 1200})
spec = IngestSpec(corpus="tales", source=SourceSpec(location=sys.argv[2]))
job.ingest(Line(settings, spec, embedder=HashingEmbedder()), encode=killed)
"""


def test_a_killed_process_loses_no_finished_group(bench: Bench, tiny_qwen2: Path) -> None:
    bench.write_many(5)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(bench.home), str(bench.docs), str(tiny_qwen2)]
    done = subprocess.run(command, env=environment, timeout=120, capture_output=True, text=True, check=False)
    assert done.returncode == 9, done.stderr
    assert bench.log.latest() is None
    scheduler = Scheduler()
    summary = run(bench, tiny_qwen2, scheduler)
    assert summary.groups_resumed == 2
    assert len(scheduler.encoded) == len(read_groups(bench.log, bench.newest(), "memory")) - 2


def test_units_and_receipts_cross_process_walls_and_hold_no_text(bench: Bench, tiny_qwen2: Path) -> None:
    bench.write_many(3)
    texts: list[str] = []

    def crossing(units: Sequence[GroupUnit], line: Line) -> Iterator[GroupReceipt]:
        texts.extend(unit.to_json() for unit in units)
        for receipt in encode_locally([GroupUnit.from_json(text) for text in texts], line):
            assert GroupReceipt.from_json(receipt.to_json()) == receipt
            texts.append(receipt.to_json())
            yield receipt

    with bench.line(settings=settings(tiny_qwen2)) as line:
        ingest(line, encode=crossing)
    assert texts
    assert not any("crossed the bay" in text for text in texts)


def test_memories_live_in_object_storage(s3: S3Server, tmp_path: Path, tiny_qwen2: Path) -> None:
    (tmp_path / "a.txt").write_text("The bell rang once. The bay froze.", encoding="utf-8")
    url = "s3://lake/memories"
    storage = {"url": url, "options": s3.options}
    chosen = load_settings(None, home=tmp_path, **settings(tiny_qwen2) | {"storage": storage})
    spec = IngestSpec(corpus="tales", source=SourceSpec(location=str(tmp_path / "a.txt")))
    with Line(chosen, spec, embedder=HashingEmbedder()) as line:
        assert ingest(line).groups_encoded == 1
        assert not ingest(line).committed
    log = CorpusLog(open_object_store(url, s3.options), CorpusId("default", "tales"))
    commit = log.latest()
    assert commit is not None
    (group,) = read_groups(log, commit, "memory")
    paths = {name: log.layout.file(path) for name, path in group.paths.items()}
    assert load_memory(StorePlace(log.store, paths=paths)).source_tokens == group.group.tokens
