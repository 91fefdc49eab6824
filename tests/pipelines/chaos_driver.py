"""One ingest job as a process of its own, to be killed: ``python -m tests.pipelines.chaos_driver JSON``.

Its embedder notes every batch that it begins, whoever repeats it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from blake3 import blake3

from lightrag.config import load_settings
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line, Receipt, Unit, run_locally
from lightrag.ingestion.spec import IngestSpec
from lightrag.models import HashingEmbedder
from lightrag.models.base import FloatMatrix
from pipelines.cluster import cluster
from pipelines.stations import Pool, run_on_ray

POOLS: Mapping[str, list[Pool]] = {
    "one": [Pool(("read", "embed", "gist"), 3, cpus=0.5)],
    "three": [Pool(("read",), 1, cpus=0.25), Pool(("embed",), 2, cpus=0.5), Pool(("gist",), 1, cpus=0.25)],
}
"""Ways to place the stages, by name."""


class NotingEmbedder(HashingEmbedder):
    """Appends a line to a file for every batch, before it embeds it, and takes its time.

    Args:
        notes: the file; all workers write to it.
        seconds: per batch, so that there is a moment at which to die.
    """

    def __init__(self, notes: str, seconds: float) -> None:
        super().__init__()
        self.notes = notes
        self.seconds = seconds

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        name = blake3("\n".join(texts).encode()).hexdigest(8)
        # One short write to a file opened for appending is whole or not there at all.
        note = os.open(self.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(note, f"{name}\n".encode())
        os.close(note)
        await asyncio.sleep(self.seconds)
        return await super().embed(texts, kind)


def drive(job: Mapping[str, Any]) -> None:
    """Run a job to its end, on the cluster at ``job["address"]``; without an address, in this process alone."""
    settings = load_settings(None, **job["settings"])
    embedder = NotingEmbedder(job["notes"], job["seconds"])
    with Line(settings, IngestSpec.parse(job["spec"]), embedder=embedder) as line:
        if not job["address"]:
            ingest(line, schedule=run_locally)
            return

        def schedule(units: Sequence[Unit], line: Line) -> Iterator[Receipt]:
            with cluster(job["address"]):
                yield from run_on_ray(units, line, POOLS[job["pools"]])

        ingest(line, schedule=schedule)


if __name__ == "__main__":
    drive(json.loads(sys.argv[1]))
