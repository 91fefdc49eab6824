"""Groups encoded on Ray: the same version as in a plain loop, and a worker that dies costs its group only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest

from lightrag.ingestion.group_units import GroupReceipt, GroupUnit
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line
from lightrag.models import HashingEmbedder
from lightrag.models.base import FloatMatrix
from lightrag.storage.groups import GroupRole, read_groups
from pipelines.cluster import cluster
from pipelines.stations import Pool, encode_on_ray
from tests.lightrag.ingestion.conftest import Bench, bench

__all__ = ["bench"]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    with cluster(cpus=2):
        yield


class DyingOnce(HashingEmbedder):
    """Ends its process the first time that it is asked outside the process that made it."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark
        self.home = os.getpid()

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        if os.getpid() != self.home and not self.mark.exists():
            self.mark.touch()
            os._exit(9)
        return await super().embed(texts, kind)


class Scheduler:
    def __init__(self) -> None:
        self.receipts: list[GroupReceipt] = []

    def __call__(self, units: Sequence[GroupUnit], line: Line) -> Iterator[GroupReceipt]:
        for receipt in encode_on_ray(units, line, Pool((), 2, cpus=0.5)):
            self.receipts.append(receipt)
            yield receipt


def contents(bench: Bench, role: GroupRole) -> dict[str, set[str]]:
    """Names of the files of every group."""
    return {stored.group.key: set(stored.paths) for stored in read_groups(bench.log, bench.newest(), role)}


def test_encodes_what_a_plain_loop_encodes_though_a_worker_dies(
    tmp_path: Path, tiny_qwen2: Path, tiny_llama: Path
) -> None:
    settings: dict[str, Any] = {
        "memory": {"model": str(tiny_qwen2), "window_tokens": 1200},
        "ingest": {"latents": True},
        "compression": {"method": "latents", "model": str(tiny_llama)},
    }
    benches = []
    for name in ("ray", "loop"):
        (tmp_path / name).mkdir()
        benches.append(Bench(tmp_path / name))
        benches[-1].write_many(5)
    on_ray, in_loop = benches
    scheduler = Scheduler()
    with on_ray.line(name="tales", settings=settings, embedder=DyingOnce(tmp_path / "died")) as line:
        summary = ingest(line, encode=scheduler)
    assert (tmp_path / "died").exists()
    loop = in_loop.ingest(name="tales", settings=settings)
    assert summary.groups_encoded == loop.groups_encoded == len(scheduler.receipts)
    for role in ("memory", "latents"):
        assert contents(on_ray, role) == contents(in_loop, role)
    assert not on_ray.log.check_integrity(deep=True).problems
