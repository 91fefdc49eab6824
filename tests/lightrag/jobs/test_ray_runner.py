"""Jobs on Ray's job server: the HTTP that is spoken, and once a real cluster."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from lightrag.config import Settings, load_settings
from lightrag.errors import BackendError
from lightrag.jobs.opening import open_store
from lightrag.jobs.ray_runner import TOKEN, RayRunner
from lightrag.jobs.store import JobStore, Limits, new_job_id
from lightrag.jobs.supervisor import Supervisor
from lightrag.jobs.types import Job

TOKEN_VALUE = "t0ken-of-this-test-only-0123456789abcdef"


class JobServer:
    """Ray's job server as its clients see it: submissions by id, states, output."""

    def __init__(self) -> None:
        self.jobs: dict[str, dict[str, Any]] = {}
        self.token = ""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return httpx.Response(401)
        _, _, _, *rest = request.url.path.split("/")
        if rest == [""]:
            body = json.loads(request.content)
            if body["submission_id"] in self.jobs:
                return httpx.Response(500, text="Job with submission_id already exists")
            self.jobs[body["submission_id"]] = {**body, "status": "RUNNING", "logs": ""}
            return httpx.Response(200, json={"submission_id": body["submission_id"]})
        job = self.jobs.get(rest[0])
        if job is None:
            return httpx.Response(404)
        if rest[1:] == ["logs"]:
            return httpx.Response(200, json={"logs": job["logs"]})
        if rest[1:] == ["stop"]:
            job["status"] = "STOPPED"
            return httpx.Response(200, json={"stopped": True})
        return httpx.Response(200, json={"status": job["status"], "message": "as told"})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        None, home=tmp_path, jobs={"runner": "ray"}, generator={"backend": "openai", "model": "m", "api_key": "sk-1"}
    )


@pytest.fixture
def server() -> JobServer:
    return JobServer()


@pytest.fixture
def runner(settings: Settings, server: JobServer, monkeypatch: pytest.MonkeyPatch) -> RayRunner:
    monkeypatch.setattr("lightrag.jobs.ray_runner._LOOK_SECONDS", 0.0)
    return RayRunner(settings, transport=httpx.MockTransport(server))


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    opened = open_store(settings)
    yield opened
    opened.close()


def submitted(store: JobStore, spec: dict[str, Any] | None = None) -> Job:
    described = spec or {"corpus": "mills", "source": {"location": "s3://bucket/it's here"}}
    return store.add("acme", "mills", described, kind="ingest", priority=0, job_id=new_job_id())


def test_a_submission_travels_whole_and_without_secrets(store: JobStore, runner: RayRunner, server: JobServer) -> None:
    job = submitted(store)
    runner.start(job)
    runner.start(job)  # a supervisor that was lost in between
    (sent,) = server.jobs.values()
    command = shlex.split(sent["entrypoint"])
    assert command[:3] == ["python", "-m", "pipelines.ingest"]
    assert json.loads(command[command.index("--json") + 1]) == job.spec
    assert sent["runtime_env"]["env_vars"]["LRAG_GENERATOR__BACKEND"] == "openai"
    assert "sk-1" not in json.dumps(sent)


def test_a_supervisor_follows_a_job_to_its_end(
    store: JobStore, runner: RayRunner, server: JobServer, settings: Settings
) -> None:
    job = submitted(store)
    supervisor = Supervisor(store, runner, Limits(), settings)
    supervisor.step()
    (sent,) = server.jobs.values()
    progress = {"event": "progress", "stage": "process", "done": 2, "total": 4, "tokens": 8, "seconds": 1.0}
    sent["logs"] = f"chatter\n{json.dumps(progress)}\n" + '{"event": "summ'
    supervisor.step()
    assert store.get("acme", job.job_id).progress[0].done == 2
    sent["logs"] = f"chatter\n{json.dumps(progress)}\n" + json.dumps({"event": "error", "message": "no such bucket"})
    sent["status"] = "FAILED"
    supervisor.step()
    ended = store.get("acme", job.job_id)
    assert (ended.state, ended.error) == ("failed", "no such bucket")


