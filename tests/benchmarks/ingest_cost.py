"""What Ray Data adds to ingestion: CPU against the same stages in a plain loop, and memory against corpus size.

Run from the project's root::

    python -m tests.benchmarks.ingest_cost cost --megabytes 5      # about four minutes on two cores
    python -m tests.benchmarks.ingest_cost memory                  # 5 MB against 50 MB, hashed vectors

``cost`` embeds with the bundled model and compares whole processes, start-up included. ``memory`` compares the highest
proportional memory of all processes; vectors come from hashes there, because the real model's memory does not depend
on the corpus and its time does. Corpora are generated: English words at random, as frequent as their ranks say.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.process_tree import Cost, measure

MIB = 1024 * 1024

_TEXT = """the of and to in a is that for it as was with be by on not he his but at are this have from or had an they
which one you were her all she there would their we him been has when who will more no if out so said what up its about
into than them can only other new some could time these two may then do first any my now such like our over man me even
most made after also did many before must through back years where much your way well down should because each just
those people how too little state good very make world still own see men work long get here between both life being
under never day same another know while last might us great old year off come since against go came right used take
three states himself few house use during without again place around however home small found thought went say part
once general high upon school every war water council harbour winter bridge company report river market engine village
minister library ledger voyage contract orchard railway physician treaty lantern quarry festival parliament copper
granary shipment archive lighthouse professor drought merchant cathedral canal expedition glacier manuscript textile
election furnace inspector harvest monastery observatory province senate tariff warehouse"""
_WORDS = _TEXT.split()


def write_corpus(folder: Path, megabytes: float, *, seed: int = 1, file_bytes: int = 40_000) -> int:
    """Write text files with ``megabytes`` in all; returns their number."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = random.Random(seed)
    weights = [1 / rank for rank in range(1, len(_WORDS) + 1)]
    count = max(1, round(megabytes * 1_000_000 / file_bytes))
    for number in range(count):
        paragraphs, size = [], 0
        while size < file_bytes:
            sentences = []
            for _ in range(5):
                picked = generator.choices(_WORDS, weights, k=generator.randint(8, 22))
                sentences.append(" ".join(picked).capitalize() + ".")
            paragraphs.append(" ".join(sentences))
            size += len(paragraphs[-1]) + 2
        (folder / f"{number:05d}.txt").write_text("\n\n".join(paragraphs), encoding="utf-8")
    return count


def compare_cost(megabytes: float) -> None:
    """Ingest the same corpus by a plain loop and on Ray."""
    with tempfile.TemporaryDirectory() as scratch:
        write_corpus(Path(scratch, "corpus"), megabytes)
        loop = _ingest("plain loop", scratch, "loop", "--local")
        cluster = _ingest("Ray Data", scratch, "ray")
        again = _ingest("again, unchanged", scratch, "ray")
    print(f"CPU ratio {cluster.cpu_seconds / loop.cpu_seconds:.3f} (target 1.25 at 5 MB)")
    print(f"again / first {again.cpu_seconds / cluster.cpu_seconds:.3f}")


def compare_memory(sizes: list[float], *, local: bool) -> None:
    """Ingest corpora of several sizes on Ray and compare peaks."""
    for megabytes in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            write_corpus(Path(scratch, "corpus"), megabytes)
            script = [sys.executable, "-m", "tests.benchmarks.ingest_cost", "hashed", f"{scratch}/corpus"]
            cost = measure([*script, "--local"] if local else script, env=_environment(scratch, "hashed"))
        _show(f"{megabytes:g} MB", cost)
        print(f"   while workers ran {cost.peak_with_workers / MIB:,.0f} MiB; then the index, which is held in memory")
        print("   peak by process: " + ", ".join(f"{n} {b / MIB:,.0f}" for n, b in list(cost.peak_by_name.items())[:8]))


def ingest_hashed(folder: str, *, local: bool) -> None:
    """Ingest with an embedder that has no weights, on the pools of a large job whatever the size."""
    from lightrag.config import load_settings
    from lightrag.ingestion import IngestSpec, Line, SourceSpec, ingest
    from lightrag.ingestion.line import Receipt, Unit, run_locally
    from lightrag.models import HashingEmbedder

    def large(units: Sequence[Unit], line: Line) -> Iterator[Receipt]:
        from pipelines.cluster import cluster
        from pipelines.stations import choose_pools, run_on_ray

        pools = choose_pools(line.settings, 10**12, len(units))
        with cluster(cpus=sum(pool.workers * pool.cpus for pool in pools)):
            yield from run_on_ray(units, line, pools)

    spec = IngestSpec(corpus="bench", source=SourceSpec(location=folder))
    with Line(load_settings(), spec, embedder=HashingEmbedder()) as line:
        print(ingest(line, schedule=run_locally if local else large).to_json())


def _ingest(name: str, scratch: str, home: str, *options: str) -> Cost:
    command = [sys.executable, "-m", "pipelines.ingest", f"{scratch}/corpus", "--corpus", "bench", *options]
    cost = measure(command, env=_environment(scratch, home), memory=False)
    _show(name, cost)
    return cost


def _environment(scratch: str, home: str) -> dict[str, str]:
    return {**os.environ, "LRAG_HOME": f"{scratch}/{home}", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _show(name: str, cost: Cost) -> None:
    print(
        f"{name:<18} {cost.cpu_seconds:8.1f} CPU s {cost.wall_seconds:8.1f} s wall"
        + (f" {cost.peak_bytes / MIB:8,.0f} MiB peak" if cost.peak_bytes else "")
    )
    print("   CPU by process: " + ", ".join(f"{n} {s:.1f}" for n, s in list(cost.cpu_by_name.items())[:8]), flush=True)


def main() -> None:
    """Read arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    cost = commands.add_parser("cost")
    cost.add_argument("--megabytes", type=float, default=5)
    memory = commands.add_parser("memory")
    memory.add_argument("--megabytes", type=float, nargs="+", default=[5, 50])
    memory.add_argument("--local", action="store_true")
    hashed = commands.add_parser("hashed")
    hashed.add_argument("folder")
    hashed.add_argument("--local", action="store_true")
    parsed = parser.parse_args()
    if parsed.command == "cost":
        compare_cost(parsed.megabytes)
    elif parsed.command == "memory":
        compare_memory(parsed.megabytes, local=parsed.local)
    else:
        ingest_hashed(parsed.folder, local=parsed.local)


if __name__ == "__main__":
    main()
