"""Recall from the memories of corpus versions: which are asked, when they are loaded, and the way from documents."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lightrag import Engine
from lightrag.config import Settings, load_settings
from lightrag.errors import ArtifactError, BackendError, ConfigurationError, LimitError, NotFoundError
from lightrag.memory import corpus_memory, kv_recall
from lightrag.memory.base import RecallRequest, Recollection
from lightrag.memory.corpus_holding import LocalMemories
from lightrag.memory.corpus_memory import StoredCorpusMemory, VersionMemories
from lightrag.memory.corpus_recall import CorpusRecaller, open_memory_recaller
from lightrag.memory.full_context import FullContextModel
from lightrag.memory.text_memory import TextMemory
from lightrag.models import HashingEmbedder
from lightrag.models.base import FloatMatrix
from lightrag.storage.groups import DocumentGroup
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.types import Clue, CorpusId, CorpusVersion
from tests.checkpoints import SPECIAL_TOKENS, save_causal_lm
from tests.lightrag.memory.corpora import Made, commit_memories

TEXTS = {
    "ice": "In the first winter the ice closed the bay for forty days. ",
    "pier": "The council voted to build a longer pier, opened in 1874. ",
    "mill": "The mill by the river made paper until the shed burned down. ",
}


class Gists:
    """Stands for recall from gists."""

    async def recall(self, request: RecallRequest) -> Recollection:
        return Recollection((Clue("From a gist."),), "extractive", notes=("read gists",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that never ends an answer, so that it always says something."""
    folder = save_causal_lm(tmp_path_factory.mktemp("corpus-recall"), "llama", seed=4)
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"][: len(SPECIAL_TOKENS)] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def texts(folder: Path) -> TextMemory:
    return TextMemory.load(folder, FullContextModel.load(folder))


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_object_store((tmp_path / "objects").as_uri())


def configured(folder: Path, home: Path, **memory: object) -> Settings:
    return load_settings(home=home, memory={"model": str(folder), **memory})


async def made(texts: TextMemory, embedder: HashingEmbedder) -> list[Made]:
    vectors = await embedder.embed(list(TEXTS.values()))
    return [
        Made(key, texts.memorise(text), [vector.tolist()])
        for (key, text), vector in zip(TEXTS.items(), vectors, strict=True)
    ]


def stored(*routes: FloatMatrix) -> list[StoredCorpusMemory]:
    store = open_object_store("memory://")
    return [StoredCorpusMemory(DocumentGroup(str(n), {}, 1, "en", each), store, {}) for n, each in enumerate(routes)]


def unit_rows(rows: int, dimension: int, seed: int) -> FloatMatrix:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
    result: FloatMatrix = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return result


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(1, 9), st.integers(0, 99))
def test_a_question_goes_to_the_memories_with_the_nearest_routes(counts: list[int], limit: int, seed: int) -> None:
    routes = [
        unit_rows(count, 6, seed + n) if count else np.zeros((0, 0), np.float32) for n, count in enumerate(counts)
    ]
    question = unit_rows(1, 6, seed + 1000)[0]
    memories = VersionMemories(CorpusId("t", "c"), stored(*routes))
    assert len(memories) == len(counts)
    chosen = [int(memory.group.key) for memory in memories.nearest(question, limit)]
    scores = [float((each @ question).max()) if len(each) else -2.0 for each in routes]
    assert len(chosen) == len(set(chosen)) == min(limit, len(counts))
    assert [scores[n] for n in chosen] == pytest.approx(sorted(scores, reverse=True)[:limit], abs=1e-6)
    covering = memories.covering(limit)
    assert len({memory.group.key for memory in covering}) == len(covering) == min(limit, len(counts))


def test_routes_of_another_embedder_are_refused() -> None:
    with pytest.raises(ArtifactError, match="6 numbers, the embedder gives 4"):
        VersionMemories(CorpusId("t", "c"), stored(unit_rows(2, 6, 0))).nearest(np.ones(4, np.float32), 1)


