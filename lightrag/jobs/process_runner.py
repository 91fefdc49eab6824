"""Jobs as processes of this machine, which outlive whoever started them.

An attempt is a folder, ``home/jobs/<job>/<attempt>``: its spec, its process, its events, its log. So a supervisor that
comes later finds everything there, and decides from the last event how the attempt ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import psutil

from lightrag.config import Settings
from lightrag.errors import BackendError
from lightrag.jobs.environment import process_environment
from lightrag.jobs.launch import EVENTS, LOG, PROCESS
from lightrag.jobs.runners import Look
from lightrag.jobs.types import MODULES, Job

LAUNCH_SECONDS: Final = 30.0
"""How long a launched process may take to note itself."""
STOP_SECONDS: Final = 30.0
"""How long a process may take to stop cleanly."""
_TAIL: Final = 600


class ProcessRunner:
    """Runs attempts below a home folder."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._home = settings.home.expanduser().absolute() / "jobs"
        self._children: dict[Path, subprocess.Popen[bytes]] = {}
        self._read: dict[Path, int] = {}
        self._stopping: dict[Path, float] = {}

    @property
    def place(self) -> str:
        """This machine and this home."""
        return f"process@{socket.gethostname()}:{self._home}"[:255]

    def folder(self, job: Job) -> Path:
        """Of an attempt."""
        return self._home / job.job_id / str(job.attempt)

    def start(self, job: Job) -> None:
        """See :class:`~lightrag.jobs.runners.Runner`."""
        folder = self.folder(job)
        if (folder / PROCESS).exists():
            return
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            spec = folder / "spec.json"
            spec.write_text(json.dumps(job.spec), encoding="utf-8")
            work = [sys.executable, "-m", MODULES[job.kind], "--json", f"@{spec}", "--job-id", job.job_id]
            work += ["--local"] if self._settings.jobs.runner == "local" else []
            self._children[folder] = subprocess.Popen(  # noqa: S603  # our own module
                [sys.executable, "-m", "lightrag.jobs.launch", str(folder), "--", *work],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=process_environment(self._settings),
                start_new_session=True,
            )
        except OSError as error:
            raise BackendError(f"job {job.job_id} cannot be started: {error}", subject=job.job_id) from error

    def look(self, job: Job) -> Look:
        """See :class:`~lightrag.jobs.runners.Runner`."""
        folder = self.folder(job)
        child = self._children.get(folder)
        if child is not None and child.poll() is not None:  # a child that ended stays until it is asked for
            del self._children[folder]
        process = _process(folder)
        own = folder in self._children  # on a busy machine it may take long to note itself
        launching = process is None and not (folder / PROCESS).exists() and (own or not _is_late(job))
        alive = launching or process is not None
        if launching and not own:
            self.start(job)  # whoever claimed it was lost before, and whoever launches second gives way
        lines = self._new_lines(folder, whole=alive)
        return Look(alive, lines, "" if alive else _last_words(folder))

    def stop(self, job: Job) -> None:
        """See :class:`~lightrag.jobs.runners.Runner`."""
        folder = self.folder(job)
        process = _process(folder)
        if process is None:
            return
        asked = self._stopping.get(folder)
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if asked is None:
                self._stopping[folder] = time.monotonic()
                process.send_signal(signal.SIGTERM)
            elif time.monotonic() - asked > STOP_SECONDS:
                os.killpg(process.pid, signal.SIGKILL)

    def log(self, job: Job) -> str:
        """See :class:`~lightrag.jobs.runners.Runner`."""
        return _text(self.folder(job) / LOG)

    def keep(self, job: Job, files: dict[str, bytes]) -> None:
        """See :class:`~lightrag.jobs.runners.Runner`."""
        for name, data in files.items():
            (self.folder(job) / name).write_bytes(data)

    def _new_lines(self, folder: Path, *, whole: bool) -> list[str]:
        """Lines that were written since the last look; while the process lives, only those that it has ended."""
        try:
            with (folder / EVENTS).open("rb") as file:
                file.seek(self._read.get(folder, 0))
                data = file.read()
        except FileNotFoundError:
            return []
        if whole:
            data = data[: data.rfind(b"\n") + 1]
        self._read[folder] = self._read.get(folder, 0) + len(data)
        return data.decode("utf-8", errors="replace").splitlines()


def _process(folder: Path) -> psutil.Process | None:
    """The process of an attempt, if it still runs."""
    try:
        noted = json.loads((folder / PROCESS).read_text(encoding="utf-8"))
        process = psutil.Process(noted["pid"])
        same = abs(process.create_time() - noted["started"]) < 1
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (FileNotFoundError, psutil.NoSuchProcess):
        return None


def _is_late(job: Job) -> bool:
    return job.started is not None and time.time() - job.started.timestamp() > LAUNCH_SECONDS


def _last_words(folder: Path) -> str:
    said = _text(folder / LOG).strip()[-_TAIL:]
    ending = f"; its log ends: {said}" if said else ""
    return f"its process ended without a result, killed perhaps{ending}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""


__all__ = ["ProcessRunner"]
