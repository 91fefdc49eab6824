"""Whoever claims queued jobs, starts them and notes how they end: ``python -m lightrag.jobs.supervisor``.

It is started by whoever queues a job and finds none, and leaves when there is nothing to do. It may be killed at any
moment: jobs go on by themselves, and the next supervisor takes over what it finds in the records and the folders.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from types import FrameType
from typing import Final

from lightrag.config import Settings, load_settings
from lightrag.errors import LightRAGError
from lightrag.jobs.alone import only_one
from lightrag.jobs.ending import ending_of
from lightrag.jobs.events import EventLog
from lightrag.jobs.opening import limits, open_runner, open_store
from lightrag.jobs.runners import Look, Runner
from lightrag.jobs.store import Ending, JobStore, Limits
from lightrag.jobs.types import Job
from lightrag.jobs.uploads import clear_upload

PAUSE: Final = 0.3
"""Seconds between two looks."""
LINGER: Final = 3.0
"""Seconds without anything to do after which it leaves."""

_log = logging.getLogger("lightrag.jobs")


class Supervisor:
    """Looks after the jobs of one place."""

    def __init__(self, store: JobStore, runner: Runner, limits: Limits, settings: Settings) -> None:
        self._store = store
        self._runner = runner
        self._limits = limits
        self._settings = settings
        self._events: dict[tuple[str, int], EventLog] = {}
        self.leaving = False

    def leave(self) -> None:
        """Return from :meth:`run` soon; jobs go on."""
        self.leaving = True

    def run(self) -> None:
        """Look after jobs until there have been none for a while."""
        idle_since = time.monotonic()
        while not self.leaving and time.monotonic() - idle_since < LINGER:
            try:
                if self.step():
                    idle_since = time.monotonic()
            except LightRAGError:
                # The database or the cluster is away; jobs go on, and so do we when it is back.
                _log.exception("cannot look after jobs now")
                idle_since = time.monotonic()
            time.sleep(PAUSE)

    def step(self) -> bool:
        """Look at every running job once and start what may start; whether there is anything to do."""
        for job in self._store.watched(self._runner.place):
            self._look_after(job)
        while claimed := self._store.claim(self._runner.place, self._limits):
            self._begin(claimed)
        return self._store.unfinished(self._runner.place)

    def _begin(self, job: Job) -> None:
        _log.info("starting job %s, attempt %d", job.job_id, job.attempt)
        try:
            self._runner.start(job)
        except LightRAGError as error:
            self._store.finish(job, Ending("failed", str(error)))

    def _look_after(self, job: Job) -> None:
        events = self._events.setdefault((job.job_id, job.attempt), EventLog())
        look = self._runner.look(job)
        if events.read(look.lines) and look.alive:
            self._store.advance(job, events.progress)
        if not look.alive:
            self._finish(job, events, look)
        elif job.cancel_requested:
            self._runner.stop(job)

    def _finish(self, job: Job, events: EventLog, look: Look) -> None:
        ending, files = ending_of(job, events, look.reason, self._settings.jobs)
        if self._store.finish(job, ending):
            _log.info("job %s has %s %s", job.job_id, ending.state, ending.error)
            self._runner.keep(job, files)
            if ending.state == "succeeded" and not ending.summary.get("failed"):
                clear_upload(self._settings, job)
        self._events.pop((job.job_id, job.attempt), None)


def supervise(settings: Settings) -> None:
    """Look after the jobs of this home, unless somebody does."""
    store, runner = open_store(settings), open_runner(settings)
    supervisor = Supervisor(store, runner, limits(settings), settings)

    def stop(number: int, frame: FrameType | None) -> None:
        supervisor.leave()

    signal.signal(signal.SIGTERM, stop)
    # A job that was queued while this one was about to leave saw it still there, so it looks once more afterwards.
    while True:
        with only_one(settings.home.expanduser() / "jobs", patience=2.0) as mine:
            if not mine:
                return
            supervisor.run()
        if supervisor.leaving or not store.unfinished(runner.place):
            return


def main() -> None:
    """Entry point."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    _log.setLevel(logging.INFO)
    supervise(load_settings())


if __name__ == "__main__":
    main()


__all__ = ["Supervisor", "supervise"]
