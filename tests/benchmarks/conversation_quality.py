"""Retrieval of annotated evidence from conversations, answers, and topic boundaries, with embedded defaults.

Run ``python -m tests.benchmarks.conversation_quality``: about two minutes for each conversation on two idle cores, so
``--only locomo``, ``--only realtalk``, ``--only topics``, ``--conversations 1`` or ``--rows entries`` bound the time.
Also ``--json FILE`` and ``--embedder PATH``. Nothing is downloaded and no language model is used. Every number is a
mean over questions.

Rows: raw turns by dense, BM25, hybrid and hybrid with links; extracted entries; entries after consolidation. Entries
carry their source turns and are scored on the same evidence. Tokens are those of the embedder, of the text that would
be shown (speaker included); ``block600`` is the real output of ``context(max_tokens=600)`` with its dates. ``F1`` is
that of quoted sentences against gold answers, a floor. ``calls/turn`` and ``tokens/turn`` are what building costs with
a language model, counted with a scripted one that writes every line down; ``conversation_cost`` compares settings.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightrag.config import EmbedderSettings
from lightrag.conversation import LightMemory
from lightrag.conversation.context import prompt_block
from lightrag.conversation.types import MemoryEntry
from lightrag.models import open_embedder
from lightrag.models.base import Embedder, FloatMatrix
from tests.benchmarks.conversation_answers import Quoting, token_f1
from tests.benchmarks.conversation_cost import building_cost, scripted
from tests.benchmarks.conversation_data import MULTI_HOP, TUNED_ON, Dialogue, load

DEPTH = 120
BUDGETS = (300, 600, 1200)


class CachedEmbedder:
    """Embeds every text once over all rows of the table; otherwise the embedder it wraps."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        missing = [text for text in dict.fromkeys(texts) if (kind, text) not in self._known]
        if missing:
            for text, vector in zip(missing, await self._inner.embed(missing, kind), strict=True):
                self._known[kind, text] = vector
        return np.stack([self._known[kind, text] for text in texts])

    async def close(self) -> None:
        """The next row uses it again."""


@dataclass
class Scores:
    """Recall of evidence turns, one value per question."""

    at: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, value: float) -> None:
        self.at.setdefault(name, []).append(value)

    def take(self, other: Scores) -> None:
        for name, values in other.at.items():
            self.at.setdefault(name, []).extend(values)

    def means(self) -> dict[str, float]:
        return {name: round(float(np.mean(values)), 3) for name, values in self.at.items()}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    strategy: Literal["embedding", "context", "hybrid"]
    extract: bool
    spread: bool = True
    consolidate: bool = False
    answers: bool = False
    model: bool = False
    """Extraction by a scripted language model."""


ROWS = (
    Row("turns, dense", "embedding", extract=False, spread=False, answers=True),
    Row("turns, BM25", "context", extract=False, spread=False, answers=True),
    Row("turns, hybrid", "hybrid", extract=False, spread=False, answers=True),
    Row("turns, hybrid + links", "hybrid", extract=False, answers=True),
    Row("entries, hybrid + links", "hybrid", extract=True, answers=True),
    Row("entries, consolidated", "hybrid", extract=True, consolidate=True, answers=True),
    Row("scripted facts, consolidated", "hybrid", extract=True, consolidate=True, model=True),
)


def open_memory(row: Row, path: Path, embedder: Embedder) -> LightMemory:
    config: dict[str, Any] = {
        "text_summary": row.extract,
        "topic_segment": row.extract,
        "retrieve_strategy": row.strategy,
        "spread": row.spread,
        "embedding_retriever": {"model_name": "qdrant", "configs": {"path": str(path)}},
    }
    if row.model:
        # As published: nothing but facts is asked for.
        config |= {"metadata_generate": False, "short_term_tokens": 4096}
    return LightMemory.from_config(config, embedder=embedder, language_model=scripted(embedder) if row.model else None)


def fill(memory: LightMemory, dialogue: Dialogue, *, waits: bool = False) -> dict[str, str]:
    """Add a conversation session by session; returns the turn behind each message id.

    Extraction reads each session by itself, or, where it ``waits``, as much at once as the short-term buffer holds.
    """
    turn_of: dict[str, str] = {}
    for session in sorted({turn.session for turn in dialogue.turns}):
        turns = [turn for turn in dialogue.turns if turn.session == session]
        messages = [turn.message() for turn in turns]
        report = memory.add_memory(messages, force_segment=True, force_extract=not waits)
        assert not report.problems, report.problems
        turn_of |= dict(zip(report.accepted, (turn.turn_id for turn in turns), strict=True))
    assert not memory.flush().problems
    return turn_of


