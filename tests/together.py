"""Which tests stay together where processes share the suite: ``pytest -p tests.together -n 2``.

Services run one after the other, in one process, and so do the clusters of jobs, and engines: two of a kind at once
would fight for memory. Everything else stays with its file, whose fixtures it shares.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).parents[1]
SERVICES = "tests/deployments/"


class Together(LoadScopeScheduling):
    """Hands out whole groups; those with most tests, which take longest, first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid.partition("::")[0])


@cache
def group_of(path: str) -> str:
    """The group of a test file."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if "pytest.mark.ray" in text:
        return "services" if path.startswith(SERVICES) else "clusters"
    return "engines" if "pytest.mark.vllm" in text else path


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    """Replace the scheduler of pytest-xdist."""
    return Together(config, log)
