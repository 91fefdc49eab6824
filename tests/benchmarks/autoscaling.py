"""Whether every deployment gets replicas for its own kind of work, and gives them back.

    python -m tests.benchmarks.autoscaling [--plot FILE] [--seconds 40] [--json]

A step of load is put on a service and taken away again: questions to a model that takes its time (tokens in hand for
generation, requests in hand for recall), which use a corpus (bytes in use for retrieval), and passages to compress
(requests in hand for compression); all of it passes the ingress. Targets are small, so that a laptop reaches them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
from prometheus_client.parser import text_string_to_metric_families

from tests.benchmarks.serving import Served, prepared, up
from tests.lightrag.models.remote.conftest import Server, serving

SIGNALS = {
    "Ingress": "requests in hand / 4",
    "Recall": "requests in hand / 0.25",
    "Retrieval": "bytes of corpora in use / target",
    "Compression": "requests in hand / 0.5",
    "Generation": "tokens in hand / 1000",
}
SETTINGS = {
    "SERVICE__SCALE_UP_SECONDS": "2",
    "SERVICE__SCALE_DOWN_SECONDS": "8",
    "SERVICE__INGRESS__MAXIMUM": "2",
    "SERVICE__INGRESS__TARGET_REQUESTS": "4",
    "SERVICE__RECALL__MAXIMUM": "2",
    "SERVICE__RECALL__TARGET_REQUESTS": "0.25",
    "SERVICE__RETRIEVAL__MAXIMUM": "2",
    "SERVICE__RETRIEVAL__TARGET_REQUESTS": "1000",
    "SERVICE__RETRIEVAL__TARGET_BYTES": "10000",
    "SERVICE__COMPRESSION__MAXIMUM": "2",
    "SERVICE__COMPRESSION__TARGET_REQUESTS": "0.5",
    "SERVICE__GENERATION__MAXIMUM": "3",
    "SERVICE__GENERATION__TARGET_REQUESTS": "1000",
    "SERVICE__GENERATION__TARGET_TOKENS": "1000",
    "GENERATOR__BACKEND": "openai",
    "GENERATOR__MODEL": "slow",
    "GENERATOR__API_KEY": "none",
    **{f"DEADLINES__{stage}": "120" for stage in ("REQUEST", "RECALL", "RETRIEVE", "COMPRESS")},
}
PAGES = {f"page-{number}.txt": f"The keeper of mill {number} is called Ada Lind. " * 40 for number in range(40)}
ASKERS = 8
PRESSERS = 6
WORD_SECONDS = 0.8
APART_SECONDS = 1.5
"""Between the first questions, so that some are in every stage at any time."""
GIVE_BACK_SECONDS = 120.0


@dataclass(slots=True)
class Watch:
    """What was seen, by deployment, at each moment."""

    moments: list[float] = field(default_factory=list)
    replicas: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    signals: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failures: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    came: float = 0.0
    """When the load came."""
    stopped: float = 0.0
    """When it was taken away."""

    def settled(self) -> bool:
        """Whether every deployment is back at one replica."""
        return all(counts[-1] == 1 for counts in self.replicas.values())


def count_replicas(pid: int) -> Counter[str]:
    """Replicas that run, by deployment."""
    found: Counter[str] = Counter()
    for process in psutil.Process(pid).children(recursive=True):
        try:
            match = re.match(r"ray::ServeReplica:lightrag:(\w+)", " ".join(process.cmdline()))
        except psutil.Error:  # it has just ended
            continue
        if match and match[1] in SIGNALS:
            found[match[1]] += 1
    return found


def read_signals(text: str, in_hand: int) -> dict[str, float]:
    """For how many replicas there is work, by deployment."""
    requests: Counter[str] = Counter()
    demand: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "lightrag_stage_requests":
                requests[sample.labels["stage"]] += sample.value
            if sample.name == "lightrag_stage_demand":
                demand[f"{sample.labels['stage']} {sample.labels['signal']}"] += sample.value
    return {
        "Ingress": in_hand / 4,
        "Recall": requests["recall"] / 0.25,
        "Retrieval": demand["retrieve bytes"],
        "Compression": requests["compress"] / 0.5,
        "Generation": demand["generate tokens"],
    }


async def load(client: httpx.AsyncClient, watch: Watch, seconds: float, in_hand: list[int]) -> None:
    """Put the step of load on the service."""
    ends = time.monotonic() + seconds
    question = {"question": "Who keeps mill 7?", "max_tokens": 200}
    passages = {"passages": list(PAGES.values())[:8], "budget": 200, "query": "Who keeps mill 7?"}

    async def repeat(send: Callable[[], Awaitable[httpx.Response]], number: int) -> None:
        await asyncio.sleep(number * APART_SECONDS)
        while time.monotonic() < ends:
            in_hand[0] += 1
            try:
                response = await send()
            finally:
                in_hand[0] -= 1
            watch.answered += response.status_code == 200
            if response.status_code != 200:
                watch.failures[f"{response.status_code}: {response.text[:120]}"] += 1

    async with asyncio.TaskGroup() as group:
        for number in range(ASKERS):
            group.create_task(repeat(lambda: client.post("/v1/corpora/mills/ask", json=question), number))
        for number in range(PRESSERS):
            group.create_task(repeat(lambda: client.post("/v1/compress", json=passages), number))


async def run(served: Served, seconds: float) -> Watch:
    """Watch the service before, during and after the load."""
    watch = Watch()
    pid = int(json.loads((served.home / "service.json").read_text(encoding="utf-8"))["pid"])
    began = time.monotonic()
    in_hand = [0]
    async with httpx.AsyncClient(base_url=served.url, timeout=180, trust_env=False) as client:

        async def look() -> None:
            text = (await client.get("/metrics")).text
            counts = await asyncio.to_thread(count_replicas, pid)
            watch.moments.append(time.monotonic() - began)
            for name, value in read_signals(text, in_hand[0]).items():
                watch.signals[name].append(value)
                watch.replicas[name].append(counts[name])
            await asyncio.sleep(0.5)

        await look()
        # Warming up is work, too.
        while not watch.settled() and watch.moments[-1] < GIVE_BACK_SECONDS:
            await look()
        for _ in range(4):
            await look()
        watch.came = watch.moments[-1]
        working = asyncio.create_task(load(client, watch, seconds, in_hand))
        while not working.done():
            await look()
        await working
        watch.stopped = time.monotonic() - began
        while not watch.settled() and time.monotonic() - began < watch.stopped + GIVE_BACK_SECONDS:
            await look()
        for _ in range(4):
            await look()
    return watch


def plot(watch: Watch, path: Path) -> None:
    """Draw replicas and signal of every deployment over time."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(len(SIGNALS), 1, figsize=(8, 10), sharex=True, layout="constrained")
    for axis, (name, signal) in zip(axes, SIGNALS.items(), strict=True):
        axis.axvspan(watch.came, watch.stopped, color="0.92")
        axis.plot(watch.moments, watch.signals[name], color="tab:orange", linewidth=1, label=f"asked for: {signal}")
        axis.step(watch.moments, watch.replicas[name], where="post", color="tab:blue", linewidth=2, label="replicas")
        axis.set_title(name, loc="left", fontsize=10)
        axis.set_ylim(0, max(3.4, min(6, 1.1 * max(watch.signals[name]))))
        axis.legend(loc="upper right", fontsize=8, frameon=False)
    axes[-1].set_xlabel("seconds (grey: under load)")
    figure.savefig(path, dpi=110)


