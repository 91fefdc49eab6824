"""The same behaviour on every store: vectors in process and on a server, history in SQLite and Postgres."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from lightrag.conversation import LightMemory, Scope
from lightrag.conversation.vectors import Choice, Origin, VectorDelta, VectorPoint, VectorStore
from lightrag.conversation.vectors import edge as edge_module
from lightrag.conversation.vectors.edge import EdgeVectorStore
from lightrag.conversation.vectors.server import ServerVectorStore
from lightrag.errors import BackendError, UsageError
from lightrag.models.fakes import HashingEmbedder
from lightrag.retrieval.filters import And, Between, Contains, Equal, Exists, FilterNode, Not, Or
from tests.lightrag.conversation.conftest import Opener, say
from tests.lightrag.storage.test_records import postgres as postgres

ANN, BOB = Scope("t", "ann"), Scope("t", "bob")


@pytest.fixture(params=["edge", "local", pytest.param("server", marks=pytest.mark.services)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[VectorStore]:
    """A store of each kind. ``local`` is the client's own imitation of a server: it checks what the client is told."""
    origin = Origin(uuid4().hex, "embedder", 8)
    opened: VectorStore
    if request.param == "edge":
        opened = EdgeVectorStore.open(tmp_path / "vectors", origin)
    elif request.param == "local":
        qdrant = pytest.importorskip("qdrant_client")
        opened = ServerVectorStore(qdrant.QdrantClient(":memory:"), "memories", origin)
    else:
        url = os.environ.get("QDRANT_URL")
        if not url:
            pytest.skip("no Qdrant server: set QDRANT_URL to run this")
        opened = ServerVectorStore.connect(f"test-{uuid4().hex}", origin, url=url)
    yield opened
    opened.close()


