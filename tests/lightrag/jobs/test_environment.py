"""Settings survive the way through the environment of another process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightrag.config import load_settings
from lightrag.jobs.environment import process_environment, settings_environment


def test_another_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LRAG_RETRIEVAL__TOP_K", "3")
    given = load_settings(
        None,
        home=tmp_path / "a home",
        generator={"backend": "openai", "api_key": "sk-1", "engine": {"a": [1, {"b": None}]}},
        storage={"url": "s3://bucket/x", "options": {"endpoint": "http://127.0.0.1:9"}},
        jobs={"sources": ["/docs", "s3://b/"], "at_once": 7},
        compression={"models": {"latents": "/m"}},
        ingest={"latents": True, "error_limit": 0},
    )
    environment = process_environment(given)
    for name in [name for name in os.environ if name.startswith("LRAG_")]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == given
    assert given.retrieval.top_k == 3


def test_secrets_stay_behind_where_others_look() -> None:
    given = load_settings(None, generator={"api_key": "sk-1"}, conversation={"history_url": "postgresql://u:p@h/d"})
    text = repr(settings_environment(given, secrets=False))
    assert "sk-1" not in text
    assert "u:p" not in text
    assert "sk-1" in settings_environment(given)["LRAG_GENERATOR__API_KEY"]
