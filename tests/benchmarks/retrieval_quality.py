"""How well passages are found: dense, BM25, hybrid, with a reranker, and with clues, on the reference sets.

Run ``python -m tests.benchmarks.retrieval_quality --help``. Everything runs as in the service: chunks, ``build_index``,
``LinkRecaller``, ``IndexRetriever``, with the bundled encoder and no language model. Vectors live in memory for the run
only. A passage longer than the encoder reads is embedded by its head, as in the published floors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lightrag.config import EmbedderSettings, RecallSettings, RetrievalSettings
from lightrag.memory.base import RecallRequest
from lightrag.memory.extractive_recall import LinkRecaller
from lightrag.models import open_embedder
from lightrag.models.base import Embedder, FloatMatrix
from lightrag.models.reach import within_reach
from lightrag.retrieval import CorpusIndex, IndexRetriever, RetrievalRequest, build_index
from lightrag.retrieval.turns import indexed_text, spoken_text, telling
from lightrag.types import Chunk, CorpusVersion, Tokenizer
from tests.benchmarks.retrieval_sets import Corpus, Half, Passage, Question, ReferenceSet, reference_sets

DATA = Path(__file__).parents[3] / "shared" / "data"
METHODS = ("dense", "bm25", "hybrid", "rerank", "clues")
VERSION = CorpusVersion("bench", "set", 1)
EVERYTHING = 1_000_000


class RememberingEmbedder:
    """Embeds every text once per run: five methods ask the same questions."""

    def __init__(self, inner: Embedder) -> None:
        self._inner = inner
        self._known: dict[tuple[str, str], FloatMatrix] = {}

    name = property(lambda self: self._inner.name)
    fingerprint = property(lambda self: self._inner.fingerprint)
    dimension = property(lambda self: self._inner.dimension)
    max_tokens = property(lambda self: self._inner.max_tokens)
    languages = property(lambda self: self._inner.languages)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._inner.tokenizer

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        new = [text for text in dict.fromkeys(texts) if (kind, text) not in self._known]
        if new:
            found = await self._inner.embed(new, kind)
            self._known.update({(kind, text): row for text, row in zip(new, found, strict=True)})
        rows = [self._known[kind, text] for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32)

    async def close(self) -> None:
        await self._inner.close()


@dataclass
class Searcher:
    """One corpus, indexed, and the two stages over it."""

    retriever: IndexRetriever
    reranking: IndexRetriever
    recaller: LinkRecaller

    @classmethod
    async def build(cls, corpus: Corpus, embedder: Embedder, reranker: str) -> Searcher:
        index = await indexed(corpus, embedder)

        @asynccontextmanager
        async def lease(_: CorpusVersion) -> AsyncIterator[CorpusIndex]:
            yield index

        return cls(
            IndexRetriever(embedder, lease),
            IndexRetriever(embedder, lease, RetrievalSettings(reranker=reranker)),
            LinkRecaller(embedder, lease, RecallSettings()),
        )

    async def find(self, question: str, method: str, top_k: int, token_budget: int) -> list[str]:
        clues = ()
        if method == "clues":
            clues = (await self.recaller.recall(RecallRequest(VERSION, question))).clues
        mode: Literal["dense", "lexical", "hybrid"] = "hybrid"
        if method in ("dense", "bm25"):
            mode = "dense" if method == "dense" else "lexical"
        retriever = self.reranking if method == "rerank" else self.retriever
        result = await retriever.retrieve(
            RetrievalRequest(
                VERSION,
                question,
                clues=clues,
                mode=mode,
                top_k=top_k,
                token_budget=token_budget,
                spread=method == "clues",
            )
        )
        return [evidence.chunk.chunk_id for evidence in result.evidence]


async def indexed(corpus: Corpus, embedder: Embedder) -> CorpusIndex:
    """Index a corpus as the ingestion job would index chunks that are these passages."""
    chunks = [
        Chunk(
            passage.passage_id,
            passage.section or passage.passage_id,
            place,
            passage.text,
            0,
            len(passage.text),
            tokens=embedder.tokenizer.count(passage.text),
            title=passage.title,
            language=corpus.language,
            metadata={"speaker": passage.speaker} if passage.speaker else {},
        )
        for place, passage in enumerate(corpus.passages)
    ]
    vectors = await embedder.embed(within_reach(embedder, [embedded_text(passage) for passage in corpus.passages]))
    return build_index(
        chunks,
        vectors,
        embedder=embedder.fingerprint,
        languages=embedder.languages,
        texts=lexical_texts(corpus),
        telling=[telling(chunk.text, chunk.tokens) if "speaker" in chunk.metadata else 1.0 for chunk in chunks],
    )


def embedded_text(passage: Passage) -> str:
    """What the encoder reads."""
    return f"{passage.title}\n{passage.text}" if passage.title else spoken_text(passage.speaker, passage.text)


def lexical_texts(corpus: Corpus) -> list[str]:
    """What BM25 reads: of turns also the questions that they answer."""
    texts = []
    before = Passage("", "")
    for passage in corpus.passages:
        answers = passage.speaker and before.section == passage.section and before.speaker != passage.speaker
        asked = before.text if answers else ""
        texts.append(embedded_text(passage) if passage.title else indexed_text(passage.speaker, passage.text, asked))
        before = passage
    return texts


# --- Measures ---------------------------------------------------------------------------------------------------------


def ndcg(found: Sequence[str], question: Question, limit: int) -> float:
    """Normalised discounted cumulative gain of the first ``limit``, gains as graded."""
    discounts = 1 / np.log2(np.arange(2, limit + 2))
    gains = [question.relevant.get(passage, 0) for passage in found[:limit]]
    ideal = sorted(question.relevant.values(), reverse=True)[:limit]
    return float(np.dot(gains, discounts[: len(gains)]) / np.dot(ideal, discounts[: len(ideal)]))


def hit(found: Sequence[str], question: Question, limit: int) -> float:
    """Whether any relevant passage is among the first ``limit``."""
    return float(any(passage in question.relevant for passage in found[:limit]))


def recall(found: Sequence[str], question: Question, limit: int) -> float:
    """Share of the relevant passages among the first ``limit``."""
    return len(set(found[:limit]) & set(question.relevant)) / len(question.relevant)


BY_RANK: dict[str, Callable[[Sequence[str], Question, int], float]] = {
    "ndcg": ndcg,
    "hit": hit,
    "recall": recall,
    "multihop": recall,
}


async def measure(searcher: Searcher, corpus: Corpus, question: Question, method: str, name: str) -> float | None:
    """One question's result, or nothing where the measure does not apply to it."""
    kind, _, limit = name.partition("@")
    if not question.relevant or (kind == "multihop" and question.kind != "multihop"):
        return None
    if kind in BY_RANK:
        found = await searcher.find(question.text, method, int(limit), EVERYTHING)
        return BY_RANK[kind](found, question, int(limit))
    found = await searcher.find(question.text, method, EVERYTHING, int(limit))
    sizes = {passage.passage_id: len(passage.text.split()) if kind == "words" else 1 for passage in corpus.passages}
    total = sum(sizes[passage] for passage in question.relevant)
    return sum(sizes[passage] for passage in set(found) & set(question.relevant)) / total if total else None


