"""The Ray node of the embedded service: one on this machine, that ends with this process."""

from __future__ import annotations

import logging
from typing import Final

import ray

from lightrag.errors import BackendError

STARTS: Final = 2
"""How often a node is started that is not up in time."""

# Logical CPUs are only for placement; replicas share the machine's real ones.
_LOGICAL_CPUS: Final = 16
_OBJECT_STORE_BYTES: Final = 200 * 1024**2
_LOG = logging.getLogger("lightrag")


def start_node() -> None:
    """Start a node and connect to it.

    Raises:
        BackendError: it did not come up.
    """
    for attempt in range(1, STARTS + 1):
        try:
            _start()
            return
        except (ConnectionError, RuntimeError, OSError, ValueError) as error:
            raise BackendError(f"Ray could not be started on this machine: {error}", retryable=True) from error
        except Exception as error:
            # Ray gives a node half a minute, which a busy machine may exceed, and tells it by a bare Exception.
            if type(error) is not Exception:
                raise
            if attempt == STARTS:
                busy = f"Ray was not up in time: {error} The machine may be too busy: try again"
                raise BackendError(busy, retryable=True) from error
            # What came up of it ends with this process.
            _LOG.warning("Ray was not up in time and is started once more: %s", error)


def _start() -> None:
    ray.init(
        address="local",
        num_cpus=_LOGICAL_CPUS,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
        namespace="lightrag",
        log_to_driver=False,
        _node_ip_address="127.0.0.1",
    )


__all__ = ["STARTS", "start_node"]