async def test_only_the_nearest_memories_are_loaded_and_they_stay(
    folder: Path, texts: TextMemory, store: ObjectStore, tmp_path: Path
) -> None:
    embedder = HashingEmbedder()
    version = commit_memories(store, await made(texts, embedder))
    holder = LocalMemories(lambda: texts, budget_bytes=2**30)
    recaller = CorpusRecaller(store, holder, embedder, Gists(), configured(folder, tmp_path, memories_per_question=1))
    asked = [RecallRequest(version, TEXTS["pier"]) for _ in range(3)]
    for recollection in await asyncio.gather(*map(recaller.recall, asked)):
        assert recollection.method == "kv_memory"
        assert recollection.notes == (f"recalled from 1 of 3 KV memories of {version}",)
    assert (holder.residency.stats().loads, holder.residency.stats().values) == (1, 1)
    summary = await recaller.recall(RecallRequest(version, "", task="summarize"))
    assert summary.notes == (f"recalled from 3 of 3 KV memories of {version}",)
    assert holder.residency.stats().loads == 3
    # A later version finds what did not change where it is.
    later = commit_memories(store, [Made("new", texts.memorise("The mayor resigned at noon in 1875."))])
    await recaller.recall(RecallRequest(later, TEXTS["pier"]))
    assert holder.residency.stats().loads == 3
    await recaller.close()
    assert holder.residency.stats().values == 0


async def test_a_summary_of_more_memories_than_are_asked_says_so(
    folder: Path, texts: TextMemory, store: ObjectStore, tmp_path: Path
) -> None:
    embedder = HashingEmbedder()
    version = commit_memories(store, await made(texts, embedder))
    settings = configured(folder, tmp_path, memories_per_summary=2)
    recaller = CorpusRecaller(store, LocalMemories(lambda: texts, budget_bytes=2**30), embedder, Gists(), settings)
    recollection = await recaller.recall(RecallRequest(version, "", task="summarize"))
    assert recollection.notes == (f"recalled from 2 of 3 KV memories of {version}",)


async def test_many_questions_over_more_memories_than_fit_all_get_their_turn(
    folder: Path, texts: TextMemory, store: ObjectStore, tmp_path: Path
) -> None:
    embedder = HashingEmbedder()
    memories = await made(texts, embedder)
    version = commit_memories(store, memories)
    largest = max(each.memory.byte_count for each in memories)
    holder = LocalMemories(lambda: texts, budget_bytes=largest)
    recaller = CorpusRecaller(store, holder, embedder, Gists(), configured(folder, tmp_path, memories_per_question=3))
    questions = [RecallRequest(version, text, task="memorag") for text in TEXTS.values()]
    async with asyncio.timeout(60):
        recollections = await asyncio.gather(*map(recaller.recall, questions))
    assert {each.notes for each in recollections} == {(f"recalled from 3 of 3 KV memories of {version}",)}
    assert holder.residency.stats().bytes <= largest
    small = CorpusRecaller(
        store, LocalMemories(lambda: texts, budget_bytes=10), embedder, Gists(), configured(folder, tmp_path)
    )
    with pytest.raises(LimitError, match=r"service\.residency_bytes"):
        await small.recall(questions[0])


async def test_gists_are_read_where_there_is_no_memory_and_the_notes_say_so(
    folder: Path, store: ObjectStore, tmp_path: Path
) -> None:
    version = commit_memories(store, [])
    recaller = open_memory_recaller(
        configured(folder, tmp_path), store=store, embedder=HashingEmbedder(), gists=Gists()
    )
    recollection = await recaller.recall(RecallRequest(version, "When?"))
    assert recollection.method == "extractive"
    assert recollection.notes[0] == "read gists"
    assert "has no KV memories" in recollection.notes[1]
    with pytest.raises(NotFoundError):
        await recaller.recall(RecallRequest(CorpusVersion("default", "harbour", 7), "When?"))


