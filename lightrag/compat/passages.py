"""The passages of one text and their index: cut, embedded, searched with many clues at once.

Knows nothing of memories or generators.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

import numpy as np

from lightrag.documents import Chunker, detect_language
from lightrag.errors import ArtifactError, UsageError
from lightrag.models.base import Embedder, FloatMatrix
from lightrag.models.concurrency import run_blocking
from lightrag.models.vectors import unit_rows
from lightrag.retrieval.index import CorpusIndex, build_index
from lightrag.retrieval.matching import Query
from lightrag.retrieval.questions import bounded_question, unspoken_language
from lightrag.retrieval.search import SearchOptions, search
from lightrag.types import Chunk, Document

_LOG = logging.getLogger(__name__)

_SAMPLED: Final = 4
_SAME: Final = 0.9
"""Cosine from which two vectors of one passage are by the same model, half precision and 4-bit weights allowed for."""


@dataclass(frozen=True, slots=True)
class Passages:
    """A text's passages, ready to be searched. Immutable."""

    index: CorpusIndex
    embedder: Embedder

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """In the order of the text."""
        return self.index.chunks

    @property
    def texts(self) -> list[str]:
        """In the order of the text."""
        return [chunk.text for chunk in self.chunks]

    @property
    def vectors(self) -> FloatMatrix:
        """Unit rows, shape (passages, dimension)."""
        return self.index.dense.vectors(np.arange(len(self.chunks)))

    @classmethod
    def of(cls, text: str, embedder: Embedder, *, max_tokens: int, language: str) -> Passages:
        """Cut a text and index it.

        Args:
            text: what to cut.
            embedder: of the passages and of what is searched for.
            max_tokens: longest passage in the embedder's tokens; longer ones than it reads are embedded in parts.
            language: ISO 639-1.
        """
        document = Document("text", "text", "", text, "", language=language)
        chunks = Chunker(embedder.tokenizer, max_tokens).chunks(document)
        return cls(_indexed(chunks, embed(chunks, embedder), embedder), embedder)

    @classmethod
    def restored(cls, texts: Sequence[str], vectors: FloatMatrix, embedder: Embedder, *, trusted: bool) -> Passages:
        """Index passages again whose vectors were stored.

        Args:
            texts: in order.
            vectors: one row each; may be by another embedder, then the passages are embedded anew.
            embedder: searches from now on.
            trusted: whether the vectors are known to be by this embedder; otherwise some are compared.

        Raises:
            ArtifactError: there are not as many vectors as texts.
        """
        if len(texts) != len(vectors):
            raise ArtifactError(f"{len(texts)} passages and {len(vectors)} vectors do not belong together")
        chunks = _chunks(texts, embedder)
        if not (trusted or _by(embedder, chunks, vectors)):
            _LOG.warning("the stored vectors are not by %r: %d passages are embedded anew", embedder.name, len(chunks))
            vectors = embed(chunks, embedder)
        return cls(_indexed(chunks, unit_rows(vectors), embedder), embedder)

    def find(self, texts: Sequence[str], hits: int) -> list[int]:
        """Search with each text by itself.

        Args:
            texts: questions and clues, the most important first; empty ones are left out.
            hits: passages that each may bring.

        Returns:
            Rows, each once: the best passages of all texts first, then the second-best of all, and so on.
        """
        asked = [bounded_question(text)[0] for text in texts if text.strip()]
        if not asked:
            return []
        vectors = run_blocking(self.embedder.embed(asked, "query"))
        # Each clue is asked what resembles it; following links from it is the memory's work.
        options = SearchOptions(spread=None)
        found = []
        for text, vector in zip(asked, vectors, strict=True):
            query = Query(text, vector, spoken=not unspoken_language(text, self.embedder))
            found.append(search(self.index, [query], options).rows[:hits].tolist())
        return list(dict.fromkeys(row for rank in zip_longest(*found) for row in rank if row is not None))

    def evenly(self, count: int) -> list[int]:
        """Rows of at most ``count`` passages from all over the text."""
        return np.unique(np.linspace(0, len(self.chunks) - 1, count).round().astype(int)).tolist()


def embed(chunks: Sequence[Chunk], embedder: Embedder) -> FloatMatrix:
    """Embed chunks whole: those that are longer than the embedder reads by the mean of their parts, by length.

    Returns:
        Unit rows of shape (chunks, dimension).
    """
    cutter = Chunker(embedder.tokenizer, embedder.max_tokens)
    parts = [
        (row, part)
        for row, chunk in enumerate(chunks)
        for part in ([chunk] if chunk.tokens <= embedder.max_tokens else cutter.chunks(_document(chunk)))
    ]
    rows = run_blocking(embedder.embed([part.text for _, part in parts]))
    vectors = np.zeros((len(chunks), rows.shape[1]), dtype=np.float32)
    lengths = np.array([max(part.tokens, 1) for _, part in parts], dtype=np.float32)
    np.add.at(vectors, [row for row, _ in parts], rows * lengths[:, None])
    return unit_rows(vectors)


def _indexed(chunks: Sequence[Chunk], vectors: FloatMatrix, embedder: Embedder) -> CorpusIndex:
    if not chunks:
        raise UsageError("there is nothing to memorise: the text is empty")
    return build_index(chunks, vectors, embedder=embedder.fingerprint, languages=embedder.languages)


def _chunks(texts: Sequence[str], embedder: Embedder) -> list[Chunk]:
    """Give stored passages their places in the text that they make together."""
    language = detect_language("\n".join(texts)).code
    chunks, start = [], 0
    for ordinal, text in enumerate(texts):
        tokens = embedder.tokenizer.count(text)
        end = start + len(text)
        chunks.append(Chunk(str(ordinal), "text", ordinal, text, start, end, tokens=tokens, language=language))
        start = end + 1
    return chunks


def _document(chunk: Chunk) -> Document:
    return Document(chunk.chunk_id, "text", "", chunk.text, "", language=chunk.language)


def _by(embedder: Embedder, chunks: Sequence[Chunk], vectors: FloatMatrix) -> bool:
    """Whether vectors are this embedder's, judged by the shortest passages, which every system read whole."""
    sample = sorted(range(len(chunks)), key=lambda row: chunks[row].tokens)[:_SAMPLED]
    made = embed([chunks[row] for row in sample], embedder)
    if made.shape[1] != vectors.shape[1]:
        return False
    return bool((np.sum(made * unit_rows(vectors[sample]), axis=1) >= _SAME).all())


__all__ = ["Passages", "embed"]
