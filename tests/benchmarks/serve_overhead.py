"""What a warm ``ask`` costs through HTTP and the Serve graph, beyond the same call in process.

    python -m tests.benchmarks.serve_overhead [--proxy serve|haproxy] [--questions 200]

Both ways answer the same questions over the same corpus, in turns, so that a change of the machine's speed meets both.
The times of the embedder are left out of neither: the difference of the medians is what the graph adds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lightrag.client import AsyncClient
from lightrag.config import load_settings
from lightrag.engine import Engine

QUESTIONS = (
    "Who founded the mill?",
    "When did the drying shed burn down?",
    "What did the mill make in 2017?",
    "Who is the harbour master?",
)
PAGES = {
    "mill.txt": "The mill by the river was founded in 1874 by Ada Lind.\n\nIn March 1901 the drying shed burned.\n",
    "paper.txt": "In 2016 the mill made 90 tonnes.\n\nIn 2017 it made 120 tonnes.\n",
    "harbour.txt": "The harbour master is called Nils Berg. He keeps two dogs.\n",
}
TARGETS = {"serve": 15.0, "haproxy": 6.0}
"""Milliseconds that the graph may add, at the median."""


async def measure(home: Path, url: str, rounds: int) -> tuple[list[float], list[float]]:
    """Time both ways in turns; returns seconds in process and through the service."""
    inside: list[float] = []
    outside: list[float] = []
    async with Engine(load_settings(home=home)) as engine, AsyncClient(url) as client:
        for question in QUESTIONS * 5:  # warm both ways
            await engine.ask(question, corpus="mill")
            await client.ask(question, corpus="mill")
        for turn in range(rounds):
            question = QUESTIONS[turn % len(QUESTIONS)]
            started = time.perf_counter()
            await engine.ask(question, corpus="mill")
            between = time.perf_counter()
            await client.ask(question, corpus="mill")
            inside.append(between - started)
            outside.append(time.perf_counter() - between)
    return inside, outside


def main() -> int:
    """Run the benchmark and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--proxy", choices=sorted(TARGETS), default="serve")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        os.environ |= {"LRAG_HOME": folder, "LRAG_SERVICE__PORT": port, "LRAG_SERVICE__PROXY": arguments.proxy}
        pages = home / "pages"
        pages.mkdir()
        for name, text in PAGES.items():
            (pages / name).write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "lightrag.cli"]
        subprocess.run([*command, "ingest", str(pages), "--corpus", "mill", "--local", "--json"], check=True)
        subprocess.run([*command, "up"], check=True)
        try:
            inside, outside = asyncio.run(measure(home, f"http://127.0.0.1:{port}", arguments.questions))
        finally:
            subprocess.run([*command, "down"], check=True)
    milliseconds = {name: 1000 * statistics.median(times) for name, times in (("inside", inside), ("outside", outside))}
    added = 1000 * statistics.median(b - a for a, b in zip(inside, outside, strict=True))
    result = {"proxy": arguments.proxy, **milliseconds, "added": added, "target": TARGETS[arguments.proxy]}
    if arguments.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        sys.stdout.write(
            f"proxy {arguments.proxy}: in process {milliseconds['inside']:.1f} ms, through the service "
            f"{milliseconds['outside']:.1f} ms, added {added:.1f} ms (median; target {TARGETS[arguments.proxy]:g} ms)\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