def vectors(count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    rows = random.standard_normal((count, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fill(store: VectorStore, scope: Scope, count: int = 20, watermark: int = 1) -> np.ndarray:
    rows = vectors(count)
    points = [
        VectorPoint(n, rows[n], {"time": n, "speaker": "ab"[n % 2], "tag": ["odd"] if n % 2 else ["even", "all"]})
        for n in range(count)
    ]
    store.apply(scope, VectorDelta(points), watermark)
    return rows


def test_the_nearest_items_come_first_with_their_cosine(store: VectorStore) -> None:
    rows = fill(store, ANN)
    hits = store.search(ANN, rows[3], 5)
    similar = rows @ rows[3]
    assert [hit.item for hit in hits] == np.argsort(-similar)[:5].tolist()
    assert [hit.score for hit in hits] == pytest.approx(np.sort(similar)[::-1][:5].tolist(), abs=0.02)


CONDITIONS: list[tuple[FilterNode, set[int]]] = [
    (Between(field="time", low=5, high=7), {5, 6, 7}),
    (Between(field="time", low=5, low_open=True, high=7, high_open=True), {6}),
    (Equal(field="speaker", values=("a",)), set(range(0, 20, 2))),
    (Equal(field="time", values=(3, 4)), {3, 4}),
    (Equal(field="tag", values=("odd", "all")), set(range(20))),
    (Equal(field="speaker", values=()), set()),
    (Not(part=Equal(field="speaker", values=("a",))), set(range(1, 20, 2))),
    (And(parts=(Equal(field="speaker", values=("a",)), Between(field="time", high=3))), {0, 2}),
    (Or(parts=(Equal(field="time", values=(1,)), Equal(field="time", values=(9,)))), {1, 9}),
    (Or(parts=()), set()),
    (And(parts=()), set(range(20))),
    (Exists(field="category"), set()),
    (Not(part=Exists(field="category")), set(range(20))),
]


@pytest.mark.parametrize(("condition", "expected"), CONDITIONS)
def test_conditions_hold_inside_the_search(store: VectorStore, condition: FilterNode, expected: set[int]) -> None:
    rows = fill(store, ANN)
    hits = store.search(ANN, rows[0], 50, Choice(condition))
    assert {hit.item for hit in hits} == expected


def test_items_can_be_excluded_and_chosen(store: VectorStore) -> None:
    rows = fill(store, ANN)
    assert {hit.item for hit in store.search(ANN, rows[0], 50, Choice(only=[1, 2, 3], excluded=[2]))} == {1, 3}
    with pytest.raises(UsageError, match="contains"):
        store.search(ANN, rows[0], 5, Choice(Contains(field="speaker", value="a")))


def test_users_are_apart_and_watermarks_are_their_own(store: VectorStore) -> None:
    rows = fill(store, ANN, watermark=7)
    assert (store.watermark(ANN), store.watermark(BOB)) == (7, 0)
    assert store.search(BOB, rows[0], 5) == []
    fill(store, BOB, 3)
    store.drop(ANN)
    assert (store.watermark(ANN), store.count(ANN), store.count(BOB)) == (0, 0, 3)


def test_payloads_are_replaced_and_items_removed(store: VectorStore) -> None:
    rows = fill(store, ANN)
    store.apply(ANN, VectorDelta(payloads={4: {"speaker": "c"}}, removed=[5]), 2)
    assert [hit.item for hit in store.search(ANN, rows[0], 5, Choice(Equal(field="speaker", values=("c",))))] == [4]
    assert store.present(ANN, [4, 5, 99]) == {4}
    stored = store.vectors(ANN)
    assert stored.items.tolist() == [n for n in range(20) if n != 5]
    assert np.abs(stored.vectors[3] - rows[3]).max() < 0.05


def test_a_shard_with_indexes_answers_as_one_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_module, "INDEX_FROM", 10)
    store = EdgeVectorStore.open(tmp_path / "indexed", Origin("h", "e", 8))
    rows = fill(store, ANN)
    for condition, expected in CONDITIONS:
        assert {hit.item for hit in store.search(ANN, rows[0], 50, Choice(condition))} == expected
    store.close()


def test_another_embedder_starts_again_from_the_history(tmp_path: Path) -> None:
    for embedder, expected in (("one", 0), ("one", 5), ("two", 0)):
        store = EdgeVectorStore.open(tmp_path / "v", Origin("h", embedder, 8))
        assert store.watermark(ANN) == expected
        fill(store, ANN, watermark=5)
        store.close()


def test_more_users_than_open_shards_are_served(tmp_path: Path) -> None:
    store = EdgeVectorStore.open(tmp_path / "v", Origin("h", "e", 8), open_shards=3)
    for n in range(9):
        fill(store, Scope("t", f"user {n}"), 4, watermark=n + 1)
    assert [store.watermark(Scope("t", f"user {n}")) for n in range(9)] == list(range(1, 10))
    store.close()


def test_lost_vectors_are_derived_again_from_the_history(open_memory: Opener, tmp_path: Path) -> None:
    import shutil

    memory = open_memory()
    memory.add_memory([say("I play the cello."), say("I own a yacht.")], force_extract=True)
    before = memory.retrieve("cello")
    memory.close()
    shutil.rmtree(tmp_path / "memory" / "lightmem")
    assert open_memory().retrieve("cello") == before


def test_vectors_that_cannot_be_written_at_the_end_are_named_and_block_nobody(
    open_memory: Opener, tmp_path: Path
) -> None:
    import shutil

    config = {"embedding_retriever": {"model_name": "qdrant", "configs": {"path": str(tmp_path / "memory")}}}
    memory = LightMemory.from_config(config, embedder=HashingEmbedder())
    memory.add_memory(say("I play the cello."), force_extract=True)
    before = memory.retrieve("cello")
    shutil.rmtree(tmp_path / "memory" / "lightmem" / "default")
    with pytest.raises(BackendError, match=r"the vector store of .* failed"):
        memory.close()
    assert open_memory().retrieve("cello") == before != []


def test_a_server_that_is_away_is_a_retryable_failure() -> None:
    with pytest.raises(BackendError) as caught:
        ServerVectorStore.connect("m", Origin("h", "e", 8), url="http://127.0.0.1:9", timeout=2)
    assert caught.value.retryable


@pytest.mark.services
def test_several_replicas_follow_one_history_in_postgres(open_memory: Opener, tmp_path: Path, postgres: str) -> None:
    one, other = (open_memory(path=tmp_path / name, history_db_path=postgres) for name in ("one", "other"))
    one.add_memory(say("My favorite color is blue.", "2024-01-01"), force_extract=True)
    assert other.retrieve("favorite color") == one.retrieve("favorite color") != []
    other.add_memory(say("My favorite color is green.", "2024-02-01"), force_extract=True)
    other.offline_update(score_threshold=0.5)
    assert one.retrieve("favorite color") == ["2024-02-01T00:00:00 Thu User: My favorite color is green."]
    assert one.forget() > 0
    assert other.retrieve("favorite color") == []
