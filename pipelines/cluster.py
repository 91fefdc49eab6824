"""A Ray cluster for the time of a job: the one that was named, or a private one on this machine.

Only what was started here is stopped here.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import ray

from lightrag.errors import BackendError

OBJECT_STORE_BYTES: Final = 256 * 1024 * 1024
"""Of a private cluster. Batches in flight are a few megabytes each; what does not fit waits."""

STARTS: Final = 2
"""How often a private cluster is started that is not up in time."""

ANSWER_SECONDS: Final = 10.0
"""How long a cluster may take to accept a connection."""

_ANNOUNCEMENT: Final = re.compile(rb"\[[^\]\n]*\] logging\.cc:\d+: Set ray log level[^\n]*\n")
_STDERR: Final = 2
_LOG = logging.getLogger(__name__)


@contextmanager
def cluster(address: str = "", *, cpus: float = 1.0) -> Iterator[None]:
    """Be connected to a cluster.

    Args:
        address: ``host:port``, ``auto``, or ``ray://…``; empty: that of ``RAY_ADDRESS``, which Ray sets for submitted
            jobs, else a private cluster that ends with this block.
        cpus: logical CPUs that workers will claim at least; a private cluster has that many, whatever the machine has.

    Raises:
        BackendError: there is no cluster at the address, or none could be started.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS", "")
    try:
        if address:
            _require_answer(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        else:
            _start_private(cpus)
    except (ConnectionError, RuntimeError, OSError, ValueError) as error:
        where = f"no Ray cluster answers at {address!r}" if address else "a private Ray cluster could not be started"
        raise BackendError(f"{where}: {error}", subject=address or None) from error
    try:
        yield
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Ray itself would keep trying for a quarter of an hour."""
    host, mark, port = address.rpartition("://")[2].rpartition(":")
    if mark and port.isdigit():
        socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()


def _start_private(cpus: float) -> None:
    # Some of Ray's ports listen on every interface; its token, on by default for local clusters, keeps others out.
    # Ray's own processes write errors of no consequence straight to our terminal.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Workers inherit the environment; each computes in one thread, and there are as many workers as configured.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for attempt in range(1, STARTS + 1):
        try:
            with _unannounced():
                _start_node(cpus)
            return
        except Exception as error:
            # Ray gives a node half a minute, which a busy machine may exceed, and tells it by a bare Exception.
            if type(error) is not Exception:
                raise
            if attempt == STARTS:
                raise RuntimeError(f"{error} The machine may be too busy: try again") from error
            # What came up of it ends with this process.
            _LOG.warning("a private Ray cluster was not up in time and is started once more: %s", error)


def _start_node(cpus: float) -> None:
    ray.init(
        address="local",
        num_cpus=max(os.cpu_count() or 1, int(cpus) + 1),
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        log_to_driver=False,
        logging_level=logging.ERROR,
        # Workers are started when there is something to do, not beforehand.
        _system_config={"prestart_worker_first_driver": False},
    )


@contextmanager
def _unannounced() -> Iterator[None]:
    """Take out of standard error that Ray was told to be quiet, which it announces there; all else comes through."""
    try:
        kept = os.dup(_STDERR)
    except OSError:  # there is no standard error
        yield
        return
    sys.stderr.flush()
    with tempfile.TemporaryFile() as heard:
        os.dup2(heard.fileno(), _STDERR)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, _STDERR)
            os.close(kept)
            heard.seek(0)
            os.write(_STDERR, _ANNOUNCEMENT.sub(b"", heard.read()))


__all__ = ["OBJECT_STORE_BYTES", "cluster"]
