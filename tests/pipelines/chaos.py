"""Ingest jobs on three nodes of this machine whose driver, workers and nodes are killed, and what is left of them."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil
import pytest

from lightrag.config import load_settings
from lightrag.corpora import load_corpus
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.liveness import live_chunks, live_documents
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.storage.tables import chunks_from_table, vectors_of
from lightrag.types import CorpusId
from tests.pipelines.chaos_driver import POOLS, drive

Victim = Literal["driver", "worker", "node"]
VICTIMS: tuple[Victim, ...] = ("driver", "worker", "node")
ROOT = Path(__file__).parents[2]
CORPUS = "tales"
_SYSTEM = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}


class Moment(NamedTuple):
    """Who is killed, and when."""

    victim: Victim
    objects: int
    """As soon as so many objects wait in staging."""
    delay: float = 0.0
    """Seconds after that."""
    pools: str = "one"


class Result(NamedTuple):
    """What became of a job."""

    killed: bool
    """Whether the victim was still there at its moment."""
    seen: str
    """What a reader saw right after the kill: ``nothing``, ``everything``, or what was wrong."""
    batches: int
    begun: int
    """By all workers, before and after; what exceeds ``batches`` was repeated."""
    allowed: int
    """Batches that may be repeated: one of each worker that was killed."""

    @property
    def repeated(self) -> int:
        """Batches that were begun more than once."""
        return self.begun - self.batches


class Nodes:
    """Three nodes of a Ray cluster: the first for the drivers, the others for workers."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, "_system_config": _SYSTEM}
        )
        self._others = [self._add(), self._add()]

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def _add(self) -> Any:
        return self._cluster.add_node(num_cpus=2)

    def close(self) -> None:
        self._cluster.shutdown()

    def kill_node(self, generator: random.Random) -> int:
        """Kill a node with everything on it, put a new one in its place, and tell how many workers it had."""
        node = generator.choice(self._others)
        workers = len(self._workers(node))
        self._others.remove(node)
        self._cluster.remove_node(node, allow_graceful=False)
        self._others.append(self._add())
        return workers

    def kill_worker(self, generator: random.Random) -> int:
        """Kill one worker; returns how many that were."""
        workers = [worker for node in self._others for worker in self._workers(node)]
        if not workers:
            return 0
        generator.choice(workers).send_signal(signal.SIGKILL)
        return 1

    def _workers(self, node: Any) -> list[psutil.Process]:
        found = []
        for raylet in node.all_processes["raylet"]:
            with suppress(psutil.NoSuchProcess):
                for child in psutil.Process(raylet.process.pid).children(recursive=True):
                    with suppress(psutil.NoSuchProcess):
                        if "MapWorker" in " ".join(child.cmdline()):
                            found.append(child)
        return found


