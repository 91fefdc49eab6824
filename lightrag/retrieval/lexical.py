"""BM25 over the passages of a corpus: weights computed once, then a question is a few additions.

It does not know about passages' text after building; ``analysis`` says what a term is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightrag.errors import ArtifactError
from lightrag.retrieval.analysis import ANALYSIS_VERSION, Analyzer, TermNumbers
from lightrag.retrieval.arrays import pack_arrays, unpack_arrays, write_arrays
from lightrag.retrieval.columns import Mask
from lightrag.retrieval.postings import Postings, PostingsCollector

K1 = 1.2
B = 0.75
"""Saturation and length normalisation, the usual values (Robertson and Zaragoza 2009, section 3.5)."""


class LexicalCollector:
    """Takes passages one after the other and makes a :class:`LexicalIndex` of them.

    Args:
        languages: of all passages; ISO 639-1 codes or ``und``.
        folder: where postings wait until they are merged; ``None``: in memory.
    """

    def __init__(self, languages: Iterable[str], folder: Path | None = None) -> None:
        self._analyzer = Analyzer(languages)
        self._vocabulary: dict[str, int] = {}
        self._postings = PostingsCollector(folder)
        self._numbers: dict[str, TermNumbers] = {}
        self._passages = 0

    def add(self, text: str, language: str) -> None:
        """Add the next passage."""
        numbers = self._numbers.get(language)
        if numbers is None:
            numbers = self._numbers[language] = self._analyzer.term_numbers(language, self._vocabulary)
        self._postings.add(numbers.of(text))
        self._passages += 1

    def index(self, *, k1: float = K1, b: float = B) -> LexicalIndex:
        """Weigh what was added; the collector is used up."""
        postings = self._postings.weigh(len(self._vocabulary), k1, b)
        return LexicalIndex(self._analyzer, self._vocabulary, postings, self._passages)


class LexicalIndex:
    """BM25 with precomputed weights (Lucene's variant). Immutable and safe to share."""

    def __init__(self, analyzer: Analyzer, vocabulary: Mapping[str, int], postings: Postings, passages: int) -> None:
        self.analyzer = analyzer
        self.vocabulary = vocabulary
        self.postings = postings
        self.passages = passages

    @classmethod
    def build(cls, texts: Sequence[str], languages: Sequence[str], *, k1: float = K1, b: float = B) -> LexicalIndex:
        """Index passages; ``languages`` holds an ISO 639-1 code or ``und`` per passage."""
        collector = LexicalCollector(languages)
        for text, language in zip(texts, languages, strict=True):
            collector.add(text, language)
        return collector.index(k1=k1, b=b)

    def document_frequency(self) -> NDArray[np.int64]:
        """Number of passages per term, shape (terms,)."""
        return np.diff(self.postings.offsets)

    def query_terms(self, question: str) -> Counter[int]:
        """Known terms of a question with how often each occurs."""
        known = (self.vocabulary.get(term) for term in self.analyzer.query_terms(question))
        return Counter(term for term in known if term is not None)

    def scores(self, question: str) -> NDArray[np.float32]:
        """BM25 score of every passage, shape (passages,)."""
        scores = np.zeros(self.passages, dtype=np.float32)
        offsets, rows, weights = self.postings.offsets, self.postings.rows, self.postings.weights
        for term, count in self.query_terms(question).items():
            span = slice(offsets[term], offsets[term + 1])
            scores[rows[span]] += count * weights[span]
        return scores

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays; the vocabulary is estimated at 100 bytes a term."""
        arrays = (self.postings.offsets, self.postings.rows, self.postings.weights)
        return sum(array.nbytes for array in arrays) + 100 * len(self.vocabulary)

    def check_integrity(self) -> None:
        """Prove that the arrays fit together.

        Raises:
            ArtifactError: they do not.
        """
        offsets, rows, weights = self.postings.offsets, self.postings.rows, self.postings.weights
        sound = (
            len(offsets) == len(self.vocabulary) + 1
            and offsets[0] == 0
            and bool((np.diff(offsets) > 0).all())
            and offsets[-1] == len(rows) == len(weights)
            and (len(rows) == 0 or (rows.min() >= 0 and rows.max() < self.passages))
            and bool(np.isfinite(weights).all())
        )
        if not sound:
            raise ArtifactError("the lexical index is damaged: build the corpus version again", subject="lexical")

    def save(self) -> dict[str, bytes]:
        """Return named buffers: postings as safetensors, the vocabulary as JSON."""
        return {"lexical.json": self._head(), "lexical.safetensors": pack_arrays(self._arrays())}

    def write(self, folder: Path) -> None:
        """Write what :meth:`save` returns to files of these names, without a second copy in memory."""
        (folder / "lexical.json").write_bytes(self._head())
        write_arrays(folder / "lexical.safetensors", self._arrays())

    def _head(self) -> bytes:
        head = {
            "analysis": ANALYSIS_VERSION,
            "languages": self.analyzer.languages,
            "passages": self.passages,
            "terms": list(self.vocabulary),
        }
        return json.dumps(head, ensure_ascii=False).encode()

    def _arrays(self) -> dict[str, NDArray[Any]]:
        postings = self.postings
        return {"offsets": postings.offsets, "rows": postings.rows, "weights": postings.weights}

    @classmethod
    def load(cls, files: Mapping[str, bytes]) -> LexicalIndex:
        """Read what :meth:`save` wrote.

        Raises:
            ArtifactError: it was made by another analysis version, or is damaged.
        """
        head: dict[str, Any] = json.loads(files["lexical.json"])
        if head["analysis"] != ANALYSIS_VERSION:
            raise ArtifactError(
                f"the lexical index was made by text analysis {head['analysis']!r}, this is {ANALYSIS_VERSION!r}: "
                "ingest the corpus again",
                subject="lexical",
            )
        arrays = unpack_arrays(files, "lexical.safetensors")
        postings = Postings(arrays["offsets"], arrays["rows"], arrays["weights"])
        vocabulary = {term: number for number, term in enumerate(head["terms"])}
        return cls(Analyzer(head["languages"]), vocabulary, postings, int(head["passages"]))


def best(scores: NDArray[np.float32], depth: int, mask: Mask | None = None) -> NDArray[np.int64]:
    """Rows of the ``depth`` highest positive scores among the allowed passages, best first; ties by row."""
    candidates = np.flatnonzero(scores > 0 if mask is None else (scores > 0) & mask)
    if len(candidates) > depth:
        cut = np.partition(scores[candidates], len(candidates) - depth)[len(candidates) - depth]
        candidates = candidates[scores[candidates] >= cut]
    return candidates[np.argsort(-scores[candidates], kind="stable")][:depth]


__all__ = ["LexicalCollector", "LexicalIndex", "Postings", "best"]
