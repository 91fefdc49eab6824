"""Conversation memory side by side with the published behaviour, re-created plainly, on this machine.

Run ``python -m tests.benchmarks.conversation_speed`` (some five minutes on two idle cores; ``--only search`` and so on
for one part, ``--entries``, ``--turns``, ``--compressed-turns`` and ``--users`` to bound the time).

The published side is the straightforward code that its description gives: ``QdrantClient`` in local mode, one embedding
per fact by ``SentenceTransformer.encode`` of the same model, one look-up and one write per fact, one filtered search
per entry for the update queues. With compression its models are those of our side, faster than it has them. Where the
published side would take many minutes it is run for a part of the entries and scaled up, and the line says so. No
language model is involved: a scripted one answers at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from lightrag.config import EmbedderSettings
from lightrag.conversation import LightMemory, Scope
from lightrag.conversation.history import History
from lightrag.conversation.index.rows import item_number
from lightrag.conversation.types import MemoryEntry
from lightrag.conversation.update.neighbours import candidate_queues
from lightrag.conversation.vectors import Choice, Origin, VectorDelta, VectorPoint
from lightrag.conversation.vectors.edge import EdgeVectorStore
from lightrag.models import open_embedder
from lightrag.models.base import Completion, Embedder, Prompt, Sampling
from lightrag.models.fakes import ScriptedLanguageModel
from lightrag.models.files import quiet_loading, resolve_model
from lightrag.retrieval.filters import Between, Equal
from tests.benchmarks.conversation_building import adding_compressed, consolidating
from tests.benchmarks.conversation_footprint import footprint
from tests.benchmarks.conversation_users import users

DIMENSION = 384
ADDING_ROUNDS = 5
"""A single text takes between 8 and 25 ms to embed, whatever the machine is doing."""
SCOPE = Scope("t", "u")
WORDS = (
    "garden",
    "boat",
    "piano",
    "sister",
    "train",
    "winter",
    "soup",
    "Lisbon",
    "doctor",
    "bicycle",
    "cousin",
    "window",
)
WORDS += ("market", "river", "dog")


def milliseconds(work: Callable[[int], object], repeats: int = 60) -> float:
    """Median time of a call."""
    spent = []
    for n in range(repeats):
        start = time.perf_counter()
        work(n)
        spent.append(1000 * (time.perf_counter() - start))
    return statistics.median(spent)


def line(name: str, published: float, ours: float, unit: str, target: float, note: str = "") -> dict[str, Any]:
    ratio = published / ours
    print(
        f"{name}: published {published:.3f} {unit}, ours {ours:.3f} {unit}, {ratio:.1f}x (target {target}x) {note}",
        flush=True,
    )
    return {"name": name, "published": published, "ours": ours, "unit": unit, "ratio": ratio, "target": target}


def vectors_like_text(count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    topics = random.standard_normal((200, DIMENSION))
    vectors = topics[random.integers(0, 200, count)] + 0.8 * random.standard_normal((count, DIMENSION))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


@contextmanager
def published_store(folder: Path, vectors: np.ndarray) -> Iterator[Any]:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(folder))
    client.create_collection("m", models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE))
    for start in range(0, len(vectors), 500):
        part = range(start, min(start + 500, len(vectors)))
        client.upsert("m", [models.PointStruct(id=n, vector=vectors[n].tolist(), payload=_payload(n)) for n in part])
    yield client
    client.close()


def _payload(n: int) -> dict[str, Any]:
    text = f"{WORDS[n % 15]} {WORDS[n % 13]} number {n}, as was told on a day."
    return {"time": n, "speaker": "ab"[n % 2], "memory": text, "topic": n // 10}


def search(vectors: np.ndarray, folder: Path) -> list[dict[str, Any]]:
    """The search itself, the query vector given; then update queues over the same entries."""
    from qdrant_client import models

    count = len(vectors)
    store = EdgeVectorStore.open(folder / "ours", Origin("h", "e", DIMENSION))
    points = [VectorPoint(item_number(f"e{n}"), vectors[n], {"time": n, "speaker": "ab"[n % 2]}) for n in range(count)]
    store.apply(SCOPE, VectorDelta(points), 1)
    half = Choice(Between(field="time", high=count // 2))
    speaker = Choice(Equal(field="speaker", values=("a",)))
    with published_store(folder / "published", vectors) as client:

        def theirs(n: int, key: str = "", condition: Any = None) -> Any:
            chosen = models.Filter(must=[condition]) if key else None
            return client.query_points("m", query=vectors[n].tolist(), limit=10, query_filter=chosen, with_vectors=True)

        before = models.FieldCondition(key="time", range=models.Range(lte=count // 2))
        who = models.FieldCondition(key="speaker", match=models.MatchValue(value="a"))
        rows = [
            line(
                f"search in {count}",
                milliseconds(theirs, 30),
                milliseconds(lambda n: store.search(SCOPE, vectors[n], 10)),
                "ms",
                30,
            ),
            line(
                f"search in {count} by time",
                milliseconds(lambda n: theirs(n, "time", before), 10),
                milliseconds(lambda n: store.search(SCOPE, vectors[n], 10, half)),
                "ms",
                300,
            ),
            line(
                f"search in {count} by speaker",
                milliseconds(lambda n: theirs(n, "speaker", who), 10),
                milliseconds(lambda n: store.search(SCOPE, vectors[n], 10, speaker)),
                "ms",
                300,
            ),
        ]
        one = milliseconds(lambda n: theirs(n, "time", before), 20) / 1000
    rows.append(queues(vectors, store, folder, one * count))
    store.close()
    return rows


def queues(vectors: np.ndarray, store: EdgeVectorStore, folder: Path, published: float) -> dict[str, Any]:
    count = len(vectors)
    start = datetime(2024, 1, 1)
    entries = [MemoryEntry(f"e{n}", "text", start + timedelta(minutes=n)) for n in range(count)]
    history = History.open(folder / "queues.db")
    begun = time.perf_counter()
    numbers = {item_number(entry.entry_id): n for n, entry in enumerate(entries)}
    found = candidate_queues(entries, store.vectors(SCOPE), numbers, frozenset(range(count)), 10)
    history.queues.write(SCOPE, found, 1)
    ours = time.perf_counter() - begun
    history.close()
    return line(f"update queues of {count}", published, ours, "s", 300, "(published: 20 searches, scaled up)")


def adding(turns: int, folder: Path) -> list[dict[str, Any]]:
    """Adding user and assistant turns without compression, the model's time excluded; medians of several rounds."""
    from sentence_transformers import SentenceTransformer

    embedder = open_embedder(EmbedderSettings())
    with quiet_loading():
        plain = SentenceTransformer(str(resolve_model(embedder.name)), device="cpu")
    facts = [f"User saw a {WORDS[n % 15]} near the {WORDS[n % 13]} with {n} friends on that day." for n in range(turns)]
    asyncio.run(embedder.embed(["warm up"]))
    plain.encode("warm up")
    rounds = [
        (
            _published_adding(facts, folder / f"published-{number}", plain.encode),
            _our_adding(facts, folder / f"facts-{number}", embedder, turns_too=False),
            _our_adding(facts, folder / f"turns-{number}", embedder, turns_too=True),
        )
        for number in range(ADDING_ROUNDS)
    ]
    theirs, facts_only, turns_too = (statistics.median(column) for column in zip(*rounds, strict=True))
    return [
        line("adding a turn, no compression", theirs, facts_only, "ms", 3, "(facts indexed, as published)"),
        line("adding a turn, no compression", theirs, turns_too, "ms", 3, "(messages indexed beside the facts)"),
    ]