@contextmanager
def three_nodes() -> Iterator[Nodes]:
    """Start three nodes, and stop them."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(ROOT))  # workers have to know the driver's embedder
        environment.setenv("RAY_worker_niceness", "0")  # else they wait for everything else that the machine does
        nodes = Nodes()
        try:
            yield nodes
        finally:
            nodes.close()


class Trial:
    """One corpus that is ingested under fire.

    Args:
        folder: for notes.
        source: where the documents are.
        storage: settings of the store, ``url`` and ``options``.
        tenant: owner of the corpus; give each trial its own.
        options: of the source's store.
        seconds: that a batch takes at least.
        patience: seconds that a job may take to get to a moment, or to its end, on a busy machine.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        storage: Mapping[str, Any],
        tenant: str,
        *,
        options: Mapping[str, str] | None = None,
        seconds: float = 0.1,
        patience: float = 250.0,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._notes = folder / f"{tenant}.notes"
        self._seconds = seconds
        self._patience = patience
        self._settings = {"home": str(folder / "home"), "storage": dict(storage), "ingest": {"batch_bytes": 3000}}
        self._spec = {
            "corpus": CORPUS,
            "tenant": tenant,
            "source": {"location": source, "options": dict(options or {})},
        }
        self.log = CorpusLog(self._store(), CorpusId(tenant, CORPUS))

    def _store(self) -> ObjectStore:
        settings = load_settings(None, **self._settings)
        return open_object_store(settings.storage_url, settings.storage.options)

    def ingest_alone(self) -> int:
        """Ingest in this process, undisturbed; returns the number of batches."""
        drive(self._job("", "one", 0.0))
        return len(self._begun())

    def ingest(self, nodes: Nodes, moment: Moment, batches: int, generator: random.Random) -> Result:
        """Ingest on the nodes, kill at the moment, run the job again where its driver died, and count."""
        workers = sum(pool.workers for pool in POOLS[moment.pools])
        allowed, seen, killed = 0, "", False
        with self._start(nodes, moment.pools) as driver:
            try:
                if self._wait(driver, moment):
                    if moment.victim == "driver":
                        driver.kill()
                        driver.wait(timeout=10)
                        allowed = workers
                    elif moment.victim == "worker":
                        allowed = nodes.kill_worker(generator)
                    else:
                        allowed = nodes.kill_node(generator)
                    killed = allowed > 0
                    seen = self.visible(batches)
                self._end(driver, allowed_to_fail=moment.victim == "driver" and killed)
            finally:
                driver.kill()
        if moment.victim == "driver" and killed:
            with self._start(nodes, moment.pools) as driver:
                try:
                    self._end(driver, allowed_to_fail=False)
                finally:
                    driver.kill()
        begun = self._begun()
        return Result(killed, seen, len(set(begun)), len(begun), allowed)

    def visible(self, documents: int) -> str:
        """What a reader of the corpus sees now, where it should have one document for each batch."""
        commit = self.log.latest()
        if commit is None:
            return "nothing"
        found = load_corpus(self.log.store, commit.id).index.chunks
        count = len({chunk.document_id for chunk in found})
        return "everything" if count == documents else f"{count} of {documents} documents"

    def contents(self) -> dict[str, Any]:
        """All that a version holds, in a form that can be compared with another corpus of the same source."""
        commit = self.log.latest()
        assert commit is not None
        assert not self.log.check_integrity(deep=True).problems
        loaded = load_corpus(self.log.store, commit.id)
        rows = [
            (chunk.chunk_id, chunk, vector.tobytes())
            for table in live_chunks(self.log, commit)
            for chunk, vector in zip(chunks_from_table(table), np.asarray(vectors_of(table)), strict=True)
        ]
        documents = live_documents(self.log, commit, ["source", "document_id", "content_hash", "chunks"]).to_pylist()
        return {
            "documents": sorted(documents, key=lambda row: str(row["source"])),
            "chunks": sorted(rows, key=lambda row: row[0]),
            "gists": loaded.gists,
            "index": (loaded.index.chunks, loaded.index.save()),
        }

    def _job(self, address: str, pools: str, seconds: float) -> dict[str, Any]:
        return {
            "settings": self._settings,
            "spec": self._spec,
            "notes": str(self._notes),
            "seconds": seconds,
            "address": address,
            "pools": pools,
        }

    @contextmanager
    def _start(self, nodes: Nodes, pools: str) -> Iterator[subprocess.Popen[str]]:
        job = json.dumps(self._job(nodes.address, pools, self._seconds))
        command = [sys.executable, "-m", "tests.pipelines.chaos_driver", job]
        with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as driver:
            yield driver

    def _wait(self, driver: subprocess.Popen[str], moment: Moment) -> bool:
        """Wait for a moment; false where the job was over before it."""
        until = time.monotonic() + self._patience
        while self._staged() < moment.objects:
            if driver.poll() is not None or self.log.latest() is not None:
                return False
            assert time.monotonic() < until, f"{moment} does not come"
            time.sleep(0.05)
        time.sleep(moment.delay)
        return driver.poll() is None

    def _staged(self) -> int:
        return sum(1 for _ in self.log.store.list(f"{self.log.corpus.tenant}/corpora/{CORPUS}/staging"))

    def _end(self, driver: subprocess.Popen[str], *, allowed_to_fail: bool) -> None:
        _, error = driver.communicate(timeout=self._patience)
        assert allowed_to_fail or driver.returncode == 0, error[-3000:]

    def _begun(self) -> list[str]:
        return self._notes.read_text(encoding="ascii").splitlines() if self._notes.exists() else []


def random_moments(count: int, batches: int, seed: int) -> list[Moment]:
    """Draw moments from the first staged object to the commit, every kind of victim in turn."""
    generator = random.Random(seed)
    return [
        Moment(
            VICTIMS[number % len(VICTIMS)],
            generator.randint(0, 3 * batches - 1),
            generator.uniform(0.0, 0.3),
            generator.choice(sorted(POOLS)),
        )
        for number in range(count)
    ]
