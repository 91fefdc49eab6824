"""Jobs as real processes: watched, lost and found again, cancelled, killed, and retried."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from lightrag.config import Settings, load_settings
from lightrag.errors import NotFoundError, UsageError
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.jobs.opening import open_store
from lightrag.jobs.service import JobService
from lightrag.jobs.types import Job
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import open_object_store
from lightrag.types import CorpusId

SECONDS = 240.0


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # Every document is a batch of its own, so that there is always a middle to interrupt.
    return load_settings(None, home=tmp_path / "home", jobs={"runner": "local"}, ingest={"batch_bytes": 1})


@pytest.fixture
def jobs(settings: Settings) -> Iterator[JobService]:
    opened = JobService(settings)
    yield opened
    for job in opened.store.page("default").jobs:
        process = noted(settings, job)
        if process is not None:
            process.kill()
    for process in supervisors(settings):
        process.kill()
    opened.close()


def documents(folder: Path, count: int) -> IngestSpec:
    folder.mkdir(exist_ok=True)
    for number in range(count):
        sentences = [f"In {1800 + number + year} the mill number {number} was sold to a miller." for year in range(40)]
        (folder / f"{number:03}.txt").write_text("\n".join(sentences))
    return IngestSpec(corpus="mills", source=SourceSpec(location=str(folder)))


def wait(jobs: JobService, job: Job, reached: Callable[[Job], bool]) -> Job:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        job = jobs.get("default", job.job_id)
        if reached(job):
            return job
        assert not job.is_over, job
        time.sleep(0.1)
    raise AssertionError(f"not reached in time: {job}")


def over(job: Job) -> bool:
    return job.is_over


def begun(job: Job) -> bool:
    return any(stage.stage == "process" and stage.done >= 3 for stage in job.progress)


def noted(settings: Settings, job: Job) -> psutil.Process | None:
    file = settings.home / "jobs" / job.job_id / str(job.attempt) / "process.json"
    try:
        return psutil.Process(json.loads(file.read_text())["pid"])
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def supervisors(settings: Settings) -> list[psutil.Process]:
    home = str(settings.home)
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if "lightrag.jobs.supervisor" in (process.info["cmdline"] or []):
            try:
                if process.environ().get("LRAG_HOME") == home:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
    return found


def newest(settings: Settings) -> dict[str, int]:
    commit = CorpusLog(open_object_store(settings.storage_url), CorpusId("default", "mills")).latest()
    assert commit is not None
    return {"version": commit.version, **commit.counts}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_outlives_the_supervisor_that_started_it(jobs: JobService, settings: Settings, tmp_path: Path) -> None:
    job = jobs.submit(documents(tmp_path / "docs", 14))
    wait(jobs, job, begun)
    process = noted(settings, job)
    assert process is not None
    for supervisor in supervisors(settings):
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.wait(10)
    assert process.is_running()
    done = wait(jobs, job, over)
    assert (done.state, done.attempt, done.error) == ("succeeded", 1, "")
    assert newest(settings) | {"version": 1, "documents": 14} == newest(settings)
    assert done.usage["documents"] == 14
    assert jobs.report("default", job.job_id).summary["new"] == 14
    page = (settings.home / "jobs" / job.job_id / "1" / "report.html").read_text()
    assert "default/mills" in page


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_a_cancelled_and_a_killed_job_have_done_is_not_done_again(
    jobs: JobService, settings: Settings, tmp_path: Path
) -> None:
    job = jobs.submit(documents(tmp_path / "docs", 28))
    wait(jobs, job, begun)
    jobs.cancel("default", job.job_id)
    cancelled = wait(jobs, job, over)
    assert (cancelled.state, cancelled.error) == (
        "cancelled",
        "stopped; finished work is kept, and the next run goes on from it",
    )
    assert jobs.report("default", job.job_id).state == "cancelled"

    again = jobs.retry("default", job.job_id)
    wait(jobs, again, begun)
    process = noted(settings, again)
    assert process is not None
    process.kill()
    killed = wait(jobs, job, over)
    assert (killed.state, killed.attempt) == ("failed", 2)
    assert "killed perhaps" in killed.error

    jobs.retry("default", job.job_id)
    done = wait(jobs, job, over)
    assert (done.state, done.attempt) == ("succeeded", 3)
    assert done.summary["resumed"] >= 3
    assert newest(settings) | {"version": 1, "documents": 28} == newest(settings)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_that_cannot_work_says_why(jobs: JobService, tmp_path: Path) -> None:
    job = jobs.submit(IngestSpec(corpus="mills", source=SourceSpec(location=str(tmp_path / "nowhere"))))
    failed = wait(jobs, job, over)
    assert failed.state == "failed"
    assert "nowhere" in failed.error


def test_records_hold_no_secrets(jobs: JobService, settings: Settings) -> None:
    spec = IngestSpec(
        corpus="mills", source=SourceSpec(location="/docs"), settings={"generator": {"api_key": "sk-very-secret"}}
    )
    with pytest.raises(UsageError, match="LRAG_GENERATOR__API_KEY"):
        jobs.submit(spec)
    assert open_store(settings).page("default").jobs == ()


def test_there_is_no_report_of_what_has_not_ended(jobs: JobService) -> None:
    with pytest.raises(NotFoundError, match="no job"):
        jobs.report("default", "absent")
