"""Remote embedders against a real server on loopback."""

from __future__ import annotations

import numpy as np
import pytest

from lightrag.config import EmbedderSettings
from lightrag.errors import BackendError, ConfigurationError, LimitError
from lightrag.models import open_embedder
from lightrag.models.base import Embedder
from lightrag.models.remote import connection
from lightrag.models.remote.embedder import OpenAIEmbedder
from lightrag.models.remote.providers import endpoint
from tests.lightrag.models.remote.conftest import Fault, Server


def embedder_at(server: Server, **options: int | str) -> OpenAIEmbedder:
    options = {"dimension": 4, "max_tokens": 100, **options}
    return OpenAIEmbedder("tiny", endpoint("openai", base_url=server.url), **options)  # type: ignore[arg-type]  # mixed


def expected(text: str) -> np.ndarray:
    row = np.array([len(text), text.count("a"), 1.0, 1.0], dtype=np.float32)
    return row / np.linalg.norm(row)


async def test_rows_are_unit_vectors_in_the_order_of_the_texts(server: Server) -> None:
    embedder = embedder_at(server, batch_tokens=12)
    assert isinstance(embedder, Embedder)
    texts = ["a boat", "harbour master", "an anchor", "ice", ""]
    rows = await embedder.embed(texts)
    assert len(server.requests) > 1
    np.testing.assert_allclose(rows, [expected(text or " ") for text in texts], atol=1e-6)
    assert (await embedder.embed([])).shape == (0, 4)


async def test_prefixes_are_sent(server: Server) -> None:
    embedder = embedder_at(server, query_prefix="query: ", document_prefix="passage: ")
    await embedder.embed(["ice"], "query")
    await embedder.embed(["ice"])
    assert [request["input"] for request in server.requests] == [["query: ice"], ["passage: ice"]]
    assert embedder.max_tokens < 100
    assert embedder.fingerprint != embedder_at(server).fingerprint


async def test_a_long_document_is_refused_and_a_long_query_averaged(server: Server) -> None:
    embedder = embedder_at(server, max_tokens=4)
    with pytest.raises(LimitError, match="text 1, beginning"):
        await embedder.embed(["fine", "one two three four five"])
    [row] = await embedder.embed(["aa bb cc dd aa bb cc dd"], "query")
    assert server.requests[-1]["input"] == ["aa bb cc dd", "aa bb cc dd"]
    np.testing.assert_allclose(row, expected("aa bb cc dd"), atol=1e-6)


async def test_passing_faults_are_tried_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FIRST_DELAY", 0.01)
    server.fail(Fault(429), Fault(502))
    assert (await embedder_at(server).embed(["ice"])).shape == (1, 4)


async def test_vectors_of_another_length_are_refused(server: Server) -> None:
    server.dimension = 7
    with pytest.raises(BackendError, match=r"length \[7\].*not of 4; set embedder\.dimension"):
        await embedder_at(server).embed(["ice"])


async def test_openai_models_can_be_asked_for_shorter_vectors(server: Server) -> None:
    embedder = OpenAIEmbedder("text-embedding-3-small", endpoint("openai", base_url=server.url), dimension=8)
    assert (await embedder.embed(["ice"])).shape == (1, 8)
    assert server.requests[0]["dimensions"] == 8
    assert embedder.max_tokens == 8191


async def test_settings_open_it(server: Server) -> None:
    settings = EmbedderSettings(backend="openai", model="tiny", base_url=server.url, dimension=4, max_tokens=50)
    assert (await open_embedder(settings).embed(["ice"])).shape == (1, 4)
    with pytest.raises(ConfigurationError, match=r"set embedder\.dimension and embedder\.max_tokens"):
        open_embedder(EmbedderSettings(backend="openai", model="tiny", base_url=server.url))
