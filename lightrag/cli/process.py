"""Start, find and stop the embedded service, which is a process of its own."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from lightrag.client import Client
from lightrag.config import Settings
from lightrag.errors import BackendError, UsageError

_START_SECONDS = 180.0
_STOP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Running:
    """A service that was started from this home folder."""

    pid: int
    started: float
    """Start time of the process, which tells it from a later one with the same number."""
    url: str

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


def find(settings: Settings) -> Running | None:
    """The service that runs from this home folder, if any."""
    try:
        running = Running(**json.loads(_state_file(settings).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    return running if running.process() else None


def address(settings: Settings) -> str:
    """Where the service of this home folder answers, or would if it ran."""
    running = find(settings)
    return running.url if running else f"http://{settings.service.host}:{settings.service.port}"


def start(settings: Settings) -> tuple[Running, bool]:
    """Start the service and wait until it answers; returns it, and whether it was already running.

    Raises:
        UsageError: the port is taken by another program.
        BackendError: the service did not come up; the message ends with the tail of its log.
    """
    with _only_one(settings):
        running = find(settings)
        if running:
            _wait_until_healthy(running, settings)
            return running, True
        _require_free_port(settings)
        log = log_file(settings)
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "LRAG_HOME": str(settings.home.expanduser().absolute()),
            "LRAG_SERVICE__HOST": settings.service.host,
            "LRAG_SERVICE__PORT": str(settings.service.port),
        }
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "deployments"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        url = f"http://{settings.service.host}:{settings.service.port}"
        running = Running(child.pid, psutil.Process(child.pid).create_time(), url)
        _state_file(settings).write_text(json.dumps(asdict(running)), encoding="utf-8")
        try:
            _wait_until_healthy(running, settings, child)
        except BaseException:
            _end(running)
            raise
        return running, False


def stop(settings: Settings) -> Running | None:
    """Stop the service and wait until it is gone; returns what was stopped, if anything ran."""
    running = find(settings)
    if running:
        _end(running)
    _state_file(settings).unlink(missing_ok=True)
    return running


def log_file(settings: Settings) -> Path:
    """Where the service writes what it has to say."""
    return settings.home.expanduser() / "logs" / "service.log"


def _state_file(settings: Settings) -> Path:
    return settings.home.expanduser() / "service.json"


@contextlib.contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    """Let only one ``up`` at a time work on a home folder."""
    home = settings.home.expanduser()
    home.mkdir(parents=True, exist_ok=True)
    with (home / "service.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require_free_port(settings: Settings) -> None:
    service = settings.service
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((service.host, service.port))
        except OSError as error:
            raise UsageError(
                f"port {service.port} on {service.host} cannot be used ({error.strerror}): stop the program that has "
                "it, or choose another with --port",
                subject=str(service.port),
            ) from error


def _wait_until_healthy(running: Running, settings: Settings, child: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with Client(running.url) as client:
        while time.monotonic() < deadline:
            # A child that ended stays a zombie until it is waited for.
            ended = child.poll() is not None if child else running.process() is None
            if ended:
                raise BackendError(f"the service ended while starting; its log says:\n{_tail(log_file(settings))}")
            if client.healthy():
                return
            time.sleep(0.2)
    raise BackendError(
        f"the service was not ready within {_START_SECONDS:g} s; its log says:\n{_tail(log_file(settings))}"
    )


def _end(running: Running) -> None:
    """Ask the process to stop; after a while insist, also with what it had started."""
    process = running.process()
    if process is None:
        return
    family = process.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    with contextlib.suppress(psutil.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    _, alive = psutil.wait_procs([process, *family], timeout=5)
    for straggler in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            straggler.kill()


def _tail(path: Path, lines: int = 15) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return "(no log)"


__all__ = ["Running", "address", "find", "log_file", "start", "stop"]