async def test_the_memory_of_another_model_is_refused(texts: TextMemory, store: ObjectStore, tmp_path: Path) -> None:
    other = save_causal_lm(tmp_path / "other", "llama", seed=5)
    embedder = HashingEmbedder()
    version = commit_memories(store, await made(texts, embedder))
    recaller = open_memory_recaller(configured(other, tmp_path), store=store, embedder=embedder, gists=Gists())
    with pytest.raises(ArtifactError, match="weights"):
        await recaller.recall(RecallRequest(version, "When?"))


async def test_a_model_that_cannot_be_loaded_is_tried_again(texts: TextMemory, store: ObjectStore) -> None:
    tries = iter([False, True])

    def load() -> TextMemory:
        if next(tries):
            return texts
        raise ConfigurationError("the disk is gone")

    holder = LocalMemories(load, budget_bytes=2**30)
    with pytest.raises(ConfigurationError, match="disk"):
        await holder.warm()
    await holder.warm()


async def test_from_documents_to_clues_of_their_memory(folder: Path, texts: TextMemory, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    for name, text in TEXTS.items():
        (pages / f"{name}.txt").write_text(text * 12, encoding="utf-8")
    settings = configured(folder, tmp_path, window_tokens=700)
    async with Engine(settings) as engine:
        summary = await engine.ingest(pages, corpus="harbour")
        assert summary.version == 1
        answer = await engine.ask("When was the longer pier opened?", corpus="harbour")
        assert any("KV memories of default/harbour@1" in note for note in answer.notes)
        assert answer.fallbacks == ()
        assert answer.usage.cached_tokens > 0
        assert "1874" in answer.text
        again = await engine.ask("When was the longer pier opened?", corpus="harbour")
        assert (again.clues, again.text) == (answer.clues, answer.text)
        direct = await engine.ask("When was the longer pier opened?", corpus="harbour", task="qa")
        assert direct.kind == "generated"
        assert direct.notes[0].startswith("recalled from 1 of ")


def children(name: str) -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if name in " ".join(each.cmdline())]


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.timeout(300)
async def test_vllm_recalls_what_transformers_recalls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm")
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    monkeypatch.setenv("VLLM_LOGGING_LEVEL", "ERROR")
    # Long answers of random weights would sooner or later come to two words that are equally likely.
    monkeypatch.setattr(kv_recall, "REPLY_TOKENS", dict.fromkeys(kv_recall.REPLY_TOKENS, 24))
    model = save_causal_lm(tmp_path / "model", "qwen2", seed=2)
    memory = TextMemory.load(model, FullContextModel.load(model))
    embedder = HashingEmbedder()
    settings = configured(model, tmp_path)
    store = open_object_store(settings.storage_url)
    version = commit_memories(store, await made(memory, embedder))
    request = RecallRequest(version, TEXTS["pier"], draft=True)
    here = open_memory_recaller(settings, store=store, embedder=embedder, gists=Gists())
    expected = await here.recall(request)
    engine = {"enforce_eager": True, "max_model_len": 1024}
    there_settings = configured(model, tmp_path, engine="vllm", engine_arguments=engine)
    there = open_memory_recaller(there_settings, store=store, embedder=embedder, gists=Gists())
    try:
        await there.warm()
        found = await there.recall(request)
        (engine_process,) = children("EngineCore")
        engine_process.kill()
        async with asyncio.timeout(60):
            with pytest.raises(BackendError, match="has died"):
                await there.recall(request)
            with pytest.raises(BackendError, match="has died"):
                await there.check_health()
    finally:
        await there.close()
    assert not children("EngineCore")
    assert found.clues == expected.clues
    assert found.clues
    assert found.notes == expected.notes
    assert found.usage.completion_tokens == expected.usage.completion_tokens
    assert found.usage.cached_tokens == expected.usage.cached_tokens


def test_a_summary_of_very_many_memories_looks_at_a_sample_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_memory, "_COMPARED", 4)
    memories = VersionMemories(CorpusId("t", "c"), stored(*(unit_rows(2, 6, number) for number in range(23))))
    for limit in (1, 3, 9, 22, 30):
        assert len({memory.group.key for memory in memories.covering(limit)}) == min(limit, 23)
