"""What clients notice when parts of the service are killed under load, on three nodes of this machine.

    python -m tests.benchmarks.serve_chaos [--proxy serve|haproxy] [--replicas 2] [--victims Retrieval node ...]

The first node has Serve's controller and the proxy, the other two have the replicas; a node that is killed stays away,
so it comes last. Clients ask, read streams and
remember, and retry nothing; before every kill a document is uploaded. A request counts as disturbed if it failed or
took more than five times as long as usual. Node failures are detected as Ray does it by default.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import psutil

from deployments.__main__ import prepare_environment, separate_haproxy
from lightrag.config import Settings, load_settings
from tests.deployments import chaos
from tests.deployments.conftest import PAGES, PROXIES, Service, free_port, write_pages

NODE = "node"
VICTIMS = (*chaos.DEPLOYMENTS, chaos.CONTROLLER, NODE)
ROOT = Path(__file__).parents[2]
_LOOK_SECONDS = 5.0
"""How long the load goes on before each kill, and after everything answers again."""


class Row(NamedTuple):
    """What one kill did."""

    victim: str
    requests: int
    failed: int
    wrong: int
    fallbacks: int
    longest: float
    recovered: float
    """Seconds from the kill to the end of the last disturbed request."""

    def __str__(self) -> str:
        return (
            f"| {self.victim} | {self.requests} | {self.failed} ({self.failed / max(self.requests, 1):.2%}) "
            f"| {self.wrong} | {self.fallbacks} | {self.longest:.2f} | {self.recovered:.1f} |"
        )


class Nodes:
    """Three nodes of a Ray cluster, and the service on them."""

    def __init__(self, settings: Settings) -> None:
        import ray
        from ray import serve
        from ray.cluster_utils import Cluster

        from deployments.app import APPLICATION, build

        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self._others = [self._cluster.add_node(num_cpus=8, object_store_memory=100 * 1024**2) for _ in range(2)]
        ray.init(address=self._cluster.address, namespace="lightrag", log_to_driver=False)
        http = {"host": settings.service.host, "port": settings.service.port}
        serve.start(proxy_location="HeadOnly", http_options=http)
        serve.run(build(settings), name=APPLICATION, route_prefix="/")

    def kill(self, victim: str) -> None:
        """Kill a process, or a node with everything on it; the other one has room for all."""
        if victim == NODE:
            self._cluster.remove_node(self._others.pop(), allow_graceful=False)
        else:
            chaos.kill(victim, psutil.Process().children(recursive=True))

    def close(self) -> None:
        """Stop everything."""
        import ray
        from ray import serve

        serve.shutdown()
        ray.shutdown()
        self._cluster.shutdown()


class Uploads:
    """Documents that were accepted."""

    def __init__(self, url: str) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=120, trust_env=False)
        self.accepted: dict[str, str] = {}
        """Where its job is, by the name of each file."""

    async def send(self) -> None:
        """Upload one document; a refusal counts for nothing."""
        name = f"note-{len(self.accepted)}.txt"
        files = {"files": (name, f"Note {len(self.accepted)} of the harbour.".encode(), "text/plain")}
        response = await self._http.post("/v1/corpora/uploaded/documents", files=files)
        if response.status_code == 202:
            self.accepted[name] = response.headers["Location"]

    async def lost(self, within: float = 180.0) -> list[str]:
        """Accepted documents that are not there, once their jobs have ended."""
        ended: set[str] = set()
        async with asyncio.timeout(within):
            while len(ended) < len(self.accepted):
                for place in set(self.accepted.values()) - ended:
                    job = await self._http.get(place)
                    if job.status_code == 200 and job.json()["state"] not in ("queued", "running"):
                        ended.add(place)
                await asyncio.sleep(1)
            listed = await self._http.get("/v1/corpora/uploaded/documents", params={"limit": 1000})
            there = {document["source"] for document in listed.json()["documents"]}
        await self._http.aclose()
        return sorted(set(self.accepted) - there)


async def measure(nodes: Nodes, url: str, victims: Sequence[str]) -> int:
    """Kill one after the other and print what became of the load; returns how much was wrong or lost."""
    await chaos.settle(url)
    uploads = Uploads(url)
    async with chaos.load(url) as load:
        await asyncio.sleep(_LOOK_SECONDS)
        _print("| killed | requests | failed | wrong | with a fallback | longest, s | recovered after, s |")
        _print("|---|---|---|---|---|---|---|")
        for victim in victims:
            await uploads.send()
            await asyncio.sleep(1)
            killed = time.monotonic()
            await asyncio.to_thread(nodes.kill, victim)
            await asyncio.sleep(1)
            await chaos.settle(url, within=180)
            await asyncio.sleep(_LOOK_SECONDS)
            _print(str(_row(victim, load, killed)))
    for failure, count in load.failures.most_common():
        _print(f"{count} × {failure}")
    stored = await chaos.remembered(url)
    missing = set(load.accepted) - set(stored)
    _print(f"remembered: {len(load.accepted)} accepted, {len(missing)} lost, {len(stored) - len(set(stored))} doubled")
    lost = await uploads.lost()
    _print(f"uploaded: {len(uploads.accepted)} accepted, {len(lost)} lost")
    return len(load.wrong) + len(missing) + len(lost)


def _row(victim: str, load: chaos.Load, killed: float) -> Row:
    before = [one.seconds for one in load.outcomes if one.began + one.seconds < killed]
    usual = statistics.median(before)
    after = load.since(killed)
    disturbed = [one.began + one.seconds - killed for one in after if one.failure or one.seconds > 5 * usual]
    return Row(
        victim,
        len(after),
        sum(bool(one.failure) for one in after),
        sum(bool(one.wrong) for one in after),
        sum(bool(one.fallbacks) for one in after),
        max(one.seconds for one in after),
        max(disturbed, default=0.0),
    )


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _settings(home: Path, proxy: str, replicas: int) -> Settings:
    service: dict[str, Any] = {"port": free_port(), "proxy": proxy}
    service |= {name: {"minimum": replicas} for name in ("ingress", "recall", "retrieval", "compression", "generation")}
    return load_settings(None, home=home, service=service, jobs={"runner": "local"})


def main() -> int:
    """Run the benchmark; returns 1 if an answer was wrong or a write was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--proxy", choices=PROXIES, default="serve")
    parser.add_argument("--replicas", type=int, default=2, help="of each stage and of the ingress")
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS, help="in this order")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        home = Path(folder, "home")
        settings = _settings(home, arguments.proxy, arguments.replicas)
        Service(home, settings.service.port).ingest(write_pages(home / "pages", PAGES), "mill")
        # Replicas import the application as this process does.
        os.environ["PYTHONPATH"] = str(ROOT)
        prepare_environment(settings)
        if arguments.proxy == "haproxy":
            separate_haproxy(Path(folder))
        # In the main thread, which alone may set what Ray does on signals.
        nodes = Nodes(settings)
        try:
            url = f"http://{settings.service.host}:{settings.service.port}"
            return 1 if asyncio.run(measure(nodes, url, arguments.victims)) else 0
        except TimeoutError:
            _print("the service did not come back, or a job did not end")
            return 1
        finally:
            nodes.close()


if __name__ == "__main__":
    sys.exit(main())
