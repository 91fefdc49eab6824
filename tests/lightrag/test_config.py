"""Settings: sources, precedence, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightrag.config import explain_settings, load_settings
from lightrag.errors import ConfigurationError


def test_defaults_need_no_account_and_no_language_model() -> None:
    settings = load_settings()
    assert settings.generator.backend == "extractive"
    assert settings.embedder.api_key is None


def test_override_beats_environment_beats_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("service: {port: 1001, host: 127.0.0.2}\nretrieval: {top_k: 3}\n", encoding="utf-8")
    monkeypatch.setenv("LRAG_SERVICE__PORT", "1002")
    assert load_settings(file).service.port == 1002
    settings = load_settings(file, service={"port": 1003})
    assert (settings.service.port, settings.service.host, settings.retrieval.top_k) == (1003, "127.0.0.2", 3)
    origins = {name: origin for name, _, origin in explain_settings(file, service={"port": 1003})}
    assert origins["service.port"] == "override"
    assert origins["service.host"] == "file"
    assert origins["retrieval.depth"] == "default"


def test_all_problems_are_reported_together() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(retrieval_={}, service={"port": 0}, retrieval={"topk": 3})
    message = str(caught.value)
    assert "retrieval_: no such setting" in message
    assert "service.port" in message
    assert "retrieval.topk: no such setting" in message


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.yaml"):
        load_settings(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"broken\.yaml"):
        load_settings(broken)


def test_secrets_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRAG_GENERATOR__API_KEY", "sk-very-secret")
    assert "very-secret" not in repr(load_settings())
    assert "very-secret" not in str(explain_settings())