def test_a_cancelled_job_is_stopped_there(
    store: JobStore, runner: RayRunner, server: JobServer, settings: Settings
) -> None:
    job = submitted(store)
    supervisor = Supervisor(store, runner, Limits(), settings)
    supervisor.step()
    store.request_cancel("acme", job.job_id)
    supervisor.step()
    supervisor.step()
    assert store.get("acme", job.job_id).state == "cancelled"


def test_a_claimed_job_that_was_never_submitted_is_submitted(
    store: JobStore, runner: RayRunner, server: JobServer, settings: Settings
) -> None:
    submitted(store)
    assert store.claim(runner.place, Limits()) is not None
    Supervisor(store, runner, Limits(), settings).step()
    assert len(server.jobs) == 1


def test_a_missing_token_and_a_missing_server_are_named(
    store: JobStore, runner: RayRunner, server: JobServer, settings: Settings
) -> None:
    server.token = "x"
    job = submitted(store)
    with pytest.raises(BackendError, match=TOKEN):
        runner.start(job)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        nowhere = RayRunner(settings.model_copy(update={"jobs": settings.jobs.model_copy(update={"ray_url": url})}))
        with pytest.raises(BackendError, match="no job server"):
            nowhere.start(job)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A real cluster with its job server, on loopback, behind a token."""
    if any(process.info["name"] == "raylet" for process in psutil.process_iter(["name"])):
        pytest.skip("another Ray cluster runs on this machine, and the agents that start jobs would meet")
    with socket.socket() as free, socket.socket() as another:
        free.bind(("127.0.0.1", 0))
        another.bind(("127.0.0.1", 0))
        port, agent_port = free.getsockname()[1], another.getsockname()[1]
    # The agent, which starts jobs, has one port for all clusters of a machine, unless told otherwise.
    start = (
        "import functools, ray, sys; from ray._private.parameter import RayParams; "
        f"RayParams.__init__ = functools.partialmethod(RayParams.__init__, dashboard_agent_listen_port={agent_port}); "
        "ray.init(address='local', num_cpus=3, include_dashboard=True, dashboard_host='127.0.0.1', "
        f"dashboard_port={port}, object_store_memory=128 * 1024 * 1024, _node_ip_address='127.0.0.1'); "
        "print('ready', flush=True); sys.stdin.read(); ray.shutdown()"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LRAG_", "RAY_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment |= {"RAY_AUTH_MODE": "token", TOKEN: TOKEN_VALUE, "PATH": path, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", start], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if "ready" not in process.stdout.read(6):
            process.kill()
            pytest.skip("no Ray cluster with a job server can be started here")
        yield f"http://127.0.0.1:{port}"
        process.stdin.close()
        process.wait(60)


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_cluster_runs_the_job(cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, TOKEN_VALUE)
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "mill.txt").write_text("The mill was opened in 1874 by Ada Lind.")
    settings = load_settings(None, home=tmp_path / "home", jobs={"runner": "ray", "ray_url": cluster})
    store = open_store(settings)
    runner = RayRunner(settings)
    supervisor = Supervisor(store, runner, Limits(), settings)
    deadline = time.monotonic() + 200
    for _ in range(3):  # a cluster that has just come up may lose the first job before it starts
        job = submitted(store, {"corpus": "mills", "tenant": "acme", "source": {"location": str(docs)}})
        while not store.get("acme", job.job_id).is_over and time.monotonic() < deadline:
            supervisor.step()
            time.sleep(0.5)
        ended = store.get("acme", job.job_id)
        if ended.state == "succeeded" or runner.log(job):
            break
    assert ended.state == "succeeded", ended.error
    assert ended.summary["new"] == 1
    store.close()