def score(
    memory: LightMemory,
    dialogue: Dialogue,
    turn_of: dict[str, str],
    embedder: Embedder,
    scores: Scores,
    quoting: Quoting | None = None,
) -> None:
    count = embedder.tokenizer.count
    for question in dialogue.questions:
        hits = memory.search(question.text, DEPTH).entries
        if quoting is not None and question.answer:
            scores.add("F1", token_f1(quoting.answer(question.text, hits), question.answer))
        turns = [_turns_of(hit.entry, turn_of) for hit in hits]
        for depth in (5, 10, 20):
            scores.add(f"@{depth}", _recall(turns[:depth], question.evidence))
        if question.category == MULTI_HOP:
            scores.add("multi-hop@10", _recall(turns[:10], question.evidence))
        ends = np.cumsum([count(hit.entry.text) for hit in hits])
        for budget in BUDGETS:
            fitting = int((ends <= budget).sum())
            scores.add(f"{budget} tokens", _recall(turns[:fitting], question.evidence))
        shown = prompt_block(hits, 600, embedder.tokenizer)[1]
        scores.add("block600", _recall([_turns_of(entry, turn_of) for entry in shown], question.evidence))
        block = prompt_block(hits, 600, embedder.tokenizer)[0]
        scores.add("tokens read", float(count(block)))


def _turns_of(entry: MemoryEntry, turn_of: dict[str, str]) -> set[str]:
    return {turn_of[source] for source in entry.sources if source in turn_of}


def _recall(found: Sequence[set[str]], evidence: frozenset[str]) -> float:
    return len(evidence & set().union(*found)) / len(evidence)


def measure(
    kind: str, embedder: Embedder, rows: Sequence[Row] = ROWS, named: str = "", most: int | None = None
) -> list[dict[str, Any]]:
    """One dict per row and part: tuned on, held out, all."""
    results = []
    dialogues = [dialogue for dialogue in load(kind) if named in dialogue.name][:most]
    for row in rows:
        parts = {"tuned on": Scores(), "held out": Scores(), "all": Scores()}
        for dialogue in dialogues:
            with tempfile.TemporaryDirectory() as folder, open_memory(row, Path(folder), embedder) as memory:
                turn_of = fill(memory, dialogue, waits=row.model)
                if row.consolidate:
                    memory.construct_update_queue_all_entries()
                    memory.offline_update_all_entries(score_threshold=0.8)
                quoting = Quoting(embedder) if row.answers else None
                stored = sum(embedder.tokenizer.count(entry.text) for entry in memory.entries())
                part = "tuned on" if dialogue.name in TUNED_ON else "held out"
                found = Scores()
                score(memory, dialogue, turn_of, embedder, found, quoting)
                found.add("tokens stored", float(stored))
                if row.model:
                    for name, value in building_cost(memory, len(dialogue.turns)).items():
                        found.add(name, value)
                for scores in (parts[part], parts["all"]):
                    scores.take(found)
        parts = {part: scores for part, scores in parts.items() if scores.at}
        results += [{"set": kind, "row": row.name, "part": part, **scores.means()} for part, scores in parts.items()]
        for line in results[-len(parts) :]:
            print("  ".join(f"{name} {value}" for name, value in line.items()), flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("locomo", "realtalk", "topics"), help="one set; all by default")
    parser.add_argument("--conversations", type=int, help="only so many conversations of a set, to bound the time")
    parser.add_argument("--embedder", default=EmbedderSettings().model)
    parser.add_argument("--rows", help="only rows whose name contains this")
    parser.add_argument("--named", default="", help="only conversations whose name contains this")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    embedder: Any = CachedEmbedder(open_embedder(EmbedderSettings(model=options.embedder)))
    rows = [row for row in ROWS if not options.rows or options.rows in row.name]
    results = [
        line
        for kind in ("locomo", "realtalk")
        if options.only in (None, kind)
        for line in measure(kind, embedder, rows, options.named, options.conversations)
    ]
    if options.only in (None, "topics"):
        from tests.benchmarks.conversation_topics import measure_topics

        results += measure_topics(embedder)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
