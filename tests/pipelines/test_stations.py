"""The stages on Ray: same results as in a plain loop, failures as they are, nothing done twice."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from lightrag.config import load_settings
from lightrag.errors import BackendError
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line, Receipt, Unit
from lightrag.models import HashingEmbedder
from lightrag.models.base import FloatMatrix
from pipelines.cluster import cluster
from pipelines.stations import Pool, choose_pools, run_on_ray
from tests.lightrag.ingestion.conftest import Bench, bench, story

__all__ = ["bench"]

pytestmark = [pytest.mark.ray, pytest.mark.slow]

ONE = [Pool(("read", "embed", "gist"), 2, cpus=0.5)]
THREE = [Pool(("read",), 1, cpus=0.25), Pool(("embed",), 2, cpus=0.5), Pool(("gist",), 1, cpus=0.25)]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with cluster(cpus=2):
        yield


class Scheduler:
    """Runs units on Ray and remembers the receipts."""

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = pools
        self.receipts: list[Receipt] = []

    def __call__(self, units: Sequence[Unit], line: Line) -> Iterator[Receipt]:
        for receipt in run_on_ray(units, line, self.pools):
            self.receipts.append(receipt)
            yield receipt


class DyingEmbedder(HashingEmbedder):
    """Ends its process the first time, or every time, that it sees a certain year; or fails always."""

    def __init__(self, mark: Path, how: Literal["die once", "die", "fail"]) -> None:
        super().__init__()
        self.mark = mark
        self.how = how

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        if self.how == "fail":
            raise BackendError("the embedder has lost its device", subject="gpu:0", retryable=True)
        if any("year 1803" in text for text in texts) and not (self.mark.exists() and self.how == "die once"):
            self.mark.touch()
            os._exit(9)
        return await super().embed(texts, kind)


@pytest.mark.parametrize("pools", [ONE, THREE], ids=["one pool", "three pools"])
def test_makes_the_same_version_as_a_plain_loop(tmp_path: Path, pools: list[Pool]) -> None:
    benches = []
    for name in ("ray", "loop"):
        (tmp_path / name).mkdir()
        benches.append(Bench(tmp_path / name))
        benches[-1].write_many(9)
        benches[-1].write("empty.txt", "")
    ray, loop = benches
    settings: dict[str, Any] = {"ingest": {"batch_bytes": 3000}}
    scheduler = Scheduler(pools)
    on_ray = ingest(ray.line(name="tales", settings=settings), schedule=scheduler)
    in_loop = ingest(loop.line(name="tales", settings=settings))
    assert len(scheduler.receipts) > 3
    assert (on_ray.new, on_ray.failed) == (in_loop.new, in_loop.failed) == (9, 1)
    assert ray.chunks() == loop.chunks()
    assert ray.loaded().index.chunks == loop.loaded().index.chunks
    assert ray.loaded().gists == loop.loaded().gists


def test_a_worker_that_dies_is_replaced_and_its_batch_repeated(bench: Bench, tmp_path: Path) -> None:
    bench.write_many(8)
    line = bench.line(embedder=DyingEmbedder(tmp_path / "died", "die once"), settings={"ingest": {"batch_bytes": 3000}})
    summary = ingest(line, schedule=Scheduler(THREE))
    assert (tmp_path / "died").exists()
    assert (summary.new, summary.failed) == (8, 0)
    ids = [chunk.chunk_id for chunk in bench.chunks()]
    assert len(ids) == len(set(ids)) == summary.chunks


def test_a_worker_that_always_dies_fails_the_job_instead_of_dying_for_ever(bench: Bench, tmp_path: Path) -> None:
    bench.write_many(5)
    line = bench.line(embedder=DyingEmbedder(tmp_path / "died", "die"), settings={"ingest": {"batch_bytes": 3000}})
    with pytest.raises(BackendError, match="lost the job's workers"):
        ingest(line, schedule=Scheduler(ONE))
    assert bench.log.latest() is None


def test_a_failing_model_fails_the_job_with_its_own_error_and_the_next_job_goes_on(
    bench: Bench, tmp_path: Path
) -> None:
    bench.write_many(6)
    settings: dict[str, Any] = {"ingest": {"batch_bytes": 3000}}
    with pytest.raises(BackendError, match="lost its device") as caught:
        ingest(bench.line(embedder=DyingEmbedder(tmp_path, "fail"), settings=settings), schedule=Scheduler(THREE))
    assert (caught.value.subject, caught.value.retryable) == ("gpu:0", True)
    assert bench.log.latest() is None
    summary = ingest(bench.line(settings=settings), schedule=Scheduler(ONE))
    assert (summary.new, summary.resumed > 0) == (6, True)


def test_large_jobs_have_a_pool_per_stage_and_small_ones_a_single_one() -> None:
    settings = load_settings(None)
    assert [pool.stages for pool in choose_pools(settings, 10**6, 8)] == [("read", "embed", "gist")]
    assert [pool.stages for pool in choose_pools(settings, 10**9, 8)] == [("read",), ("embed",), ("gist",)]
    assert all(pool.workers == 1 for pool in choose_pools(settings, 10**9, 1))


def test_what_changed_after_a_job_on_ray_is_all_that_the_next_one_does(bench: Bench) -> None:
    bench.write_many(5)
    ingest(bench.line(), schedule=Scheduler(ONE))
    bench.write("001.txt", story(70))
    scheduler = Scheduler(ONE)
    summary = ingest(bench.line(), schedule=scheduler)
    assert (summary.changed, summary.unchanged) == (1, 4)
    assert sum(len(receipt.done) for receipt in scheduler.receipts) == 1
