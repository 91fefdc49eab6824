"""The ``lightrag`` command: start and stop the service, ingest, ask, look around. A face only; no business logic."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``lightrag`` command."""
    from lightrag.cli.app import run

    run()


__all__ = ["main"]
