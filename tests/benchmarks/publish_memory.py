"""Memory of an ingest job's own process as the corpus grows: ``python -m tests.benchmarks.publish_memory``.

Makes documents that wait in staging, as workers leave them, and runs a job over them: plan, tables, gists, index,
commit. Texts are twelve words and vectors 32 random numbers, so that a million chunks take minutes; what a process
holds of a chunk that it only passes on does not depend on either. Every size is measured in new processes: the job's,
and the one that makes the index, as a worker of a cluster does. The latter holds the index.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lightrag.config import load_settings
from lightrag.ingestion.indexing import IndexReceipt, IndexUnit, index_locally
from lightrag.ingestion.items import SourceItem
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line, Receipt, Unit
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.ingestion.states import DocumentState
from lightrag.memory.gists import document_gists
from lightrag.models import HashingEmbedder
from lightrag.storage.tables import DocumentRow
from lightrag.types import Chunk
from pipelines.allocation import give_arrow_memory_back, give_memory_back

DOCUMENTS = 1000
DIMENSION = 32
WORDS = 12
VOCABULARY = 50_000
CHUNK_BYTES = 70
"""Of a text of so many words, about: what a worker takes at a time follows from it."""


class Peaks(NamedTuple):
    """What one job took. MiB are resident and anonymous: pages of mapped files can be dropped at any time."""

    chunks: int
    before: float
    """MiB of the job's process when everything is loaded and nothing is done."""
    driver: float
    """Highest MiB of the job's process."""
    indexer: float
    """Highest MiB of the process that makes the index, which may be the same."""
    cpu: float
    """Processor seconds of publishing, in all processes."""
    seconds: float


def measure(chunks: int, *, per_document: int = 100, apart: bool = True) -> Peaks:
    """Run one job in processes of its own.

    Args:
        chunks: rows of the corpus.
        per_document: chunks of a document.
        apart: make the index in another process than the job's, as jobs on a cluster do.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    with tempfile.TemporaryDirectory() as home:
        options = ["--job", home, "--chunks", str(chunks), "--per-document", str(per_document)]
        command = [sys.executable, "-m", "tests.benchmarks.publish_memory", *options, *(["--apart"] if apart else [])]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Peaks(*json.loads(done.stdout.splitlines()[-1]))


class Rows:
    """A source that lists documents and is never read."""

    name = "rows"
    complete = True

    def __init__(self, documents: int, per_document: int) -> None:
        self._documents = documents
        self._bytes = CHUNK_BYTES * per_document

    def items(self) -> Iterator[SourceItem]:
        """List them."""
        for number in range(self._documents):
            yield SourceItem(f"{number:08d}.txt", "", self._bytes, str(number))

    def read(self, item: SourceItem) -> bytes:
        """Refuse: results wait in staging."""
        raise AssertionError(item)


class Sampler:
    """Remembers the most memory that this process has had, looked at twenty times a second."""

    def __init__(self) -> None:
        self.peak = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ended.wait(0.05):
            self.peak = max(self.peak, resident())


def resident() -> float:
    """MiB of anonymous memory of this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")) / 1024


def open_line(home: str, documents: int = 0, per_document: int = 0) -> Line:
    """The job's line over a corpus in ``home``."""
    spec = IngestSpec(corpus="rows", source=SourceSpec(location="rows"))
    return Line(
        load_settings(None, home=home), spec, source=Rows(documents, per_document), embedder=HashingEmbedder(DIMENSION)
    )


