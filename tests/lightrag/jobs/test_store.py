"""Records of jobs: order, limits, and which changes of state happen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ConflictError, NotFoundError, UsageError
from lightrag.jobs.store import Ending, JobStore, Limits, new_job_id
from lightrag.jobs.table import MIGRATIONS, OWNER, JobRow
from lightrag.jobs.types import Job, StageProgress
from lightrag.storage.records import open_records

HERE = "process@here"
MANY = Limits(100, 100)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    opened = JobStore.open(f"sqlite:///{tmp_path}/records.db")
    yield opened
    opened.close()


def add(store: JobStore, tenant: str = "acme", *, priority: int = 0) -> Job:
    return store.add(tenant, "reports", {"corpus": "reports"}, kind="ingest", priority=priority, job_id=new_job_id())


def test_the_table_is_what_the_migrations_make() -> None:
    records = open_records("sqlite://")
    records.migrate(OWNER, MIGRATIONS)
    assert records.differences(JobRow) == []


def test_a_job_comes_back_as_it_was_queued(store: JobStore) -> None:
    job = add(store, priority=3)
    assert store.get("acme", job.job_id) == job
    assert (job.state, job.priority, job.attempt, job.is_over) == ("queued", 3, 1, False)


def test_jobs_of_another_tenant_do_not_exist(store: JobStore) -> None:
    job = add(store)
    for call in (store.get, store.request_cancel, store.retry, store.report):
        with pytest.raises(NotFoundError, match=job.job_id):
            call("other", job.job_id)
    assert store.page("other").jobs == ()


@settings(max_examples=15, deadline=None)
@given(count=st.integers(0, 12), limit=st.integers(1, 5))
def test_pages_show_every_job_once_newest_first(count: int, limit: int) -> None:
    store = JobStore(open_records("sqlite://"))
    added = sorted((add(store).job_id for _ in range(count)), reverse=True)
    shown: list[str] = []
    cursor = None
    while True:
        page = store.page("acme", cursor=cursor, limit=limit)
        shown += [job.job_id for job in page.jobs]
        cursor = page.next
        if cursor is None:
            break
    assert shown == added


def test_a_page_has_a_sensible_size(store: JobStore) -> None:
    with pytest.raises(UsageError, match="between 1 and 200"):
        store.page("acme", limit=0)


def test_the_highest_priority_starts_first_then_the_oldest(store: JobStore) -> None:
    old, urgent = add(store), add(store, priority=5)
    late = add(store)
    claimed = [store.claim(HERE, MANY) for _ in range(4)]
    assert [job and job.job_id for job in claimed[:2]] == [urgent.job_id, min(old.job_id, late.job_id)]
    assert claimed[3] is None


def test_a_tenant_waits_for_its_own_jobs_and_not_for_those_of_others(store: JobStore) -> None:
    for tenant in ("acme", "acme", "other"):
        add(store, tenant)
    limits = Limits(at_once=10, per_tenant=1)
    claimed = [store.claim(HERE, limits) for _ in range(3)]
    assert sorted(job.tenant for job in claimed if job) == ["acme", "other"]


def test_no_more_jobs_run_than_the_machine_may_have(store: JobStore) -> None:
    for tenant in ("a", "b", "c"):
        add(store, tenant)
    assert [bool(store.claim(HERE, Limits(2, 5))) for _ in range(3)] == [True, True, False]


def test_of_many_supervisors_one_gets_each_job(store: JobStore) -> None:
    jobs = {add(store).job_id for _ in range(8)}
    got: list[str] = []

    def claim() -> None:
        while job := store.claim(HERE, MANY):
            got.append(job.job_id)

    threads = [threading.Thread(target=claim) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == sorted(jobs)


def test_progress_and_the_ending_are_those_of_the_attempt(store: JobStore) -> None:
    add(store)
    first = store.claim(HERE, MANY)
    assert first is not None
    store.advance(first, (StageProgress("process", 3, 10, tokens=90, seconds=1.5),))
    (stage,) = store.get("acme", first.job_id).progress
    assert (stage.rate, stage.seconds_left) == (2.0, 3.5)
    assert store.finish(first, Ending("failed", "no space left"))
    assert not store.finish(first, Ending("succeeded"))
    store.retry("acme", first.job_id)
    second = store.claim(HERE, MANY)
    assert second is not None
    store.advance(first, (StageProgress("process", 9, 10),))  # a straggler of the first attempt
    assert store.get("acme", first.job_id).progress == ()
    assert store.finish(second, Ending("succeeded", summary={"failed": 0}, usage={"tokens": 5.0}))
    done = store.get("acme", first.job_id)
    assert (done.state, done.attempt, done.error, done.usage) == ("succeeded", 2, "", {"tokens": 5.0})


def test_a_queued_job_is_cancelled_at_once_and_a_running_one_is_asked(store: JobStore) -> None:
    queued = add(store)
    assert store.request_cancel("acme", queued.job_id).state == "cancelled"
    running = add(store)
    claimed = store.claim(HERE, MANY)
    assert claimed is not None
    asked = store.request_cancel("acme", running.job_id)
    assert (asked.state, asked.cancel_requested) == ("running", True)
    store.finish(claimed, Ending("cancelled"))
    assert store.request_cancel("acme", running.job_id).state == "cancelled"


def test_what_has_ended_well_is_neither_cancelled_nor_repeated(store: JobStore) -> None:
    add(store)
    job = store.claim(HERE, MANY)
    assert job is not None
    with pytest.raises(ConflictError, match="running"):
        store.retry("acme", job.job_id)
    store.finish(job, Ending("succeeded", summary={"failed": 0}))
    with pytest.raises(ConflictError, match="succeeded already"):
        store.request_cancel("acme", job.job_id)
    with pytest.raises(ConflictError, match="no document failed"):
        store.retry("acme", job.job_id)


def test_a_success_with_failed_documents_tries_those_again(store: JobStore) -> None:
    add(store)
    job = store.claim(HERE, MANY)
    assert job is not None
    store.finish(job, Ending("succeeded", summary={"failed": 2}))
    again = store.retry("acme", job.job_id)
    assert (again.state, again.spec["retry_failed"]) == ("queued", True)
