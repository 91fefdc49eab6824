"""Jobs on a Ray cluster, over the HTTP interface of its job server; nothing of Ray is imported.

An attempt is a submission with an id of its own, so submitting it twice begins it once. Secrets do not travel: anybody
who may look at the cluster's jobs can read their environment, so the cluster's nodes have to have them.
"""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path
from typing import Any, Final

import httpx

from lightrag.config import Settings
from lightrag.errors import BackendError
from lightrag.jobs.environment import settings_environment
from lightrag.jobs.runners import Look
from lightrag.jobs.types import MODULES, Job

TOKEN: Final = "RAY_AUTH_TOKEN"  # noqa: S105  # the name of the variable
_ENDED: Final = ("SUCCEEDED", "FAILED", "STOPPED")
_TIMEOUT: Final = 30.0
_LOOK_SECONDS: Final = 2.0
"""Between two questions about one job: its whole output comes back every time."""


class RayRunner:
    """Submits attempts to a job server.

    Args:
        settings: with the address of the server.
        transport: instead of the network, for tests.
    """

    def __init__(self, settings: Settings, *, transport: httpx.BaseTransport | None = None) -> None:
        self._settings = settings
        self._home = settings.home.expanduser().absolute() / "jobs"
        token = os.environ.get(TOKEN)
        self._http = httpx.Client(
            base_url=settings.jobs.ray_url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=_TIMEOUT,
            transport=transport,
        )
        self._read: dict[str, int] = {}
        self._looked: dict[str, float] = {}

    @property
    def place(self) -> str:
        """The job server."""
        return f"ray@{self._settings.jobs.ray_url}"[:255]

    def start(self, job: Job) -> None:
        """See :class:`~lightrag.jobs.runners.Runner`."""
        work = ["python", "-m", MODULES[job.kind], "--json", json.dumps(job.spec), "--job-id", job.job_id]
        body = {
            "entrypoint": shlex.join(work),
            "submission_id": _submission(job),
            "runtime_env": {"env_vars": settings_environment(self._settings, secrets=False)},
            "metadata": {"tenant": job.tenant, "corpus": job.corpus, "job_id": job.job_id},
        }
        response = self._call("POST", "/api/jobs/", json=body)
        if response.status_code != httpx.codes.OK and self._status(job) is None:
            raise BackendError(f"Ray's job server refused job {job.job_id}: {response.text[:500]}", subject=job.job_id)

    def look(self, job: Job) -> Look:
        """See :class:`~lightrag.jobs.runners.Runner`."""
        submission = _submission(job)
        if time.monotonic() - self._looked.get(submission, float("-inf")) < _LOOK_SECONDS:
            return Look(True, ())
        self._looked[submission] = time.monotonic()
        status = self._status(job)
        if status is None:
            self.start(job)  # whoever claimed it was lost before
            return Look(True, ())
        alive = status["status"] not in _ENDED
        text = self.log(job)
        text = text if not alive else text[: text.rfind("\n") + 1]
        new = text[self._read.get(submission, 0) :]
        self._read[submission] = len(text)
        reason = f"Ray says {status['status']}: {status.get('message') or 'no reason'}"
        return Look(alive, new.splitlines(), "" if alive else reason)

    def stop(self, job: Job) -> None:
        """See :class:`~lightrag.jobs.runners.Runner`. The server itself insists after a few seconds."""
        self._call("POST", f"/api/jobs/{_submission(job)}/stop")

    def log(self, job: Job) -> str:
        """See :class:`~lightrag.jobs.runners.Runner`."""
        response = self._call("GET", f"/api/jobs/{_submission(job)}/logs")
        if response.status_code != httpx.codes.OK:
            return ""
        return str(response.json().get("logs") or "")

    def keep(self, job: Job, files: dict[str, bytes]) -> None:
        """See :class:`~lightrag.jobs.runners.Runner`."""
        folder = self._home / job.job_id / str(job.attempt)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, data in files.items():
            Path(folder / name).write_bytes(data)

    def _status(self, job: Job) -> dict[str, Any] | None:
        response = self._call("GET", f"/api/jobs/{_submission(job)}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        if response.status_code != httpx.codes.OK:
            raise BackendError(
                f"Ray's job server answered {response.status_code}: {response.text[:300]}",
                subject=job.job_id,
                retryable=True,
            )
        found: dict[str, Any] = response.json()
        return found

    def _call(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        url = self._settings.jobs.ray_url
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise BackendError(
                f"no job server of Ray answers at {url}: {error}", subject=url, retryable=True
            ) from error
        if response.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise BackendError(f"Ray's job server at {url} wants the cluster's token: set {TOKEN}", subject=url)
        return response


def _submission(job: Job) -> str:
    return f"lightrag-{job.job_id}-{job.attempt}"


__all__ = ["RayRunner"]
