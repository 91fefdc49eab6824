"""The compression stage: methods per request, stored latents of a corpus, requests that share their passes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightrag import Engine
from lightrag.compression import CompressedContext, CompressionRequest
from lightrag.config import CompressionSettings, load_settings
from lightrag.errors import ConfigurationError, UsageError
from lightrag.latents.compressor import LatentCompressor, LatentOptions
from lightrag.latents.corpus_latents import CorpusLatents
from lightrag.latents.encoder import LatentEncoder
from lightrag.latents.passages import PassageEncoder
from lightrag.latents.stage import CompressionByMethod
from lightrag.lexical.compressor import TextCompressor
from lightrag.lexical.evidence import EvidenceTextCompressor
from lightrag.lexical.llmlingua2 import LLMLingua2
from lightrag.models import ScriptedLanguageModel
from lightrag.models.local.model import TransformersLanguageModel
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.retrieval.base import RetrievalRequest
from lightrag.storage.objects import open_object_store
from lightrag.types import CorpusId, CorpusVersion, Evidence, LatentPart
from tests.checkpoints import save_causal_lm
from tests.lightrag.latents.test_compressor import evidence
from tests.lightrag.lexical.checkpoints import save_token_classifier

QUESTION = "When was the pier opened?"


def request(method: Any = None, **options: Any) -> CompressionRequest:
    return CompressionRequest(tuple(evidence()), 60, QUESTION, method=method, **options)


def states(context: CompressedContext) -> list[torch.Tensor]:
    return [part.states for part in context.parts if isinstance(part, LatentPart)]


def assert_alike(first: CompressedContext, second: CompressedContext, tolerance: float = 1e-4) -> None:
    assert [part if isinstance(part, str) else part.source for part in first.parts] == [
        part if isinstance(part, str) else part.source for part in second.parts
    ]
    for one, other in zip(states(first), states(second), strict=True):
        torch.testing.assert_close(one, other, atol=tolerance, rtol=tolerance)


async def test_each_request_has_its_own_method(tiny_llama: Path, tmp_path: Path) -> None:
    classifier = save_token_classifier(tmp_path / "bert", "bert")
    models = {"entropy": str(tiny_llama), "latents": str(tiny_llama)}
    settings = CompressionSettings(method="llmlingua2", model=str(classifier), models=models)  # type: ignore[arg-type]
    stage = CompressionByMethod(settings, generator=TransformersLanguageModel(str(tiny_llama)))
    contexts = {
        method: await stage.compress(request(method))
        for method in (None, "statistics", "llmlingua2", "entropy", "latents")
    }
    assert [context.method for context in contexts.values()] == [
        "llmlingua2", "statistics", "llmlingua2", "entropy", "latents: lexical overlap"
    ]  # fmt: skip
    assert contexts["latents"].kind == "latents"
    assert all(context.tokens <= 60 for context in contexts.values())


async def test_what_is_not_there_is_refused_with_the_setting_that_helps(tiny_llama: Path) -> None:
    stage = CompressionByMethod(CompressionSettings())
    with pytest.raises(UsageError, match=r"no compression method 'zip'; the methods are .*llmlingua2"):
        await stage.compress(request("zip"))
    for method in ("llmlingua2", "entropy", "latents"):
        with pytest.raises(UsageError, match=rf"{method}' is not available here: compression\.models"):
            await stage.compress(request(method))
    with pytest.raises(ConfigurationError, match=r"compression\.model"):
        CompressionByMethod(CompressionSettings(method="entropy"))
    # The generator decides between latents and text.
    settings = CompressionSettings(models={"latents": str(tiny_llama)})
    context = await CompressionByMethod(settings, generator=ScriptedLanguageModel([])).compress(request("latents"))
    assert context.kind == "text"
    assert "reads no latents" in context.notes[-1]


# --- Stored latents ---------------------------------------------------------------------------------------------------

PAGES = {
    "pier.txt": "The council voted to build a longer pier. It was opened by the mayor in 1874, at noon. " * 3,
    "ice.txt": "In the first winter the ice closed the bay for forty days, and no ship came in. " * 3,
    "mill.txt": "The mill by the river made paper until the drying shed burned down in March 1901. " * 3,
}


class Corpus:
    """Pages that were ingested, with latents of all but one, and the stage over them."""

    def __init__(self, model: Path, root: Path, **compression: Any) -> None:
        self.model, self.root = model, root
        options = {"method": "latents", "model": str(model), **compression}
        generator = {"backend": "transformers", "model": str(model), "max_tokens": 4}
        self.settings = load_settings(home=root, compression=options, generator=generator, ingest={"latents": True})
        self.store = open_object_store(self.settings.storage_url)
        self.id = CorpusId("default", "harbour")

    async def ingest(self, pages: dict[str, str] = PAGES, **settings: Any) -> int:
        folder = self.root / "pages"
        folder.mkdir(exist_ok=True)
        for name, text in pages.items():
            (folder / name).write_text(text, encoding="utf-8")
        chosen = load_settings(home=self.root, compression=self.settings.compression.model_dump(), **settings)
        async with Engine(chosen) as engine:
            return (await engine.ingest(folder, corpus="harbour")).version or 0

    async def evidence(self, version: int) -> tuple[Evidence, ...]:
        async with Engine(load_settings(home=self.root)) as engine:
            wanted = RetrievalRequest(self.id.at(version), QUESTION, top_k=20, mode="lexical", spread=False)
            return (await engine.pipeline.retrieve(wanted)).evidence

    def stage(self, latents: CorpusLatents | None = None) -> CompressionByMethod:
        generator = TransformersLanguageModel(str(self.model))
        return CompressionByMethod(self.settings.compression, generator=generator, latents=latents)

    async def compress(
        self, version: CorpusVersion | None, found: tuple[Evidence, ...], budget: int = 40
    ) -> CompressedContext:
        wanted = CompressionRequest(found, budget, QUESTION, corpus=version)
        return await self.stage(CorpusLatents(self.store)).compress(wanted)


async def test_latents_of_the_corpus_are_read_and_others_encoded(tiny_llama: Path, tmp_path: Path) -> None:
    corpus = Corpus(tiny_llama, tmp_path)
    version = await corpus.ingest(ingest={"latents": True})
    found = await corpus.evidence(version)
    known = await corpus.compress(corpus.id.at(version), found)
    assert {piece.latents for piece in known.allocation if piece.kept} == {"stored"}
    assert known.notes[0].startswith("latents of ")
    assert "encoded now" not in known.notes[0]
    assert_alike(known, await corpus.compress(None, found), tolerance=0.1)  # stored in one byte each
    stranger = evidence()[0]
    mixed = await corpus.compress(corpus.id.at(version), (*found, stranger), budget=80)
    assert {piece.latents for piece in mixed.allocation if piece.kept} == {"stored", "encoded"}
    assert {piece.latents for piece in mixed.allocation if piece.chunk_id == "c0"} == {"encoded"}
    assert "1 had none and were encoded now" in mixed.notes[0]


async def test_only_the_bytes_of_the_ratio_are_read(tiny_llama: Path, tmp_path: Path) -> None:
    corpus = Corpus(tiny_llama, tmp_path, importance="none", layout="8x")
    version = await corpus.ingest(ingest={"latents": True})
    found = await corpus.evidence(version)
    latents = CorpusLatents(corpus.store)
    stage = corpus.stage(latents)
    context = await stage.compress(CompressionRequest(found, 60, QUESTION, corpus=corpus.id.at(version)))
    homes = {home for home in latents._open.values() if home.fetched_bytes}
    rows = sum(len(table) for table in states(context))
    assert sum(home.fetched_bytes for home in homes) == rows * next(iter(homes)).store.row_bytes
    assert rows < context.source_tokens / 4
    await stage.compress(CompressionRequest(found, 60, QUESTION, corpus=corpus.id.at(version)))
    assert sum(home.fetched_bytes for home in homes) == rows * next(iter(homes)).store.row_bytes


async def test_versions_without_latents_and_latents_of_other_encoders_are_encoded_anew(
    tiny_llama: Path, tmp_path: Path
) -> None:
    corpus = Corpus(tiny_llama, tmp_path)
    plain = await corpus.ingest({"pier.txt": PAGES["pier.txt"]})
    context = await corpus.compress(corpus.id.at(plain), await corpus.evidence(plain))
    assert {piece.latents for piece in context.allocation if piece.kept} == {"encoded"}
    assert not any("storage" in note for note in context.notes)
    version = await corpus.ingest(ingest={"latents": True})
    other = Corpus(save_causal_lm(tmp_path / "other", "llama", seed=9), tmp_path)
    foreign = await other.compress(corpus.id.at(version), await corpus.evidence(version))
    assert {piece.latents for piece in foreign.allocation if piece.kept} == {"encoded"}
    assert any("another encoder made them" in note for note in foreign.notes)


async def test_an_answer_says_where_its_latents_come_from(tiny_llama: Path, tmp_path: Path) -> None:
    corpus = Corpus(tiny_llama, tmp_path)
    await corpus.ingest(ingest={"latents": True})
    async with Engine(corpus.settings) as engine:
        answer = await engine.ask(QUESTION, corpus="harbour", task="rag", compress_to=40)
        assert answer.fallbacks == ()
        assert any("were read from storage" in note for note in answer.notes)
        text = await engine.ask(QUESTION, corpus="harbour", task="rag", compress_to=40, compress_method="statistics")
        assert not any("storage" in note for note in text.notes)
        with pytest.raises(UsageError, match="compress_to"):
            await engine.ask(QUESTION, corpus="harbour", compress_method="statistics")
        with pytest.raises(UsageError, match="no compression method 'zip'"):
            await engine.ask(QUESTION, corpus="harbour", compress_to=40, compress_method="zip")
        with pytest.raises(UsageError, match="not available here"):
            await engine.ask(QUESTION, corpus="harbour", task="rag", compress_to=40, compress_method="entropy")


# --- Requests that come together --------------------------------------------------------------------------------------


def wait_for_company(waiting: Any, company: int) -> None:
    """Hold a pass until so many other requests wait."""
    until = time.monotonic() + 30
    while waiting() < company and time.monotonic() < until:
        time.sleep(0.005)


class GatedEncoder(LatentEncoder):
    """Counts its passes; the first one lasts until the other requests have come."""

    passes = 0
    waiting: Any = None

    def _encode_batch(self, inputs: Any, keep: Any) -> Any:
        self.passes += 1
        if self.passes == 1 and self.waiting is not None:
            wait_for_company(self.waiting, 3)
        return super()._encode_batch(inputs, keep)


def several() -> list[list[Evidence]]:
    """Evidence of four requests, some of it shared."""
    words = ("pier", "ice", "mayor", "council")
    own = [evidence([f"The {word} is what request {number} is about. " * 6]) for number, word in enumerate(words)]
    return [[*each, *evidence()[number % 3 : number % 3 + 1]] for number, each in enumerate(own)]


def in_threads(calls: Sequence[Any]) -> list[CompressedContext]:
    """Run coroutines at once, each in an event loop of its own."""
    results: dict[int, CompressedContext] = {}

    def run(number: int) -> None:
        results[number] = asyncio.run(calls[number])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return [results[number] for number in range(len(calls))]


@pytest.mark.parametrize("joint", [False, True])
def test_requests_that_come_together_are_encoded_in_one_batch(tiny_llama: Path, joint: bool) -> None:
    plain = LatentEncoder.load(tiny_llama)
    tokenizer = HuggingFaceTokenizer.open(tiny_llama)
    options = LatentOptions(joint=joint, remember_bytes=0)
    single = LatentCompressor(PassageEncoder(plain, tokenizer), options=options)
    alone = [asyncio.run(single.compress(each, 30, QUESTION)) for each in several()]
    gated = GatedEncoder(plain.model)
    together = LatentCompressor(PassageEncoder(gated, tokenizer), options=options)
    gated.waiting = lambda: together.shared.requests.waiting
    found = in_threads([together.compress(each, 30, QUESTION) for each in several()])
    for one, other in zip(alone, found, strict=True):
        assert one.allocation == other.allocation
        assert_alike(one, other)
    assert together.shared.requests.runs == 2
    assert gated.passes == (4 if joint else 2)


def test_texts_of_requests_that_come_together_are_read_in_fewer_passes(tmp_path: Path) -> None:
    class Gated(LLMLingua2):
        passes = 0
        gate = False

        def _forward(self, rows: Any) -> Any:
            self.passes += 1
            if self.gate and self.passes == 1:
                wait_for_company(lambda: self.batches.waiting, 3)
            return super()._forward(rows)

    scorer = Gated(save_token_classifier(tmp_path / "bert", "bert"))
    texts = [each[0].chunk.text for each in several()]
    alone = [scorer.read([text])[0].probabilities for text in texts]
    scorer.passes, scorer.gate = 0, True
    with ThreadPoolExecutor(len(texts)) as pool:
        together = [readings[0].probabilities for readings in pool.map(lambda text: scorer.read([text]), texts)]
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert scorer.batches.runs == len(texts) + 2
    assert scorer.passes < len(texts)
    scorer.gate = False
    compressor = EvidenceTextCompressor(TextCompressor(scorer))
    for context in in_threads([compressor.compress(each, 30, "") for each in several()]):
        assert (context.method, context.kind) == ("llmlingua2", "text")