async def run_set(
    wanted: ReferenceSet, data: Path, half: Half, embedder: Embedder, reranker: str
) -> dict[str, dict[str, float]]:
    """Every measure of one set by every method, averaged over questions."""
    results: dict[tuple[str, str], list[float]] = {}
    for corpus in wanted.corpora(data, half):
        searcher = await Searcher.build(corpus, embedder, reranker)
        for method in METHODS:
            if method == "rerank" and not reranker:
                continue
            for name in wanted.measures:
                for question in corpus.questions:
                    value = await measure(searcher, corpus, question, method, name)
                    if value is not None:
                        results.setdefault((method, name), []).append(value)
    table: dict[str, dict[str, float]] = {}
    for (method, name), values in results.items():
        table.setdefault(method, {})[name] = round(float(np.mean(values)), 4)
    return table


# --- Report -----------------------------------------------------------------------------------------------------------


def verdicts(wanted: ReferenceSet, table: dict[str, dict[str, float]]) -> list[str]:
    """What was required, and whether it was reached."""
    lines = []
    hybrid, clues = table["hybrid"], table["clues"]
    main = wanted.measures[0]
    for name in wanted.measures:
        if wanted.name.startswith("xquad_") and wanted.name != "xquad_en":
            lines.append(_verdict(f"hybrid {name} no worse than BM25", hybrid[name], table["bm25"][name]))
            continue
        better = max(table["dense"][name], table["bm25"][name])
        lines.append(_verdict(f"hybrid {name} at least the better part", hybrid[name], better))
        if name not in wanted.targets and name == main:
            lines.append(_verdict(f"clues lose nothing on {name}", clues[name], min(hybrid[name], better)))
    lines += [_verdict(f"clues {name}", clues[name], target) for name, target in wanted.targets.items()]
    return lines


