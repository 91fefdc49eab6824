"""Real services for the tests of this folder: Ray, Serve, and a corpus that the job made.

There is one for each proxy, started when the first test needs it. Tests run against Serve's own proxy, and those that
are marked with ``both_proxies`` against HAProxy with Serve's throughput mode as well.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGES = {
    "history.md": (
        "# The Lind Mill\n\n## Founding\n\nThe mill by the river Aske was founded in 1874 by Ada Lind. She had "
        "inherited the water rights from her uncle.\n\n## Fire\n\nIn March 1901 the drying shed burned down. "
        "Nobody was hurt.\n"
    ),
    "production.txt": (
        "Paper made at the mill.\n\nIn 2016 the mill made 90 tonnes of paper.\n\nIn 2017 the mill made 120 tonnes of "
        "paper, after the new press had been installed.\n\nIn 2018 the mill made 110 tonnes of paper.\n"
    ),
}


PROXIES = ("serve", "haproxy")

both_proxies = pytest.mark.parametrize("service", PROXIES, indirect=True)


@dataclass(frozen=True)
class Service:
    """A running service and how to speak to it."""

    home: Path
    port: int
    proxy: str = "serve"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def lightrag(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command against this service's home."""
        environment = {
            **os.environ,
            "LRAG_HOME": str(self.home),
            "LRAG_SERVICE__PORT": str(self.port),
            "LRAG_SERVICE__PROXY": self.proxy,
            "LRAG_SERVICE__REFRESH_SECONDS": "0.5",
            # Uploads are small here: their jobs need no Ray of their own.
            "LRAG_JOBS__RUNNER": "local",
            # Nobody balances load here who would have to notice that a replica is about to end.
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
            "COLUMNS": "200",
        }
        return subprocess.run(
            [sys.executable, "-m", "lightrag.cli", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            timeout=240,
            check=False,
        )

    def ingest(self, folder: Path, corpus: str) -> dict[str, object]:
        """Ingest a folder in one plain process, and return the job's summary."""
        result = self.lightrag("ingest", str(folder), "--corpus", corpus, "--local", "--json")
        assert result.returncode == 0, result.stderr
        summary: dict[str, object] = json.loads(result.stdout.strip().splitlines()[-1])
        return summary


def write_pages(folder: Path, pages: dict[str, str]) -> Path:
    """Write texts to files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(home: Path, proxy: str = "serve") -> Iterator[Service]:
    """A service that holds the corpus ``mill``, with settings from the environment."""
    started = Service(home, free_port(), proxy)
    started.ingest(write_pages(home / "pages", PAGES), "mill")
    up = started.lightrag("up")
    assert up.returncode == 0, up.stderr
    yield started
    down = started.lightrag("down")
    assert down.returncode == 0, down.stderr


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the tests of a service one after the other, so that no two services are up at a time.

    Even an idle one takes a third of a core and two gigabytes, which slows whatever runs beside it. A test that stops
    its service comes last in its file.
    """
    folder = Path(__file__).parent
    files = {path: place for place, path in enumerate(dict.fromkeys(item.path for item in items))}

    def turn(item: pytest.Item) -> int:
        if folder not in item.path.parents:
            return 0
        if "services" not in getattr(item, "fixturenames", ()):
            return 1  # no service, or one of the file's own
        call = getattr(item, "callspec", None)
        return 2 + PROXIES.index(call.params.get("service", PROXIES[0]) if call else PROXIES[0])

    items.sort(key=lambda item: (turn(item), files[item.path], item.get_closest_marker("stops_service") is not None))


@pytest.fixture(scope="package")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Service]]:
    """The service of a proxy, which runs until that of another one is asked for."""
    found: dict[str, Service] = {}
    with ExitStack() as stack:

        def get(proxy: str) -> Service:
            if proxy not in found:
                stack.close()
                found.clear()
                found[proxy] = stack.enter_context(running(tmp_path_factory.mktemp(f"service-{proxy}"), proxy))
            return found[proxy]

        yield get


@pytest.fixture
def service(request: pytest.FixtureRequest, services: Callable[[str], Service]) -> Service:
    """A service that holds the corpus ``mill``."""
    return services(getattr(request, "param", PROXIES[0]))
