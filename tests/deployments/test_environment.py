"""What the service sets for Ray and its replicas before either is imported."""

from __future__ import annotations

import os
from typing import Any

import pytest

from deployments.__main__ import prepare_environment
from lightrag.config import load_settings


def prepared(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], **settings: Any) -> dict[str, str]:
    """The environment of a machine with eight processors, once a service with these settings has prepared it."""
    loaded = load_settings(None, **settings)
    monkeypatch.setattr(os, "environ", environment)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    prepare_environment(loaded)
    return environment


@pytest.mark.parametrize(
    ("settings", "threads"),
    [
        ({}, "1"),
        ({"generator": {"backend": "openai", "model": "m", "api_key": "none"}}, "1"),
        ({"generator": {"backend": "transformers", "model": "m"}}, "8"),
        ({"memory": {"model": "m"}}, "8"),
        ({"compression": {"models": {"llmlingua2": "m"}}}, "8"),
    ],
)
def test_only_replicas_with_large_models_compute_in_as_many_threads_as_there_are_processors(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], threads: str
) -> None:
    assert prepared(monkeypatch, {}, **settings)["OMP_NUM_THREADS"] == threads


def test_what_the_environment_says_already_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared(monkeypatch, {"OMP_NUM_THREADS": "3"})["OMP_NUM_THREADS"] == "3"
