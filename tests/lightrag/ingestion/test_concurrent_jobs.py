"""Jobs that meet on one corpus, and jobs that are killed: nothing is lost, doubled or half visible."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lightrag.config import load_settings
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.ingestion.summary import IngestSummary, Progress
from lightrag.models import HashingEmbedder
from tests.lightrag.ingestion.conftest import Bench, story


def together(*lines: Line) -> list[IngestSummary]:
    """Run jobs that all have planned before any of them commits."""
    barrier = threading.Barrier(len(lines), timeout=30)

    def run(line: Line) -> IngestSummary:
        waited = False

        def report(progress: Progress) -> None:
            nonlocal waited
            if progress.stage == "publish" and not waited:
                waited = True
                barrier.wait()

        return ingest(line, report=report)

    with ThreadPoolExecutor(len(lines)) as threads:
        return list(threads.map(run, lines))


def test_two_jobs_on_two_folders_both_arrive(bench: Bench, tmp_path: Path) -> None:
    bench.write_many(4)
    other = tmp_path / "other"
    other.mkdir()
    for number in range(10, 13):
        (other / f"{number:03d}.txt").write_text(story(number), encoding="utf-8")
    summaries = together(bench.line(), bench.line(other))
    assert sorted(summary.version or 0 for summary in summaries) == [1, 2]
    assert sorted(bench.documents()) == ["000.txt", "001.txt", "002.txt", "003.txt", "010.txt", "011.txt", "012.txt"]
    assert len(bench.loaded().index) == len(bench.chunks())


def test_two_jobs_on_one_folder_make_each_document_once(bench: Bench) -> None:
    bench.write_many(4)
    summaries = together(bench.line(), bench.line())
    assert {summary.version for summary in summaries} == {1}
    assert [summary.committed for summary in summaries].count(True) == 1
    ids = [chunk.chunk_id for chunk in bench.chunks()]
    assert len(ids) == len(set(ids)) > 0
    assert bench.ingest().unchanged == 4


@pytest.mark.slow
def test_a_job_killed_at_any_moment_is_resumed_without_loss_or_doubling(bench: Bench, tmp_path: Path) -> None:
    bench.write_many(60)
    moments = random.Random(7)
    kills = 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-m", __spec__.name, str(bench.docs), str(bench.home)])
        time.sleep(moments.uniform(1.5, 3.5))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait(timeout=60)
        # Readers see no version or a whole one, whenever they look.
        newest = bench.log.latest()
        assert newest is None or len(bench.documents()) == 60
    assert kills
    bench.ingest()
    (tmp_path / "clean").mkdir()
    clean = Bench(tmp_path / "clean")
    clean.write_many(60)
    clean.ingest(name=bench.docs.as_uri())
    assert bench.chunks() == clean.chunks()
    assert bench.loaded().gists == clean.loaded().gists
    assert bench.ingest().unchanged == 60


def main(folder: str, home: str) -> None:
    """What is killed: one job, one document at a time."""
    spec = IngestSpec(corpus="tales", source=SourceSpec(location=folder))
    settings = load_settings(None, home=home, ingest={"batch_bytes": 1})
    ingest(Line(settings, spec, embedder=HashingEmbedder()))


if __name__ == "__main__":
    main(*sys.argv[1:])
