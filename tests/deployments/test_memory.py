"""Clues from KV memories, and compression by the request's own method, through the real service."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from lightrag.client import Client
from lightrag.errors import UsageError
from tests.deployments.conftest import PAGES, Service, running

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture(scope="module")
def remembering(tiny_qwen2: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with a memory model and an encoder of latents, and a corpus that was ingested with both."""
    home = tmp_path_factory.mktemp("remembering")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LRAG_MEMORY__MODEL", str(tiny_qwen2))
        environment.setenv("LRAG_MEMORY__WINDOW_TOKENS", "300")
        environment.setenv("LRAG_INGEST__LATENTS", "true")
        environment.setenv("LRAG_COMPRESSION__MODELS__LATENTS", str(tiny_qwen2))
        environment.setenv("LRAG_GENERATOR__BACKEND", "transformers")
        environment.setenv("LRAG_GENERATOR__MODEL", str(tiny_qwen2))
        environment.setenv("LRAG_GENERATOR__MAX_TOKENS", "8")
        # The first question loads the memories' model, on a machine that may have other things to do.
        for stage in ("REQUEST", "RECALL", "RETRIEVE", "COMPRESS"):
            environment.setenv(f"LRAG_DEADLINES__{stage}", "110")
        with running(home) as service:
            yield service


def test_clues_come_from_the_memories_of_the_corpus(remembering: Service) -> None:
    body = {"question": "Who founded the mill?"}
    found = httpx.post(f"{remembering.url}/v1/corpora/mill/recall", json=body, timeout=120, trust_env=False).json()
    assert found["method"] == "kv_memory"
    assert "KV memories of default/mill@1" in found["notes"][0]
    with Client(remembering.url) as client, ThreadPoolExecutor(4) as pool:
        answer = client.ask("Who founded the mill?", corpus="mill")
        assert answer.fallbacks == ()
        assert any("KV memories of default/mill@1" in note for note in answer.notes)
        assert answer.usage.cached_tokens > 0
        assert any("Ada Lind" in item.chunk.text for item in answer.evidence)

        def ask(number: int) -> tuple[str, ...]:
            with Client(remembering.url) as own:
                return own.ask(f"What happened in 201{number}?", corpus="mill").notes

        assert all(any("KV memories" in note for note in notes) for notes in pool.map(ask, range(4)))


def test_the_request_chooses_how_evidence_is_compressed(remembering: Service) -> None:
    with Client(remembering.url) as client:
        options = {"corpus": "mill", "task": "rag", "compress_to": 60}
        latents = client.ask("Who founded the mill?", **options, compress_method="latents")  # type: ignore[arg-type]
        assert latents.fallbacks == ()
        assert any("were read from storage" in note for note in latents.notes)
        text = client.ask("Who founded the mill?", **options)  # type: ignore[arg-type]
        assert not any("storage" in note for note in text.notes)
        with pytest.raises(UsageError, match="not available here"):
            client.ask("Who founded the mill?", **options, compress_method="entropy")  # type: ignore[arg-type]
        with pytest.raises(UsageError, match="compress_method"):
            client.ask("Who founded the mill?", **options, compress_method="zip")  # type: ignore[arg-type]
    passages = {"passages": [PAGES["history.md"]], "budget": 20, "compress_method": "entropy"}
    refused = httpx.post(f"{remembering.url}/v1/compress", json=passages, timeout=60, trust_env=False)
    assert refused.status_code == 422
    assert "not available here" in refused.json()["detail"]
