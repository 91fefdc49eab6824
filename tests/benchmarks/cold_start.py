"""The first answer from a corpus that no replica holds, answers after it, and the memory that the corpus then takes.

    python -m tests.benchmarks.cold_start [--proxy serve|haproxy] [--documents 60 600 3000]

Documents have 500 English words, which make five passages. Their vectors are random: number and size are real, and
making them takes no time. Models are warm before the first corpus is loaded, and the files of the corpora are in the
page cache, as they are where a local folder stores them. Memory is what Recall and Retrieval grow by, as the
kernel accounts for it (proportional set size); both hold the corpus.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightrag.client import AsyncClient
from lightrag.config import load_settings
from lightrag.engine import Components
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.models.base import Embedder, FloatMatrix
from tests.benchmarks.corpus_scale import DOCUMENT_BYTES, ROLES
from tests.benchmarks.ingest_cost import write_corpus
from tests.benchmarks.process_tree import proportional_bytes, title, tree
from tests.deployments.conftest import PROXIES, running

QUESTIONS = (
    "What did the harbour council decide about the bridge?",
    "Who owned the copper railway before the war?",
    "When was the lighthouse sold to the merchant?",
)
WARM = 30
MB = 1e6


class Scattered:
    """An embedder that stands for another one: all of it but the vectors of documents, which are random."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._generator = np.random.default_rng(7)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        """Random unit rows."""
        rows = self._generator.standard_normal((len(texts), self._embedder.dimension), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make(home: Path, documents: int) -> tuple[str, int, int]:
    """Ingest a corpus; returns its name, its passages and the bytes that are stored of it."""
    settings = load_settings(None, home=home)
    name = f"d{documents}"
    docs = home / "documents" / name
    write_corpus(docs, documents * DOCUMENT_BYTES / 1e6, file_bytes=DOCUMENT_BYTES)
    spec = IngestSpec(corpus=name, source=SourceSpec(location=str(docs)))
    with Line(settings, spec, embedder=Scattered(Components(settings).embedder)) as line:
        summary = ingest(line)
        commit = line.log.latest()
        assert commit is not None
        stored = sum(entry.size for role in ROLES for entry in line.log.files(commit, role))
    return name, summary.chunks, stored


async def measure(url: str, pid: int, corpora: Sequence[tuple[str, int, int]]) -> None:
    """Ask each corpus for the first time, and again; prints a row for each."""
    print("| documents | passages | stored, MB | first answer, s | further ones, ms | Recall, MB | Retrieval, MB |")
    print("|---|---|---|---|---|---|---|")
    async with AsyncClient(url) as client:
        for _ in range(3):
            for question in QUESTIONS:
                await client.ask(question, corpus="mill", seconds=120)
        for name, passages, stored in corpora:
            before = held(pid)
            began = time.perf_counter()
            answer = await client.ask(QUESTIONS[0], corpus=name, seconds=120)
            first = time.perf_counter() - began
            if answer.fallbacks:
                raise RuntimeError(f"the first answer used a fallback: {answer.fallbacks}")
            seconds = []
            for turn in range(WARM):
                began = time.perf_counter()
                await client.ask(QUESTIONS[turn % len(QUESTIONS)], corpus=name)
                seconds.append(time.perf_counter() - began)
            grown = {deployment: bytes_ - before[deployment] for deployment, bytes_ in held(pid).items()}
            warm = 1000 * statistics.median(seconds)
            print(
                f"| {name[1:]} | {passages:,} | {stored / MB:.1f} | {first:.2f} | {warm:.1f} "
                f"| {grown['Recall'] / MB:.0f} | {grown['Retrieval'] / MB:.0f} |",
                flush=True,
            )


def held(pid: int) -> dict[str, int]:
    """Bytes of the replicas that hold corpora, by deployment."""
    found = dict.fromkeys(("Recall", "Retrieval"), 0)
    for row in tree(pid):
        for deployment in found:
            if title(row.pid).startswith("ray::ServeReplica") and f":{deployment}" in title(row.pid):
                found[deployment] += proportional_bytes(row.pid)
    return found


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxy", choices=PROXIES, default="serve")
    parser.add_argument("--documents", type=int, nargs="+", default=[60, 600, 3000])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        corpora = [make(home, documents) for documents in arguments.documents]
        with running(home, arguments.proxy) as service:
            pid = json.loads((home / "service.json").read_text(encoding="utf-8"))["pid"]
            asyncio.run(measure(service.url, pid, corpora))
    return 0


if __name__ == "__main__":
    sys.exit(main())
