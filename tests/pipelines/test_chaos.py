"""Ingestion on three nodes while its driver, its workers and whole nodes are killed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightrag.storage.objects import open_object_store
from tests.lightrag.ingestion.conftest import story
from tests.lightrag.storage.conftest import S3Server, s3
from tests.pipelines.chaos import Moment, Nodes, Trial, three_nodes

__all__ = ["s3"]

pytestmark = [pytest.mark.ray, pytest.mark.slow]

DOCUMENTS = 16


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    with three_nodes() as started:
        yield started


def test_a_node_dies_and_the_version_in_s3_is_that_of_an_undisturbed_run(
    nodes: Nodes, s3: S3Server, tmp_path: Path
) -> None:
    source = open_object_store("s3://lake/chaos", s3.options)
    for number in range(DOCUMENTS):
        source.put(f"{number:03d}.txt", story(number).encode())
    storage = {"url": "s3://lake/corpora", "options": s3.options}
    alone = Trial(tmp_path, "s3://lake/chaos", storage, "alone", options=s3.options)
    disturbed = Trial(tmp_path, "s3://lake/chaos", storage, "disturbed", options=s3.options)
    batches = alone.ingest_alone()
    assert batches == DOCUMENTS
    result = disturbed.ingest(nodes, Moment("node", DOCUMENTS // 2), batches, random.Random(1))
    assert result.killed
    assert result.seen == "nothing"
    assert disturbed.contents() == alone.contents()
    assert 0 <= result.repeated <= result.allowed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents, their corpus as an undisturbed run makes it, and room for others."""
    folder = tmp_path_factory.mktemp("chaos")
    (folder / "docs").mkdir()
    for number in range(DOCUMENTS):
        (folder / "docs" / f"{number:03d}.txt").write_text(story(number), encoding="utf-8")
    assert _trial(folder, "alone").ingest_alone() == DOCUMENTS
    return folder


def _trial(folder: Path, tenant: str) -> Trial:
    return Trial(folder, str(folder / "docs"), {"url": (folder / "objects").as_uri()}, tenant)


@pytest.mark.parametrize(
    "moment",
    [Moment("driver", 11, pools="three"), Moment("worker", 17), Moment("node", 29, pools="three")],
    ids=lambda moment: moment.victim,
)
def test_what_is_killed_loses_doubles_and_half_shows_nothing_and_repeats_a_batch_of_each_worker_at_most(
    nodes: Nodes, folder: Path, moment: Moment
) -> None:
    trial = _trial(folder, f"after-{moment.victim}")
    result = trial.ingest(nodes, moment, DOCUMENTS, random.Random(moment.objects))
    assert result.killed
    assert result.seen in ("nothing", "everything")
    assert trial.contents() == _trial(folder, "alone").contents()
    assert result.batches == DOCUMENTS
    assert 0 <= result.repeated <= result.allowed