def report(watch: Watch) -> dict[str, dict[str, float]]:
    """When each deployment grew and shrank, in seconds after the load came and went."""
    table = {}
    for name, counts in watch.replicas.items():
        seen = zip(watch.moments, counts, strict=True)
        grown = next((at for at, count in seen if count > 1 and at > watch.came), float("nan"))
        last = max((at for at, count in zip(watch.moments, counts, strict=True) if count > 1), default=float("nan"))
        table[name] = {"most": max(counts), "grew": grown - watch.came, "back": last - watch.stopped, "now": counts[-1]}
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0 where every deployment grew and came back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--seconds", type=float, default=40.0, help="of load")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    model: Server
    with serving() as model, prepared(**SETTINGS, GENERATOR__BASE_URL=model.url) as served:
        served.ingest(PAGES, "mills", LRAG_GENERATOR__BACKEND="extractive")
        with up(served):
            model.seconds = WORD_SECONDS
            watch = asyncio.run(run(served, given.seconds))
    table = report(watch)
    if given.plot:
        plot(watch, given.plot)
    if given.json:
        sys.stdout.write(
            json.dumps({"deployments": table, "answered": watch.answered, "failed": watch.failures}) + "\n"
        )
    else:
        for name, row in table.items():
            sys.stdout.write(
                f"{name:12} at most {row['most']:.0f} replicas, the second {row['grew']:5.1f} s after the load came, "
                f"gone {row['back']:5.1f} s after it went\n"
            )
        sys.stdout.write(f"{watch.answered} requests answered, {sum(watch.failures.values())} failed\n")
    return 0 if all(row["most"] > 1 and row["now"] == 1 for row in table.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