def _verdict(what: str, value: float, required: float) -> str:
    return f"{'met   ' if value >= required - 1e-9 else 'MISSED'} {what}: {value:.3f}, required {required:.3f}"


def report(wanted: ReferenceSet, table: dict[str, dict[str, float]], seconds: float) -> str:
    """The results of one set as text."""
    lines = [f"\n{wanted.name}  ({seconds:.0f} s)", " " * 10 + "".join(f"{name:>24}" for name in wanted.measures)]
    for method, row in table.items():
        cells = []
        for name in wanted.measures:
            floor = wanted.floors.get(method, {}).get(name)
            cells.append(f"{row[name]:.3f}" + (f" (floor {floor:.3f})" if floor is not None else " " * 14))
        lines.append(f"{method:<10}" + "".join(f"{cell:>24}" for cell in cells))
    return "\n".join([*lines, *(f"  {line}" for line in verdicts(wanted, table))])


async def main(arguments: argparse.Namespace) -> dict[str, dict[str, dict[str, float]]]:
    """Run the chosen sets and print each as it is done."""
    embedder = RememberingEmbedder(open_embedder(EmbedderSettings(dtype=arguments.dtype)))
    results = {}
    for wanted in reference_sets():
        if arguments.sets and wanted.name not in arguments.sets:
            continue
        started = time.perf_counter()
        table = await run_set(wanted, arguments.data, arguments.half, embedder, arguments.reranker)
        results[wanted.name] = table
        if not arguments.json:
            print(report(wanted, table, time.perf_counter() - started), flush=True)
    await embedder.close()
    return results


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    names = [wanted.name for wanted in reference_sets()]
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.retrieval_quality", description=__doc__)
    parser.add_argument("--sets", nargs="+", choices=names, help="default: all")
    parser.add_argument(
        "--half",
        choices=("reported", "tuned", "all"),
        default="reported",
        help="settings were chosen on the other half of the questions; 'all' mixes both",
    )
    parser.add_argument("--reranker", default="", help="path or hub id of a cross-encoder; none is bundled")
    parser.add_argument("--dtype", default="auto", help="of the embedder's weights, such as bfloat16")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the reference sets")
    parser.add_argument("--json", action="store_true", help="print the results as JSON instead of a table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    options = parse()
    if not options.data.is_dir():
        sys.exit(f"there are no reference sets in {options.data}: give their folder with --data")
    outcome = asyncio.run(main(options))
    if options.json:
        print(json.dumps(outcome, indent=2))


__all__ = ["main", "parse", "run_set"]