def _published_adding(facts: Sequence[str], folder: Path, encode: Callable[[str], Any]) -> float:
    """Milliseconds a turn."""
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(folder))
    client.create_collection("m", models.VectorParams(size=DIMENSION, distance=models.Distance.COSINE))
    begun = time.perf_counter()
    for n, fact in enumerate(facts):
        vector = encode(fact)
        client.retrieve("m", [n])
        point = models.PointStruct(id=n, vector=vector.tolist(), payload=_payload(n) | {"memory": fact})
        client.upsert("m", [point])
    spent = time.perf_counter() - begun
    client.close()
    return 1000 * spent / len(facts)


def _our_adding(facts: Sequence[str], folder: Path, embedder: Embedder, *, turns_too: bool) -> float:
    """Milliseconds a turn."""
    store = {"model_name": "qdrant", "configs": {"path": str(folder)}}
    model = TimedModel(_one_fact_each)
    memory = LightMemory.from_config(
        {"embedding_retriever": store, "retrieve_turns": turns_too}, embedder=embedder, language_model=model
    )
    # Both sides start with loaded libraries and with the store of this user open.
    warm = {"role": "user", "content": "I am warming up.", "time_stamp": "2024-01-01"}
    memory.add_memory(warm, force_extract=True)
    model.seconds = 0.0
    begun = time.perf_counter()
    for n, fact in enumerate(facts):
        stamp = f"2024-{n // 28 % 12 + 1:02d}-{n % 28 + 1:02d}T10:00:{n // 336 % 60:02d}"
        pair = [
            {"role": "user", "content": fact, "time_stamp": stamp},
            {"role": "assistant", "content": "I see, thank you for telling me.", "time_stamp": stamp},
        ]
        memory.add_memory(pair, force_extract=n == len(facts) - 1)
    spent = time.perf_counter() - begun - model.seconds
    memory.close()
    return 1000 * spent / len(facts)


