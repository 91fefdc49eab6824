"""Starting the service's Ray node on a machine that is too busy for it; what starts is tested with the service."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from deployments.node import start_node
from lightrag.errors import BackendError

TOO_LATE = Exception("The current node timed out during startup.")
"""As Ray tells it: an exception of no kind of its own."""


def failing(monkeypatch: pytest.MonkeyPatch, *failures: Exception) -> list[dict[str, Any]]:
    """Have Ray fail so at its first starts; returns what it was started with."""
    waiting, started = list(failures), []

    def init(**options: Any) -> None:
        started.append(options)
        if waiting:
            raise waiting.pop(0)

    monkeypatch.setattr(ray, "init", init)
    return started


def test_a_node_that_was_not_up_in_time_is_started_once_more_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    started = failing(monkeypatch, TOO_LATE)
    start_node()
    assert len(started) == 2
    assert "timed out during startup" in caplog.text


def test_a_machine_that_stays_too_busy_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    started = failing(monkeypatch, TOO_LATE, TOO_LATE)
    with pytest.raises(BackendError, match=r"timed out during startup.*too busy: try again"):
        start_node()
    assert len(started) == 2


@pytest.mark.parametrize(("failure", "raised"), [(OSError("no space"), BackendError), (KeyError("bug"), KeyError)])
def test_other_failures_are_not_repeated_and_bugs_stay_bugs(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, raised: type[Exception]
) -> None:
    started = failing(monkeypatch, failure)
    with pytest.raises(raised):
        start_node()
    assert len(started) == 1
