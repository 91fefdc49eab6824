"""Topic boundaries on QMSum and TIAGE: fixed sizes, plain similarity of neighbours, and the embedded segmenter.

Pk (Beeferman 1999) and WindowDiff (Pevzner and Hearst 2002), lower is better; the window is half the mean length of a
true segment. The fixed size and the threshold are the best of a grid for each set; the segmenter has one setting for
both.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np

from lightrag.conversation.index.vectorizer import Vectorizer
from lightrag.conversation.segmentation import Turn
from lightrag.conversation.segmentation.similarity import SimilaritySegmenter
from lightrag.conversation.types import Message, StoredMessage
from lightrag.models.base import Embedder
from tests.benchmarks.conversation_data import SHARED


class Labelled(NamedTuple):
    turns: list[Turn]
    starts: frozenset[int]


def tiage() -> list[Labelled]:
    raw = json.loads((SHARED / "dialogue_segmentation" / "tiage.json").read_text(encoding="utf-8"))
    return [Labelled(_turns(item["utterances"]), frozenset(np.cumsum(item["segments"])[:-1].tolist())) for item in raw]


def qmsum() -> list[Labelled]:
    found = []
    for line in (SHARED / "qmsum" / "val.jsonl").read_text(encoding="utf-8").splitlines():
        raw = json.loads(line)
        texts = [turn["content"] for turn in raw["meeting_transcripts"]]
        spans = [span for topic in raw["topic_list"] for span in topic["relevant_text_span"]]
        edges = sorted({int(start) for start, _ in spans} | {int(end) + 1 for _, end in spans})
        # A topic's end and the next one's beginning are one boundary.
        apart = [edge for place, edge in enumerate(edges) if place == 0 or edge - edges[place - 1] > 1]
        found.append(Labelled(_turns(texts), frozenset(edge for edge in apart if 0 < edge < len(texts))))
    return found


def _turns(texts: Sequence[str]) -> list[Turn]:
    said = datetime(2024, 1, 1)
    messages = [StoredMessage(f"m{n}", n, "c", Message("user", text, said)) for n, text in enumerate(texts)]
    return [Turn((message,)) for message in messages]


def errors(length: int, true: frozenset[int], found: Sequence[int]) -> tuple[float, float] | None:
    """Pk and WindowDiff of one dialogue; ``None`` where it is shorter than the window."""
    window = max(2, round(length / (len(true) + 1) / 2))
    if length <= window:
        return None
    counts = []
    for starts in (true, found):
        marks = np.zeros(length, dtype=np.int64)
        marks[list(starts)] = 1
        total = np.cumsum(marks)
        counts.append(total[window:] - total[:-window])
    return float(np.mean((counts[0] > 0) != (counts[1] > 0))), float(np.mean(counts[0] != counts[1]))


def mean_errors(data: Sequence[Labelled], cut: Callable[[Labelled], Sequence[int]]) -> tuple[float, float]:
    scored = [errors(len(item.turns), item.starts, cut(item)) for item in data]
    pk, window_diff = np.mean([pair for pair in scored if pair is not None], axis=0)
    return round(float(pk), 3), round(float(window_diff), 3)


def measure_topics(embedder: Embedder) -> list[dict[str, Any]]:
    """One dict per set and method."""
    vectorizer = Vectorizer(embedder)
    segmenter = SimilaritySegmenter(vectorizer)
    results = []
    for name, data, sizes in (("tiage", tiage(), (3, 4, 5, 6, 8)), ("qmsum", qmsum(), (60, 100, 150, 200))):
        vectors = {
            id(item): asyncio.run(vectorizer.documents([turn.text or " " for turn in item.turns])) for item in data
        }

        def plain(item: Labelled, threshold: float, of: dict[int, Any] = vectors) -> list[int]:
            rows = of[id(item)]
            return (np.flatnonzero((rows[1:] * rows[:-1]).sum(axis=1) < threshold) + 1).tolist()

        rows = {
            "fixed size, best": min(
                mean_errors(data, lambda item, s=size: range(s, len(item.turns), s)) for size in sizes
            ),
            "neighbour similarity, best": min(
                mean_errors(data, lambda item, t=threshold: plain(item, t)) for threshold in (0.05, 0.1, 0.15, 0.2, 0.3)
            ),
            "segmenter": mean_errors(data, lambda item: asyncio.run(segmenter.boundaries(item.turns))),
        }
        for method, (pk, window_diff) in rows.items():
            results.append({"set": name, "row": method, "Pk": pk, "WindowDiff": window_diff})
            print("  ".join(f"{key} {value}" for key, value in results[-1].items()), flush=True)
    return results