def job(home: str, chunks: int, per_document: int, *, apart: bool) -> Peaks:
    """Stage documents in another process, as workers do, and publish them from this one."""
    (give_memory_back if apart else give_arrow_memory_back)()
    spawn = get_context("spawn")
    elsewhere: list[tuple[float, float]] = []

    def staged(units: Sequence[Unit], _: Line) -> Iterator[Receipt]:
        with ProcessPoolExecutor(1, mp_context=spawn) as workers:
            for unit in units:
                yield Receipt.from_json(workers.submit(stage, home, unit.to_json(), per_document).result())

    def indexed(unit: IndexUnit, line: Line) -> IndexReceipt:
        if not apart:
            return index_locally(unit, line)
        with ProcessPoolExecutor(1, mp_context=spawn) as workers:
            text, peak, cpu = workers.submit(index, home, unit.to_json()).result()
        elsewhere.append((peak, cpu))
        return IndexReceipt.from_json(text)

    with open_line(home, max(1, chunks // per_document), per_document) as line, Sampler() as sampler:
        _ = line.recipe.chunker, line.log.latest(), line.recipe.gister
        before, used = resident(), time.process_time()
        summary = ingest(line, schedule=staged, index=indexed)
        seconds = summary.seconds["publish"]
        cpu = time.process_time() - used
    peak, more = elsewhere[-1] if elsewhere else (sampler.peak, 0.0)
    return Peaks(summary.chunks, before, sampler.peak, peak, cpu + more, seconds)


def stage(home: str, unit: str, per_document: int) -> str:
    """Leave documents of random words and vectors in staging as if they had passed all stages."""
    with open_line(home) as line:
        states = [_document(state, per_document, line) for state in Unit.from_json(unit).states]
        return Receipt.of(line.staging.put("gist", states)).to_json()


def _document(state: DocumentState, chunks: int, line: Line) -> DocumentState:
    words = random.Random(state.document_id)  # no secret
    texts = [" ".join(f"w{int(words.paretovariate(0.6)) % VOCABULARY}" for _ in range(WORDS)) for _ in range(chunks)]
    source = state.item.source
    made = tuple(
        Chunk(f"{state.document_id}-{ordinal}", state.document_id, ordinal, text, 0, len(text), tokens=WORDS)
        for ordinal, text in enumerate(texts)
    )
    vectors = np.random.default_rng(int(state.item.fingerprint)).standard_normal((chunks, DIMENSION), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    gists = asyncio.run(document_gists(made[:8], line.recipe.gister, line.settings.gists))
    row = DocumentRow(
        state.document_id, "", content_hash=state.item.fingerprint, source=source, title=source, language="und",
        chunks=chunks, tokens=chunks * WORDS,
    )  # fmt: skip
    return DocumentState(
        state.item, state.document_id, state.keys, row=row, chunks=made, vectors=vectors, gists=tuple(gists)
    )


def index(home: str, unit: str) -> tuple[str, float, float]:
    """Make gists and index in this process; returns the receipt, MiB at the highest, and processor seconds."""
    with open_line(home) as line, Sampler() as sampler:
        receipt = index_locally(IndexUnit.from_json(unit), line).to_json()
    return receipt, sampler.peak, time.process_time()


def main() -> None:
    """Read arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--documents", type=int, help="a thousand by default: only rows grow")
    parser.add_argument("--per-document", type=int, help="chunks of each; then documents grow with rows")
    parser.add_argument("--here", action="store_true", help="make the index in the job's process")
    parser.add_argument("--job", metavar="HOME", help=argparse.SUPPRESS)
    parser.add_argument("--apart", action="store_true", help=argparse.SUPPRESS)
    parsed = parser.parse_args()
    if parsed.job:
        print(json.dumps(job(parsed.job, parsed.chunks[0], parsed.per_document, apart=parsed.apart)))
        return
    print(f"{'chunks':>10}  {'documents':>10}  driver MiB: loaded  highest   growth  indexer MiB  publish s   CPU s")
    for chunks in parsed.chunks:
        per_document = parsed.per_document or max(1, chunks // (parsed.documents or DOCUMENTS))
        peaks = measure(chunks, per_document=per_document, apart=not parsed.here)
        print(
            f"{peaks.chunks:>10,}  {chunks // per_document:>10,}  {peaks.before:>18,.0f}  {peaks.driver:>7,.0f}"
            f"  {peaks.driver - peaks.before:>7,.0f}  {peaks.indexer:>11,.0f}  {peaks.seconds:>9,.0f}"
            f"  {peaks.cpu:>6,.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
