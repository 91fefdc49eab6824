"""Memory and disk per entry: a memory of some thousand entries beside the published store of the same facts.

Run ``python -m tests.benchmarks.conversation_footprint`` (``--entries 5000``). Each side is filled in one process and
measured in another, which opens it and searches once: the growth of its own memory (``RssAnon``), and the blocks on
disk. Pages of mapped files are left out on both sides: they are the system's cache, which it takes back at will.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lightrag.conversation import LightMemory
from lightrag.models.fakes import HashingEmbedder

DIMENSION = 384
NAMES = ("garden", "boat", "piano", "sister", "train", "winter", "soup", "doctor", "bicycle", "cousin", "window")


def fact(n: int) -> str:
    return f"The {NAMES[n % 11]} of my {NAMES[n % 7]} was number {n}, and we talked about it with {n % 97} friends."


def open_ours(folder: Path) -> LightMemory:
    """Facts only, as the published store holds them."""
    store = {"model_name": "qdrant", "configs": {"path": str(folder)}}
    config = {"embedding_retriever": store, "retrieve_turns": False}
    return LightMemory.from_config(config, embedder=HashingEmbedder(DIMENSION))


def open_published(folder: Path) -> Any:
    from qdrant_client import QdrantClient

    return QdrantClient(path=str(folder))


def fill_ours(folder: Path, entries: int) -> None:
    with open_ours(folder) as memory:
        for start in range(0, entries, 500):
            part = range(start, min(start + 500, entries))
            day = f"2024-{start // 500 % 12 + 1:02d}-01"
            messages = [{"role": "user", "content": fact(n), "time_stamp": day} for n in part]
            report = memory.add_memory(messages, force_extract=True)
            assert not report.problems
            assert len(report.entries) == len(part)


def fill_published(folder: Path, entries: int) -> None:
    """A point per fact with the payload that is published: many fields, most of them empty."""
    import asyncio
    from uuid import uuid4

    from qdrant_client import models

    embedder = HashingEmbedder(DIMENSION)
    client = open_published(folder)
    client.create_collection("m", models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE))
    empty = ("topic_summary", "category", "subcategory", "memory_class", "original_memory", "compressed_memory")
    for start in range(0, entries, 500):
        numbers = range(start, min(start + 500, entries))
        vectors = asyncio.run(embedder.embed([fact(n) for n in numbers]))
        points = [
            models.PointStruct(
                id=str(uuid4()),
                vector=vector.tolist(),
                payload={
                    "time_stamp": f"2024-01-01T00:00:{n % 60:02d}.000",
                    "float_time_stamp": 1.7e9 + n,
                    "weekday": "Mon",
                    "topic_id": n // 10,
                    "memory": fact(n),
                    "speaker_id": "unknown",
                    "speaker_name": "Unknown",
                    "consolidated": False,
                    "update_queue": [],
                    "bam_tags": [],
                    **dict.fromkeys(empty, ""),
                },
            )
            for n, vector in zip(numbers, vectors, strict=True)
        ]
        client.upsert("m", points)
    client.close()


def own_memory() -> int:
    """Anonymous resident memory of this process in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])


def measure(side: str, folder: Path) -> dict[str, float]:
    """Open, search once, and report how much the process grew; everything that is loaded once is loaded before."""
    import asyncio

    embedder = HashingEmbedder(DIMENSION)
    query = asyncio.run(embedder.embed(["the winter of my sister"], "query"))[0]
    with tempfile.TemporaryDirectory() as other:
        # The libraries and their caches, on a store of a few entries.
        (fill_ours if side == "ours" else fill_published)(Path(other), 20)
    gc.collect()
    before = own_memory()
    if side == "ours":
        memory: Any = open_ours(folder)
        assert memory.search("the winter of my sister", limit=10).entries
    else:
        memory = open_published(folder)
        memory.query_points("m", query=query.tolist(), limit=10)
    gc.collect()
    grown = own_memory() - before
    memory.close()
    disk = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    return {"memory": float(grown), "disk": float(disk)}


def footprint(entries: int) -> list[dict[str, Any]]:
    """Rows for both sides, each in processes of its own."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for side in ("published", "ours"):
            place = Path(folder) / side
            for step in ("fill", "measure"):
                command = [sys.executable, "-m", "tests.benchmarks.conversation_footprint", "--step", step]
                command += ["--side", side, "--folder", str(place), "--entries", str(entries)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=True)
            found[side] = json.loads(done.stdout.splitlines()[-1])
    rows = []
    for kind in ("memory", "disk"):
        published, ours = (found[side][kind] / entries / 1000 for side in ("published", "ours"))
        name = f"{kind} per entry at {entries}"
        print(f"{name}: published {published:.2f} kB, ours {ours:.2f} kB, {published / ours:.2f}x less (target 2x)")
        rows.append({"name": name, "published": published, "ours": ours, "unit": "kB", "target": 2})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=5000)
    parser.add_argument("--step", choices=("fill", "measure"))
    parser.add_argument("--side", choices=("published", "ours"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.step == "fill":
        (fill_ours if options.side == "ours" else fill_published)(options.folder, options.entries)
    elif options.step == "measure":
        print(json.dumps(measure(options.side, options.folder)))
    else:
        footprint(options.entries)


if __name__ == "__main__":
    main()
