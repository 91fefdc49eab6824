"""What one service bears: overhead of the ingress, questions at rising concurrency, and overload.

    python -m tests.benchmarks.serve_load [--proxy serve|haproxy] [--ingress 1 2] [--seconds 5]

The client runs on the same machine and takes its share of the cores, so rates are lower bounds; processor time per
request is the number that travels. Overload sends several times as many questions at once as the service admits.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import aiohttp

from tests.benchmarks.process_tree import title, tree
from tests.deployments.conftest import PROXIES, Service, running

QUESTIONS = ("Who founded the mill?", "When did the drying shed burn down?", "What did the mill make in 2017?")
CONCURRENCY = (1, 8, 32)
_PATIENCE = aiohttp.ClientTimeout(total=90)


@dataclass(slots=True)
class Sample:
    """What became of some requests."""

    wall: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """Of the answered ones."""
    statuses: Counter[str] = field(default_factory=Counter)
    without_retry_after: int = 0
    refusal_seconds: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.seconds) / self.wall

    def quantile(self, share: float, of: Sequence[float] | None = None) -> float:
        """Milliseconds within which a share of the requests was answered."""
        ordered = sorted(self.seconds if of is None else of)
        return 1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else float("nan")


class Processor(NamedTuple):
    """Seconds of processor time so far."""

    ingress: float
    proxy: float
    all: float

    @classmethod
    def of(cls, pid: int) -> Processor:
        """Of a service, by the kind of process."""
        used: Counter[str] = Counter()
        for row in tree(pid):
            name = title(row.pid)
            kind = "proxy" if row.name.startswith("haproxy") or name.startswith("ray::Proxy") else "other"
            used["ingress" if name.startswith("ray::ServeReplica") and ":Ingress" in name else kind] += row.cpu_seconds
        return cls(used["ingress"], used["proxy"], used.total())


async def drive(send: Callable[[int, Sample], Awaitable[None]], at_once: int, seconds: float) -> Sample:
    """Keep ``at_once`` requests under way for a while."""
    sample = Sample()
    began = time.perf_counter()

    async def one() -> None:
        number = 0
        while time.perf_counter() - began < seconds:
            await send(number, sample)
            number += 1

    await asyncio.gather(*(one() for _ in range(at_once)))
    sample.wall = time.perf_counter() - began
    return sample


def sender(session: aiohttp.ClientSession, path: str) -> Callable[[int, Sample], Awaitable[None]]:
    """What sends one request: a question to a path that answers some, else a plain read."""

    async def send(number: int, sample: Sample) -> None:
        body = {"question": QUESTIONS[number % len(QUESTIONS)]} if path.endswith("/ask") else None
        began = time.perf_counter()
        try:
            async with session.request("POST" if body else "GET", path, json=body) as response:
                await response.read()
                status, again = response.status, response.headers.get("Retry-After")
        except (aiohttp.ClientError, TimeoutError) as error:
            sample.statuses[type(error).__name__] += 1
            return
        took = time.perf_counter() - began
        sample.statuses[str(status)] += 1
        if status == 200:
            sample.seconds.append(took)
            return
        sample.refusal_seconds.append(took)
        sample.without_retry_after += again is None
        # A refused client waits a little, though far less than it is told to.
        await asyncio.sleep(0.1)

    return send


async def measure(service: Service, pid: int, seconds: float, overload: int) -> None:
    """Measure one running service; prints as it goes."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(service.url, connector=connector, timeout=_PATIENCE) as session:
        ask, plain = sender(session, "/v1/corpora/mill/ask"), sender(session, "/version")
        await drive(ask, 4, 3)  # warm
        await drive(plain, 4, 1)
        for name, send, at_once in (
            ("version", plain, 1),
            ("version", plain, 16),
            *(("ask", ask, number) for number in CONCURRENCY),
        ):
            before = Processor.of(pid)
            sample = await drive(send, at_once, seconds)
            say(_row(name, at_once, sample, before, Processor.of(pid)))
        await overloaded(ask, seconds, overload)


def _row(name: str, at_once: int, sample: Sample, before: Processor, after: Processor) -> dict[str, object]:
    count = max(len(sample.seconds), 1)
    used = {kind: round(1000 * (getattr(after, kind) - getattr(before, kind)) / count, 2) for kind in Processor._fields}
    return {
        "request": name,
        "at once": at_once,
        "p50 ms": round(sample.quantile(0.5), 1),
        "p99 ms": round(sample.quantile(0.99), 1),
        "per second": round(sample.rate, 1),
        "CPU ms ingress": used["ingress"],
        "CPU ms proxy": used["proxy"],
        "CPU ms all": used["all"],
        "not answered": sum(sample.statuses.values()) - len(sample.seconds),
    }


async def overloaded(ask: Callable[[int, Sample], Awaitable[None]], seconds: float, at_once: int) -> None:
    """Ask far too much at once; then wait until single questions are as fast as before."""
    usual = statistics.median((await drive(ask, 1, 2)).seconds)
    sample = await drive(ask, at_once, 2 * seconds)
    ended = time.perf_counter()
    quick = 0
    while quick < 3 and time.perf_counter() - ended < 60:
        one = Sample()
        await ask(0, one)
        quick = quick + 1 if one.seconds and one.seconds[0] < 2 * usual else 0
    say(
        {
            "at once": at_once,
            "results": dict(sample.statuses),
            "answered per second": round(sample.rate, 1),
            "p50 ms of answers": round(sample.quantile(0.5)),
            "p99 ms of answers": round(sample.quantile(0.99)),
            "p50 ms of refusals": round(sample.quantile(0.5, sample.refusal_seconds)),
            "refusals without Retry-After": sample.without_retry_after,
            "seconds until three answers within twice the usual time": round(time.perf_counter() - ended, 2),
        }
    )


def say(row: dict[str, object]) -> None:
    """Print one result."""
    sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxy", choices=PROXIES, default="serve")
    parser.add_argument("--ingress", type=int, nargs="+", default=[1, 2], help="replicas of the ingress")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement; overload takes twice as long")
    parser.add_argument("--overload", type=int, default=300, help="questions at once")
    arguments = parser.parse_args()
    for replicas in arguments.ingress:
        os.environ["LRAG_SERVICE__INGRESS__MINIMUM"] = str(replicas)
        with tempfile.TemporaryDirectory() as folder, running(Path(folder), arguments.proxy) as service:
            pid = json.loads((service.home / "service.json").read_text(encoding="utf-8"))["pid"]
            sys.stdout.write(f"proxy {arguments.proxy}, ingress replicas {replicas}\n")
            asyncio.run(measure(service, pid, arguments.seconds, arguments.overload))
    return 0


if __name__ == "__main__":
    sys.exit(main())
