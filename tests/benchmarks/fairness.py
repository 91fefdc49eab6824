"""What a burst of one tenant does to the answers of another one.

    python -m tests.benchmarks.fairness [--questions 200] [--burst 32] [--slots-beside-others 24] [--json]

A service that asks for keys answers a quiet tenant, who asks one question after the other, alone and while a loud one
keeps many questions waiting. Both ways alternate, so that a change of the machine's speed meets both. Before any of it
the loud tenant has the service to itself for a while: what it gives up afterwards is what it had taken from others.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.benchmarks.serving import Served, prepared, up

PAGES = {
    "mill.txt": "The mill by the river was founded in 1874 by Ada Lind.\n\nIn March 1901 the drying shed burned.\n",
    "paper.txt": "In 2016 the mill made 90 tonnes.\n\nIn 2017 it made 120 tonnes.\n",
    "harbour.txt": "The harbour master is called Nils Berg. He keeps two dogs.\n",
}
QUESTIONS = ("Who founded the mill?", "When did the drying shed burn down?", "What did the mill make in 2017?")
TURNS = 4
ALONE_SECONDS = 15.0
TARGET = 2.0
"""How many times slower the slowest hundredth of the quiet tenant's answers may become."""


@dataclass(slots=True)
class Seen:
    """What both tenants saw."""

    alone: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    loud: int = 0
    """Answers of the loud tenant during its bursts."""
    loud_seconds: float = 0.0
    loud_alone: float = 0.0
    """Answers per second of the loud tenant before the other one came."""
    refused: int = 0
    """Its requests that were turned away."""


def percentile(seconds: Sequence[float], percent: int) -> float:
    """A percentile in milliseconds."""
    return 1000 * statistics.quantiles(seconds, n=100, method="inclusive")[percent - 1]


async def ask(client: httpx.AsyncClient, number: int) -> int:
    """Ask one question; returns the status."""
    body = {"question": QUESTIONS[number % len(QUESTIONS)]}
    return (await client.post("/v1/corpora/mill/ask", json=body)).status_code


async def quiet(client: httpx.AsyncClient, questions: int, seconds: list[float]) -> None:
    """Ask one question after the other."""
    for number in range(questions):
        began = time.perf_counter()
        status = await ask(client, number)
        if status != 200:
            raise RuntimeError(f"the quiet tenant got {status}")
        seconds.append(time.perf_counter() - began)


@asynccontextmanager
async def burst(client: httpx.AsyncClient, askers: int, seen: Seen) -> AsyncIterator[None]:
    """Keep questions of the loud tenant waiting while the body runs."""
    over = asyncio.Event()

    async def repeat() -> None:
        while not over.is_set():
            status = await ask(client, 0)
            seen.loud += status == 200
            if status != 200:
                seen.refused += 1
                await asyncio.sleep(0.2)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(askers):
            group.create_task(repeat())
        await asyncio.sleep(0.5)
        try:
            yield
        finally:
            over.set()
    seen.loud_seconds += time.perf_counter() - began


async def measure(url: str, keys: Sequence[str], questions: int, askers: int) -> Seen:
    """Ask alone and beside the burst, in turns."""
    seen = Seen()
    limits = httpx.Limits(max_connections=askers + 8)
    calm, loud = (
        httpx.AsyncClient(
            base_url=url, timeout=120, trust_env=False, limits=limits, headers={"Authorization": f"Bearer {key}"}
        )
        for key in keys
    )
    async with calm, loud:
        await asyncio.gather(*(ask(loud, number) for number in range(3)))
        alone = Seen()
        async with burst(loud, askers, alone):
            await asyncio.sleep(ALONE_SECONDS)
        seen.loud_alone = alone.loud / alone.loud_seconds
        await quiet(calm, 20, [])
        for _ in range(TURNS):
            await quiet(calm, questions // TURNS, seen.alone)
            async with burst(loud, askers, seen):
                await quiet(calm, questions // TURNS, seen.beside)
    return seen


def make_tenants(served: Served) -> list[str]:
    """Make a quiet and a loud tenant with a corpus each; returns their keys."""
    keys = []
    for tenant in ("quiet", "loud"):
        served.lightrag("tenants", "create", tenant)
        made = json.loads(served.lightrag("keys", "create", "benchmark", "--tenant", tenant, "--json"))
        keys.append(str(made["text"]))
        served.ingest(PAGES, "mill", LRAG_TENANT=tenant)
    return keys


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0 where the quiet tenant was hardly disturbed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=200, help="of the quiet tenant, each way")
    parser.add_argument("--burst", type=int, default=32, help="questions that the loud tenant keeps waiting")
    parser.add_argument("--slots-beside-others", type=int, help="of a tenant while others ask; as by default")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    settings = {"TENANCY__AUTHENTICATION": "keys", "TENANCY__QUEUE_SECONDS": "60"}
    if given.slots_beside_others:
        settings["TENANCY__SLOTS_BESIDE_OTHERS"] = str(given.slots_beside_others)
    with prepared(**settings) as served:
        keys = make_tenants(served)
        with up(served):
            seen = asyncio.run(measure(served.url, keys, given.questions, given.burst))
    rows = {name: [percentile(times, at) for at in (50, 99)] for name, times in _named(seen).items()}
    ratio = rows["beside"][1] / rows["alone"][1]
    result = {
        **rows,
        "ratio": ratio,
        "target": TARGET,
        "loud_per_second": seen.loud / seen.loud_seconds,
        "loud_per_second_alone": seen.loud_alone,
        "refused": seen.refused,
    }
    if given.json:
        sys.stdout.write(json.dumps(result) + "\n")
    else:
        for name, (middle, slow) in rows.items():
            sys.stdout.write(f"quiet tenant {name:6}: p50 {middle:6.1f} ms, p99 {slow:6.1f} ms\n")
        sys.stdout.write(
            f"p99 {ratio:.2f} times as long (target {TARGET:g})\n"
            f"loud tenant: {seen.loud / seen.loud_seconds:.1f} answers a second, {seen.loud_alone:.1f} alone; "
            f"{seen.refused} requests refused\n"
        )
    return 0 if ratio <= TARGET else 1


def _named(seen: Seen) -> dict[str, list[float]]:
    return {"alone": seen.alone, "beside": seen.beside}


if __name__ == "__main__":
    sys.exit(main())
