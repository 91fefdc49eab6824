"""The index made by a worker of a cluster: the same version as in one process, errors as they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lightrag.errors import NotFoundError
from lightrag.ingestion.indexing import IndexReceipt, IndexUnit, index_locally
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line
from pipelines.cluster import cluster
from pipelines.indexing import index_on_ray
from tests.lightrag.ingestion.conftest import Bench, bench

__all__ = ["bench"]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with cluster(cpus=2):
        yield


def test_a_worker_makes_the_index_that_the_job_would_make(bench: Bench) -> None:
    bench.write_many(4)
    units: list[IndexUnit] = []

    def on_ray(unit: IndexUnit, line: Line) -> IndexReceipt:
        units.append(unit)
        return index_on_ray(unit, line)

    with bench.line() as line:
        ingest(line, index=on_ray)
        made = bench.loaded()
        here = index_locally(replace(units[0], staged={}), line)
    names = {entry.name.rsplit("/")[-1]: bench.log.read_file(entry) for entry in here.index}
    assert names == {
        entry.name.rsplit("/")[-1]: bench.log.read_file(entry) for entry in bench.log.files(bench.newest(), "index")
    }
    assert len(made.gists) >= 4
    assert [chunk.chunk_id for chunk in made.index.chunks] == [chunk.chunk_id for chunk in bench.chunks()]


def test_what_another_job_took_away_is_said_as_in_one_process(bench: Bench) -> None:
    bench.write_many(1)
    bench.ingest()
    gone = IndexUnit(99, (), (), staged={})
    with bench.line() as line, pytest.raises(NotFoundError):
        index_on_ray(gone, line)
