"""A service for a benchmark, started with settings of its own and stopped at the end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass(frozen=True)
class Served:
    """A running service."""

    home: Path
    url: str
    environment: Mapping[str, str]

    def lightrag(self, *arguments: str, **environment: str) -> str:
        """Run the command against it; returns what it prints."""
        command = [sys.executable, "-m", "lightrag.cli", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**self.environment, **environment}, check=False
        )
        if done.returncode:
            raise RuntimeError(f"lightrag {' '.join(arguments)} failed: {done.stderr}")
        return done.stdout

    def ingest(self, pages: Mapping[str, str], corpus: str, **environment: str) -> None:
        """Make a corpus of pages, in a plain process."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in pages.items():
                (Path(folder) / name).write_text(text, encoding="utf-8")
            self.lightrag("ingest", folder, "--corpus", corpus, "--local", "--json", **environment)


@contextmanager
def prepared(**settings: str) -> Iterator[Served]:
    """A home and a free port for a service; names of settings as in the environment, without their prefix."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        own = {f"LRAG_{name}": value for name, value in settings.items()}
        environment = {**os.environ, **own, "LRAG_HOME": folder, "LRAG_SERVICE__PORT": str(port)}
        yield Served(Path(folder), f"http://127.0.0.1:{port}", environment)


@contextmanager
def up(served: Served) -> Iterator[None]:
    """Run the service while the body does, from the moment when all stages are warm."""
    served.lightrag("up")
    try:
        ends = time.monotonic() + 300
        while httpx.get(f"{served.url}/readyz", timeout=60, trust_env=False).status_code != 200:
            if time.monotonic() > ends:
                raise TimeoutError("the service did not become ready")
            time.sleep(0.5)
        yield
    finally:
        served.lightrag("down")