def chatting(turns: int, folder: Path) -> list[dict[str, Any]]:
    """A memory in use: every message is added, then searched for; medians once the memory has so many turns."""
    store = {"model_name": "qdrant", "configs": {"path": str(folder)}}
    memory = LightMemory.from_config(
        {"embedding_retriever": store},
        embedder=open_embedder(EmbedderSettings()),
        language_model=TimedModel(_one_fact_each),
    )
    said = [f"User saw a {WORDS[n % 15]} near the {WORDS[n % 13]} with {n} friends on that day." for n in range(turns)]
    start = datetime(2024, 1, 1, 10)
    messages = [
        {"role": role, "content": text, "time_stamp": (start + timedelta(days=n // 40, minutes=n % 40)).isoformat()}
        for n, fact in enumerate(said)
        for role, text in (("user", fact), ("assistant", "I see, thank you for telling me."))
    ]
    for first in range(0, len(messages), 200):
        memory.add_memory(messages[first : first + 200])
    memory.flush()
    memory.retrieve(said[0])
    later = (start + timedelta(days=turns)).isoformat()

    def turn(n: int) -> float:
        memory.add_memory({"role": "user", "content": f"{n} more friends came.", "time_stamp": later})
        begun = time.perf_counter()
        memory.retrieve(said[n])
        return 1000 * (time.perf_counter() - begun)

    after = statistics.median(turn(n) for n in range(20))
    again = milliseconds(lambda n: memory.retrieve(said[n]), 20)
    memory.close()
    print(f"search at {turns} turns: {after:.1f} ms after an addition, {again:.1f} ms without", flush=True)
    return [{"name": f"search at {turns} turns", "after": after, "again": again, "unit": "ms"}]


class TimedModel(ScriptedLanguageModel):
    """Knows how long it took itself, which no language model would."""

    seconds = 0.0

    async def complete(self, prompts: Sequence[Prompt], sampling: Sampling | None = None) -> list[Completion]:
        begun = time.perf_counter()
        completions = await super().complete(prompts, sampling)
        self.seconds += time.perf_counter() - begun
        return completions


def _one_fact_each(prompt: Any, _sampling: Any) -> str:
    lines = [text for text in prompt.messages[1].text.splitlines() if text.startswith("[")]
    facts = [{"source_id": n, "fact": text.split(": ", 1)[1], "importance": 1} for n, text in enumerate(lines)]
    return json.dumps({"data": facts})


def compressing(turns: int, folder: Path) -> list[dict[str, Any]]:
    theirs, ours, note = adding_compressed(turns, folder, open_embedder(EmbedderSettings()))
    return [line("adding a turn, compressed", theirs, ours, "ms", 5, note)]


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[dict[str, Any]]]] = {
    "search": lambda options, folder: search(vectors_like_text(options.entries), folder),
    "adding": lambda options, folder: adding(options.turns, folder),
    "chatting": lambda options, folder: [
        row for count in (options.turns, 25 * options.turns) for row in chatting(count, folder / f"chat-{count}")
    ],
    "compressing": lambda options, folder: compressing(options.compressed_turns, folder),
    "consolidating": lambda _, folder: [consolidating(400, folder, open_embedder(EmbedderSettings()))],
    "footprint": lambda options, _: footprint(options.entries),
    "users": lambda options, folder: [users(options.users, folder, workers=options.workers, history=options.history)],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=tuple(PARTS), help="one part; all by default")
    parser.add_argument("--compressed-turns", type=int, default=24)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=200)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2, help="processes that serve them over one history")
    parser.add_argument("--history", default="", help="PostgreSQL URL of that history; a SQLite file by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for part, measured in PARTS.items():
        if options.only in (None, part):
            with tempfile.TemporaryDirectory() as folder:
                rows += measured(options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
