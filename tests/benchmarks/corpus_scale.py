"""The constants from which the cost of a corpus of any size follows: ``python -m tests.benchmarks.corpus_scale``.

``bytes`` ingests documents of 500 English words and prints what each costs in storage and in processor time, by kind of
file and by stage. ``commits`` makes versions of up to 200,000 files, adds one more, and prints what a commit weighs.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from blake3 import blake3

from lightrag.config import load_settings
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.storage.commits import FileEntry, FileSet
from lightrag.storage.layout import Layout
from lightrag.storage.manifests import Manifests
from lightrag.storage.objects import MIB, open_object_store
from lightrag.types import CorpusId
from tests.benchmarks.ingest_cost import write_corpus

DOCUMENT_BYTES = 3000
ROLES = ("documents", "chunks", "gists", "index", "errors")


def measure_bytes(documents: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        docs = Path(folder, "docs")
        documents = write_corpus(docs, documents * DOCUMENT_BYTES / 1e6, file_bytes=DOCUMENT_BYTES)
        spec = IngestSpec(corpus="scale", source=SourceSpec(location=str(docs)))
        with Line(load_settings(None, home=Path(folder, "home")), spec) as line:
            summary = ingest(line)
            commit = line.log.latest()
            assert commit is not None
            sizes = {role: sum(entry.size for entry in line.log.files(commit, role)) for role in ROLES}
    print(
        f"{documents:,} documents, each {summary.processed_bytes / documents:,.0f} bytes, "
        f"{summary.tokens / documents:,.0f} tokens in {summary.chunks / documents:.2f} chunks"
    )
    print("stored bytes per document: ", {role: round(size / documents) for role, size in sizes.items()})
    print(
        "CPU ms per document:       ",
        {name: round(1000 * s / documents, 1) for name, s in summary.stage_seconds.items()},
    )
    print("clock ms per document:     ", {name: round(1000 * s / documents, 1) for name, s in summary.seconds.items()})


def measure_commits() -> None:
    print(f"{'files':>8}  commit KB  manifests  their MB   one file more: objects  KB    ms")
    for count in (100, 1_000, 10_000, 200_000):
        store = open_object_store("memory://")
        layout = Layout(CorpusId("default", "scale"))
        manifests = Manifests(store, layout)
        files = manifests.changed(FileSet(), [_entry(number) for number in range(count)], [])
        before = {info.path: info.size for info in store.list("")}
        began = time.perf_counter()
        files = manifests.changed(files, [_entry(count)], [])
        milliseconds = 1000 * (time.perf_counter() - began)
        added = [info.size for info in store.list("") if info.path not in before]
        head = len(files.model_dump_json(exclude_defaults=True))
        print(
            f"{count:>8,}  {head / 1e3:>9.1f}  {len(before):>9,}  {sum(before.values()) / 1e6:>8.1f}"
            f"  {len(added):>23}  {sum(added) / 1e3:>5.0f}  {milliseconds:>4.0f}"
        )


def _entry(number: int) -> FileEntry:
    digest = blake3(str(number).encode()).hexdigest()
    return FileEntry(
        role="chunks",
        name=f"{number:010d}.parquet",
        path=f"chunks/{digest[:16]}-{number:010d}.parquet",
        size=64 * MIB,
        blake3=digest,
        part_bytes=8 * MIB,
        rows=26_000,
        version=1,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", choices=["bytes", "commits"], default=["bytes", "commits"])
    parser.add_argument("--documents", type=int, default=100)
    parsed = parser.parse_args()
    if "commits" in parsed.what:
        measure_commits()
    if "bytes" in parsed.what:
        measure_bytes(parsed.documents)


if __name__ == "__main__":
    main()
