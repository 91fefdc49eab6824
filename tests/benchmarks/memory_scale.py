"""How the cost of KV memories grows with the corpus: ``python -m tests.benchmarks.memory_scale [--json FILE]``.

Corpora of 1 to 64 windows are memorised by a tiny random model and asked through the recall stage. Memorising and
storing are linear in tokens, reading a version's descriptions and routing a question are linear in windows with a tiny
constant, and what is loaded and asked for a question does not depend on the corpus. The constants are measured, then
multiplied out to a billion tokens. Under a minute on one core.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lightrag.config import Settings, load_settings
from lightrag.memory.artifact.saving import save_memory
from lightrag.memory.base import RecallRequest, Recollection
from lightrag.memory.corpus_holding import LocalMemories
from lightrag.memory.corpus_memory import StoredCorpusMemory, VersionMemories
from lightrag.memory.corpus_recall import CorpusRecaller
from lightrag.memory.full_context import FullContextModel
from lightrag.memory.group_place import GroupPlace
from lightrag.memory.text_memory import TextMemory
from lightrag.models import HashingEmbedder
from lightrag.models.base import FloatMatrix
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.commits import FileEntry
from lightrag.storage.groups import GROUP_FILE, DocumentGroup
from lightrag.storage.objects import ObjectStore, open_object_store
from lightrag.types import CorpusId, CorpusVersion
from tests.checkpoints import save_causal_lm

WINDOWS = (1, 4, 16, 64)
ROUTES = 16
SENTENCES = 24
"""Of one window."""
QUESTIONS = 4
TARGET_TOKENS = 10**9
SERVED_WINDOW = 131_072
"""Tokens of a window where a corpus of ``TARGET_TOKENS`` is served."""
NOUNS = ("pier", "mill", "harbour", "council", "mayor", "winter", "paper", "shed", "river", "bay", "ship", "gate")


@dataclass(frozen=True)
class Row:
    """One corpus size."""

    windows: int
    tokens: int
    memorise_seconds: float
    stored_bytes: int
    described_bytes: int
    open_seconds: float
    """Reading all descriptions of a version, once for all questions."""
    route_seconds: float
    """Choosing the memories of a question."""
    loaded_bytes: float
    """For a question whose memories are not loaded."""
    cold_seconds: float
    warm_seconds: float


class NoGists:
    """Every version here has memories."""

    async def recall(self, request: RecallRequest) -> Recollection:
        raise AssertionError("a version without memories was asked")


@dataclass(frozen=True)
class Window:
    """One memorised window, written."""

    entries: tuple[FileEntry, ...]
    tokens: int
    seconds: float
    question: str


def sentences(seed: int) -> list[str]:
    source = random.Random(seed)  # no secret
    return [
        f"In {source.randrange(1200, 2000)} the {source.choice(NOUNS)} of house {seed} was sold to number {n}."
        for n in range(SENTENCES)
    ]


async def memorise(log: CorpusLog, texts: TextMemory, embedder: HashingEmbedder, number: int) -> Window:
    """Make and write one memory with its routes, as the job does."""
    lines = sentences(number)
    start = time.perf_counter()
    memory = texts.memorise(" ".join(lines))
    place = GroupPlace(log, "memory", f"w{number:04d}")
    save_memory(memory, place)
    seconds = time.perf_counter() - start
    routes = await embedder.embed(lines[:ROUTES])
    group = DocumentGroup(f"w{number:04d}", {f"d{number}": "k"}, memory.source_tokens, "en", routes)
    place.write(GROUP_FILE, [group.to_json()])
    return Window(place.entries, memory.source_tokens, seconds, lines[0])


async def measure(
    store: ObjectStore, settings: Settings, texts: TextMemory, version: CorpusVersion, made: list[Window]
) -> Row:
    """Ask one version."""
    embedder = HashingEmbedder()
    holder = LocalMemories(lambda: texts, budget_bytes=2**30)
    recaller = CorpusRecaller(store, holder, embedder, NoGists(), settings)
    await recaller.warm()
    start = time.perf_counter()
    memories = await recaller._catalogue.of(version)
    opened = time.perf_counter() - start
    source = random.Random(version.version)
    asked = [source.choice(made).question for _ in range(QUESTIONS)]
    vectors = await embedder.embed(asked, "query")
    limit = settings.memory.memories_per_question
    routing = [seconds_of(memories, vector, limit) for vector in vectors]
    cold, warm, loaded = [], [], []
    for question in asked:
        for times in (cold, warm):
            start = time.perf_counter()
            await recaller.recall(RecallRequest(version, question))
            times.append(time.perf_counter() - start)
        loaded.append(holder.residency.stats().bytes)
        await holder._residency.aclose()
    entries = [entry for window in made for entry in window.entries]
    return Row(
        len(made),
        sum(window.tokens for window in made),
        sum(window.seconds for window in made),
        sum(entry.size for entry in entries),
        sum(entry.size for entry in entries if entry.name.endswith(GROUP_FILE)),
        opened,
        statistics.median(routing),
        statistics.fmean(loaded),
        statistics.median(cold),
        statistics.median(warm),
    )


def seconds_of(memories: VersionMemories, vector: FloatMatrix, limit: int) -> float:
    """Time of routing one question; the first one only loads what it runs."""
    memories.nearest(vector, limit)
    start = time.perf_counter()
    for _ in range(5):
        memories.nearest(vector, limit)
    return (time.perf_counter() - start) / 5


def served_route_seconds(dimension: int) -> float:
    """Routing measured at the real number of windows of the target, not extrapolated."""
    count = -(-TARGET_TOKENS // SERVED_WINDOW)
    source = np.random.default_rng(0)
    store = open_object_store("memory://")
    groups = [
        DocumentGroup(str(n), {}, 1, "en", source.standard_normal((ROUTES, dimension), dtype=np.float32))
        for n in range(count)
    ]
    memories = VersionMemories(CorpusId("t", "c"), [StoredCorpusMemory(group, store, {}) for group in groups])
    return seconds_of(memories, source.standard_normal(dimension, dtype=np.float32), 2)


async def run(root: Path) -> list[Row]:
    """Measure all sizes."""
    folder = save_causal_lm(root / "model", "llama", num_hidden_layers=2)
    texts = TextMemory.load(folder, FullContextModel.load(folder))
    settings = load_settings(home=root, memory={"model": str(folder)}, recall={"max_clues": 8})
    store = open_object_store((root / "objects").as_uri())
    embedder = HashingEmbedder()
    texts.memorise(" ".join(sentences(9999)))  # load what memorising runs
    rows = []
    made: list[Window] = []
    log = CorpusLog(store, CorpusId("default", "scale"))
    for size in WINDOWS:
        fresh = [await memorise(log, texts, embedder, number) for number in range(len(made), size)]
        commit = log.commit(log.latest(), add=[entry for window in fresh for entry in window.entries])
        made += fresh
        rows.append(await measure(store, settings, texts, commit.id, made))
    return rows


def report(rows: list[Row], route_seconds: float) -> list[str]:
    """The table, and what its constants come to for a billion tokens."""
    lines = [
        "windows  tokens   memorise   stored    open version  route     loaded/question  cold      warm",
        *(
            f"{row.windows:7d}  {row.tokens:6d}  {row.memorise_seconds:7.2f} s  {row.stored_bytes / 1e6:5.1f} MB  "
            f"{row.open_seconds * 1e3:9.1f} ms  {row.route_seconds * 1e6:5.0f} µs  {row.loaded_bytes / 1e6:12.2f} MB  "
            f"{row.cold_seconds:6.2f} s  {row.warm_seconds:6.2f} s"
            for row in rows
        ),
    ]
    last = rows[-1]
    memories = -(-TARGET_TOKENS // SERVED_WINDOW)
    per_token = last.memorise_seconds / last.tokens
    described = last.described_bytes / last.windows * memories
    lines += [
        "",
        f"{TARGET_TOKENS:.0e} tokens in windows of {SERVED_WINDOW} are {memories} memories; by the constants above:",
        f"  memorise   {per_token * TARGET_TOKENS / 3600:,.1f} core hours ({1 / per_token:,.0f} tokens a core second)",
        f"  stored     {last.stored_bytes / last.tokens * TARGET_TOKENS / 1e12:,.2f} TB "
        f"({last.stored_bytes / last.tokens:,.0f} bytes per token of this model)",
        f"  open       {described / 1e6:,.0f} MB of descriptions, "
        f"{last.open_seconds / last.windows * memories:,.1f} s once per version and replica",
        f"  route      {route_seconds * 1e3:,.1f} ms per question (measured at {memories} memories)",
        f"  ask        as above: {last.warm_seconds:.2f} s over loaded memories, however large the corpus",
    ]
    return lines


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="also write the figures to a file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        rows = asyncio.run(run(Path(root)))
    route_seconds = served_route_seconds(384)
    sys.stdout.write("\n".join(report(rows, route_seconds)) + "\n")
    if options.json:
        figures = {"rows": [asdict(row) for row in rows], "route_seconds": route_seconds}
        options.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
