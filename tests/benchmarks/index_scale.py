"""What an index over many chunks costs: ``python -m tests.benchmarks.index_scale [--chunks 1000000]``.

Build time, stored bytes, recall@10 against exact search, time of one question and peak memory: of each structure of
the dense index, within a filter too, and of BM25. Vectors lie around topics of few degrees of freedom, as those of
sentences do, with noise; words follow Zipf's law. Every part runs in a process of its own, so that peaks do not mix.
Seconds to build are of processors, seconds of a question of the clock.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from lightrag.retrieval.dense import DenseIndex
from lightrag.retrieval.dense_kinds import IndexKind, choose_kind
from lightrag.retrieval.lexical import LexicalIndex

DIMENSION = 384
QUESTIONS = 100
DEGREES = 48
PARTS = ("flat", "hnsw", "ivf", "ivfpq", "bm25")


def vectors(rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Passages of shape (rows, 384) and questions, unit rows."""
    random = np.random.default_rng(0)
    topics = random.standard_normal((2000, DEGREES), dtype=np.float32)
    projection = random.standard_normal((DEGREES, DIMENSION), dtype=np.float32) / DEGREES**0.5
    whole = np.empty((rows + QUESTIONS, DIMENSION), np.float32)
    for start in range(0, len(whole), 50_000):
        part = whole[start : start + 50_000]
        place = topics[random.integers(0, len(topics), len(part))]
        place = place + 0.7 * random.standard_normal((len(part), DEGREES), dtype=np.float32)
        part[:] = place @ projection + 0.4 * random.standard_normal((len(part), DIMENSION), dtype=np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return whole[:rows], whole[rows:]


def exact(passages: np.ndarray, questions: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """The ten nearest rows of each question, without another index in memory."""
    scores = np.concatenate(
        [questions @ passages[start : start + 50_000].T for start in range(0, len(passages), 50_000)], 1
    )
    if mask is not None:
        scores[:, ~mask] = -2
    return np.argpartition(-scores, 10, axis=1)[:, :10]


def dense(kind: IndexKind, rows: int) -> dict[str, object]:
    passages, questions = vectors(rows)
    mask = np.random.default_rng(1).random(rows) < 0.01
    truth = {"recall@10": (exact(passages, questions), None), "within 1 %": (exact(passages, questions, mask), mask)}
    before = _peak()
    began = time.process_time()
    index = DenseIndex.build(passages, kind)
    seconds = time.process_time() - began
    figures: dict[str, object] = {"build s": round(seconds, 1), "stored MB": _mb(index.save())}
    for name, (rows_of, allowed) in truth.items():
        figures[name] = round(_recall(index.search(questions, 10, allowed).rows, rows_of), 4)
    figures["question ms"] = _milliseconds(lambda number: index.search(questions[number : number + 1], 100))
    figures["held MB"] = round(index.nbytes / 1e6)
    figures["peak MB above vectors"] = max(0, round(_peak() - before))
    return figures


def bm25(rows: int) -> dict[str, object]:
    texts = passages_of_words(rows)
    before = _peak()
    began = time.process_time()
    index = LexicalIndex.build(texts, ["en"] * rows)
    seconds = time.process_time() - began
    questions = [" ".join(texts[number * (rows // QUESTIONS)].split()[:8]) for number in range(QUESTIONS)]
    return {
        "build s": round(seconds, 1),
        "stored MB": _mb(index.save()),
        "recall@10": 1.0,
        "question ms": _milliseconds(lambda number: index.scores(questions[number])),
        "held MB": round(index.nbytes / 1e6),
        "peak MB above texts": round(_peak() - before),
    }


def passages_of_words(rows: int, words: int = 100) -> list[str]:
    """Passages of a hundred words of a vocabulary of 200,000, by Zipf's law."""
    random = np.random.default_rng(2)
    syllables = np.array(["ba", "ke", "lo", "mi", "nu", "ra", "se", "to", "vi", "du", "fe", "ga"])
    vocabulary = ["".join(syllables[[number // 12**place % 12 for place in range(5)]]) for number in range(200_000)]
    weights = 1 / np.arange(1, len(vocabulary) + 1)
    ends = np.cumsum(weights) / weights.sum()
    texts = []
    for _ in range(rows):
        numbers = np.minimum(np.searchsorted(ends, random.random(words)), len(vocabulary) - 1)
        texts.append(" ".join([vocabulary[number] for number in numbers.tolist()]))
    return texts


def _recall(found: np.ndarray, truth: np.ndarray) -> float:
    pairs = zip(found.tolist(), truth.tolist(), strict=True)
    return float(np.mean([len(set(some) & set(true)) / len(true) for some, true in pairs]))


def _milliseconds(ask: Callable[[int], object]) -> float:
    taken = []
    for number in range(QUESTIONS):
        began = time.perf_counter()
        ask(number)
        taken.append(time.perf_counter() - began)
    return round(1000 * float(np.median(taken)), 2)


def _mb(files: dict[str, bytes]) -> int:
    return round(sum(map(len, files.values())) / 1e6)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be repeated")
    parser.add_argument("--here", action="store_true", help="in this process, printing JSON")
    parsed = parser.parse_args()
    if parsed.here:
        (part,) = parsed.only
        print(json.dumps(bm25(parsed.chunks) if part == "bm25" else dense(part, parsed.chunks)))
        return
    print(f"{parsed.chunks:,} chunks; the dense index would be {choose_kind(parsed.chunks)!r}", flush=True)
    for part in parsed.only or PARTS:
        command = [sys.executable, "-m", __spec__.name, "--here", "--only", part, "--chunks", str(parsed.chunks)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        figures = json.loads(done.stdout)
        print(f"{part:5}", "  ".join(f"{name} {value}" for name, value in figures.items()), flush=True)


if __name__ == "__main__":
    main()
