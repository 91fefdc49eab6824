"""Run the embedded service in the foreground until it is told to stop: ``python -m deployments``."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lightrag.config import Settings, load_settings
from lightrag.errors import LightRAGError

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

_DRAIN_LOOKS_SECONDS = 0.1
# Room for the evidence of the largest budget that a request may ask for; Ray's own limit is 4 MiB.
_LARGEST_MESSAGE_BYTES = 128 * 1024**2
_HEADER_BYTES = 64 * 1024


def prepare_environment(settings: Settings) -> None:
    """Set what Ray reads once, when it is imported."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads(settings)))
    # Threads that have just finished wait busily a tenth as long as they would: the core is the next stage's.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    # Stages call each other over gRPC, in the loop of their own code: a third off what the graph adds to a question.
    os.environ.setdefault("RAY_SERVE_USE_GRPC_BY_DEFAULT", "1")
    os.environ.setdefault("RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP", "0")
    os.environ.setdefault("RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH", str(_LARGEST_MESSAGE_BYTES))
    # Replicas say how they are a few times within the time that decides on more of them.
    said = str(min(10.0, max(0.5, settings.service.scale_up_seconds / 4)))
    os.environ.setdefault("RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S", said)
    os.environ.setdefault("RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S", said)
    if settings.service.proxy == "haproxy":
        os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "1"
        os.environ["RAY_SERVE_THROUGHPUT_OPTIMIZED"] = "1"


def _threads(settings: Settings) -> int:
    """Threads in which a replica computes.

    A large model that runs here may use every core. An embedder is hardly faster on two, and the threads of several
    replicas would wait for each other: on two cores, two threads each answered 4.4 questions a second of a burst, one
    thread each 16.
    """
    compression = settings.compression
    models = (settings.memory.model, compression.model, compression.importance_model, *compression.models.values())
    local = settings.generator.backend in ("transformers", "vllm") or any(models)
    return (os.cpu_count() or 1) if local else 1


def separate_haproxy(folder: Path) -> None:
    """Keep HAProxy's files and ports apart from those of any other service on this machine.

    Serve would put them in one folder for all, with a control socket that every user of the machine may write to.
    """
    os.environ["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"] = str(folder / "haproxy.cfg")
    os.environ["RAY_SERVE_HAPROXY_SOCKET_PATH"] = str(folder / "admin.sock")
    os.environ["RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH"] = str(folder / "metrics.sock")
    os.environ["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"] = str(folder)
    os.environ["RAY_SERVE_HAPROXY_SERVER_STATE_FILE"] = str(folder / "server-state")
    # Serve's own proxy takes as much of headers; a bearer token or a cursor may be long.
    os.environ.setdefault("RAY_SERVE_HAPROXY_TUNE_BUFSIZE", str(_HEADER_BYTES))
    with socket.socket() as statistics, socket.socket() as metrics:
        for probe, name in ((statistics, "STATS"), (metrics, "METRICS")):
            probe.bind(("127.0.0.1", 0))
            os.environ.setdefault(f"RAY_SERVE_HAPROXY_{name}_PORT", str(probe.getsockname()[1]))


def serve_until_stopped(settings: Settings) -> None:
    """Start Ray and Serve on this machine, deploy the application, wait for SIGTERM or SIGINT, and clean up."""
    prepare_environment(settings)
    stopped = threading.Event()
    _listen(stopped)
    with ExitStack() as left_behind:
        if settings.service.proxy == "haproxy":
            # Not below home: the path of a socket has at most 107 characters, and Serve adds 70 of its own.
            folder = left_behind.enter_context(tempfile.TemporaryDirectory(prefix="lightrag-"))
            separate_haproxy(Path(folder))
        _serve(settings, stopped)


def _serve(settings: Settings, stopped: threading.Event) -> None:
    import ray
    from ray import serve

    from deployments.app import APPLICATION, build
    from deployments.node import start_node

    start_node()
    # Ray has put its own handlers in place, which would end this process before what has begun could end.
    _listen(stopped)
    try:
        serve.start(http_options={"host": settings.service.host, "port": settings.service.port})
        ingress = serve.run(build(settings), name=APPLICATION, route_prefix="/")
        ingress._init(_run_router_in_separate_loop=True)  # replicas have a loop for it, this process has none
        logging.getLogger("lightrag").warning("serving on %s:%d", settings.service.host, settings.service.port)
        stopped.wait()
        _drain(ingress, settings.service.drain_seconds)
    finally:
        serve.shutdown()
        ray.shutdown()


def _listen(stopped: threading.Event) -> None:
    """Stop when asked to."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())


def _drain(ingress: DeploymentHandle, seconds: float) -> None:
    """Let the ingress end what it has begun, while the stages that this needs are still there."""
    ends = time.monotonic() + seconds
    with contextlib.suppress(TimeoutError):
        while (left := ends - time.monotonic()) > 0:
            said = ingress.broadcast("drain").results(timeout_s=left, return_exceptions=True)
            # A replica that is gone has nothing left to end.
            if not sum(answer for answer in said if isinstance(answer, int)):
                return
            time.sleep(_DRAIN_LOOKS_SECONDS)
    logging.getLogger("lightrag").warning("stopping with requests that did not end within %g s", seconds)


def main() -> int:
    """Load the settings and serve; returns the exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        serve_until_stopped(load_settings())
    except LightRAGError as error:
        logging.getLogger("lightrag").error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
