"""What more workers bring to ingestion, and what a corpus costs that has hardly changed.

Run from the project's root::

    python -m tests.benchmarks.ingest_throughput workers --megabytes 5      # a plain loop against Ray with 1 and 2
    python -m tests.benchmarks.ingest_throughput again --documents 10000    # unchanged, and with 1 % changed

Whole processes are compared, start-up included, with the bundled embedder and one thread for each worker. ``workers``
prints two efficiencies. By CPU: the plain loop's processor seconds over those of all processes with Ray; it hardly
depends on what else the machine does. By clock: the plain loop's seconds over workers times seconds with Ray; it needs
an idle machine with more cores than workers. ``again`` runs without Ray, on documents of 200 English words at random.
Vectors come from hashes there, so that ten thousand documents take minutes instead of half an hour; all other stages,
the index and the gists are those of the product. That is the harder case: with the bundled model, which
``--bundled`` takes, the first run costs many times as much and the others hardly more.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.ingest_cost import write_corpus
from tests.benchmarks.process_tree import Cost, measure

SHORT_BYTES = 1200
"""Of a document of 200 words."""


def compare_workers(megabytes: float, workers: list[int]) -> None:
    """Ingest one corpus by a plain loop, and on Ray with several numbers of workers."""
    with tempfile.TemporaryDirectory() as scratch:
        write_corpus(Path(scratch, "corpus"), megabytes)
        loop = _ingest("plain loop", scratch, "loop", "--local")
        for count in workers:
            run = _ingest(f"Ray Data, {count}", scratch, f"ray{count}", workers=count)
            by_cpu = loop.cpu_seconds / run.cpu_seconds
            by_clock = loop.wall_seconds / (count * run.wall_seconds)
            print(f"   efficiency {by_cpu:.2f} by CPU, {by_clock:.2f} by clock (target 0.8)", flush=True)


def compare_again(documents: int, *, bundled: bool) -> None:
    """Ingest short documents, ingest them again, change one in a hundred and ingest them once more."""
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch, "corpus")
        count = write_corpus(corpus, documents * SHORT_BYTES / 1e6, file_bytes=SHORT_BYTES)
        print(f"{count:,} documents")
        first = _ingest("first", scratch, "home", "--local", hashed=not bundled)
        same = _ingest("unchanged", scratch, "home", "--local", hashed=not bundled)
        for number in range(0, count, 100):
            path = corpus / f"{number:05d}.txt"
            path.write_text(path.read_text(encoding="utf-8") + "\n\nThe pier was painted green.", encoding="utf-8")
        changed = _ingest("1 % changed", scratch, "home", "--local", hashed=not bundled)
    print(f"unchanged   / first {same.cpu_seconds / first.cpu_seconds:.4f} of CPU (target 0.02)")
    print(f"1 % changed / first {changed.cpu_seconds / first.cpu_seconds:.4f} of CPU (target 0.05)")


def _ingest(name: str, scratch: str, home: str, *options: str, workers: int = 1, hashed: bool = False) -> Cost:
    if hashed:
        command = [sys.executable, "-m", "tests.benchmarks.ingest_cost", "hashed", f"{scratch}/corpus", *options]
    else:
        command = [sys.executable, "-m", "pipelines.ingest", f"{scratch}/corpus", "--corpus", "bench", *options]
    environment = {
        **os.environ,
        "LRAG_HOME": f"{scratch}/{home}",
        "LRAG_INGEST__EMBED_WORKERS": str(workers),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    cost = measure(command, env=environment, memory=False)
    print(f"{name:<14} {cost.cpu_seconds:8.1f} CPU s {cost.wall_seconds:8.1f} s by clock", flush=True)
    return cost


def main() -> None:
    """Read arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    workers = commands.add_parser("workers")
    workers.add_argument("--megabytes", type=float, default=5)
    workers.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    again = commands.add_parser("again")
    again.add_argument("--documents", type=int, default=10_000)
    again.add_argument("--bundled", action="store_true", help="embed with the bundled model: half an hour")
    parsed = parser.parse_args()
    if parsed.command == "workers":
        compare_workers(parsed.megabytes, parsed.workers)
    else:
        compare_again(parsed.documents, bundled=parsed.bundled)


if __name__ == "__main__":
    main()
