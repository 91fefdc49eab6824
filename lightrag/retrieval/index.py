"""Everything that is needed to search one corpus version: passages, vectors, BM25 weights, links, metadata columns.

It does not know where it is stored: it is saved to and loaded from named buffers, and nothing in them is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from lightrag.documents.sections import HEADING_JOINT
from lightrag.errors import ArtifactError, UsageError
from lightrag.models.base import FloatMatrix
from lightrag.retrieval.arrays import pack_arrays, unpack_arrays
from lightrag.retrieval.columns import MetadataColumns
from lightrag.retrieval.dense import DenseIndex
from lightrag.retrieval.dense_kinds import IndexKind
from lightrag.retrieval.fusion import Scores, trust_in_passages
from lightrag.retrieval.graph import Chain, Link, LinkGraph
from lightrag.retrieval.lexical import LexicalIndex
from lightrag.retrieval.links import find_names, mention_links, shared_name_links
from lightrag.retrieval.names import NameTable
from lightrag.retrieval.passages import read_chunks, write_chunks
from lightrag.retrieval.speakers import SpeakerTable
from lightrag.types import Chunk

FORMAT_VERSION = 1

BARE_HEADING = 0.1
"""What a chunk can tell that only repeats its heading."""
TELLING_TOKENS = 20
"""Length from which a chunk can tell all it can; a page number or a cell cannot."""


@dataclass(frozen=True, slots=True)
class IndexFingerprint:
    """What made the index; an index is only used with the embedder that made its vectors."""

    embedder: str
    """``Embedder.fingerprint``."""
    dimension: int
    languages: tuple[str, ...] = ()
    """Languages that the embedder speaks; empty: all."""
    passages: int = 0
    format_version: int = FORMAT_VERSION


@dataclass(frozen=True, slots=True)
class CorpusIndex:
    """One corpus version, ready to be searched. Immutable and safe to share between threads."""

    chunks: tuple[Chunk, ...]
    dense: DenseIndex
    lexical: LexicalIndex
    links: LinkGraph
    names: NameTable
    """What passages are about, to follow names in questions."""
    fingerprint: IndexFingerprint
    trust: Scores = field(repr=False)
    """How far similarities to each passage can be trusted, by its language; shape (passages,)."""
    telling: Scores = field(repr=False)
    """How much each passage can tell, in (0, 1]; shape (passages,)."""
    speakers: SpeakerTable = field(repr=False)
    """Who says what, where passages are turns."""
    columns: MetadataColumns = field(repr=False)
    rows: Mapping[str, int] = field(repr=False)
    """Row of each chunk id."""

    def __len__(self) -> int:
        return len(self.chunks)

    @property
    def nbytes(self) -> int:
        """Bytes of memory held, passages estimated from their text."""
        text = sum(2 * len(chunk.text) + 600 for chunk in self.chunks)
        return self.dense.nbytes + self.lexical.nbytes + self.links.nbytes + text

    def save(self) -> dict[str, bytes]:
        """Return named buffers to store; :meth:`load` reads them back."""
        head = json.dumps(asdict(self.fingerprint)).encode()
        return {
            "index.json": head,
            "chunks.parquet": write_chunks(self.chunks),
            "passages.safetensors": pack_arrays({"telling": self.telling}),
            **self.dense.save(),
            **self.lexical.save(),
            **self.links.save(),
            "names.json": json.dumps(dict(self.names.rows), ensure_ascii=False).encode(),
        }

    @classmethod
    def load(cls, files: Mapping[str, bytes], codes: Path | None = None) -> CorpusIndex:
        """Read what :meth:`save` wrote.

        Args:
            files: by name.
            codes: see :meth:`DenseIndex.load`.

        Raises:
            ArtifactError: a buffer is missing, damaged, or of another format version.
        """
        try:
            head = json.loads(files["index.json"])
            if head["format_version"] != FORMAT_VERSION:
                raise ArtifactError(
                    f"the index has format {head['format_version']!r}, this version reads {FORMAT_VERSION}: "
                    "ingest the corpus again",
                    subject="index.json",
                )
            fingerprint = IndexFingerprint(**{**head, "languages": tuple(head["languages"])})
            index = _assemble(
                read_chunks(files["chunks.parquet"]),
                DenseIndex.load(files, codes),
                LexicalIndex.load(files),
                LinkGraph.load(files),
                NameTable.of(json.loads(files["names.json"])),
                fingerprint,
                unpack_arrays(files, "passages.safetensors")["telling"],
            )
        except KeyError as error:
            raise ArtifactError(f"the index lacks {error.args[0]!r}", subject="index") from error
        except ValueError as error:
            raise ArtifactError(f"the index is damaged: {error}", subject="index") from error
        index.check_integrity()
        return index

    def check_integrity(self) -> None:
        """Prove that the parts belong together.

        Raises:
            ArtifactError: they do not.
        """
        counts = {
            "chunks": len(self.chunks),
            "dense": self.dense.passages,
            "lexical": self.lexical.passages,
            "links": self.links.passages,
            "chunk ids": len(self.rows),
            "telling": len(self.telling),
        }
        if set(counts.values()) != {self.fingerprint.passages} or self.dense.dimension != self.fingerprint.dimension:
            raise ArtifactError(f"the parts of the index do not belong together: {counts}", subject="index")
        if any(row >= len(self.chunks) for rows in self.names.rows.values() for row in rows):
            raise ArtifactError("the names of the index point to passages it does not have", subject="names.json")
        if not ((self.telling > 0) & (self.telling <= 1)).all():
            raise ArtifactError("the index holds weights of passages outside (0, 1]", subject="passages.safetensors")
        self.lexical.check_integrity()
        self.links.check_integrity()


def search_head(chunk: Chunk) -> str:
    """Where a chunk stands: title and headings."""
    return HEADING_JOINT.join(dict.fromkeys(part for part in (chunk.title, chunk.heading) if part))


def search_text(chunk: Chunk) -> str:
    """The text under which a chunk is embedded and indexed: where it stands, then what it says."""
    head = search_head(chunk)
    return f"{head}\n{chunk.text}" if head else chunk.text


def chunk_telling(chunk: Chunk) -> float:
    """How much a chunk of a document can tell, in (0, 1]: next to nothing where it only repeats its heading."""
    said = chunk.text.strip().casefold()
    if said in search_head(chunk).casefold():
        return BARE_HEADING
    return min(max(chunk.tokens, 1) / TELLING_TOKENS, 1.0) ** 0.5


def build_index(
    chunks: Sequence[Chunk],
    vectors: FloatMatrix,
    *,
    embedder: str,
    languages: frozenset[str] = frozenset(),
    texts: Sequence[str] | None = None,
    segments: Sequence[str] | None = None,
    telling: Sequence[float] | None = None,
    links: Iterable[Link] = (),
    kind: IndexKind | None = None,
) -> CorpusIndex:
    """Index chunks under their vectors.

    Args:
        chunks: in corpus order: chunks of one document together and by ordinal.
        vectors: unit rows, one per chunk, shape (chunks, dimension).
        embedder: fingerprint of the embedder that made the vectors.
        languages: what the embedder speaks; empty where that is not known.
        texts: what BM25 reads of each chunk; by default :func:`search_text`.
        segments: label of the section or session of each chunk, within which neighbours are evidence for each other;
            by default the document.
        telling: how much each chunk can tell, in (0, 1]; by default :func:`chunk_telling`, for turns see
            :mod:`lightrag.retrieval.turns`.
        links: further links, by row number, beside those that are found in the text.
        kind: structure of the dense index; ``None``: by the number of chunks.

    Raises:
        UsageError: sequences differ in length, a vector is not finite, a chunk id occurs twice, or a link is
            impossible.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    texts = [search_text(chunk) for chunk in chunks] if texts is None else texts
    segments = [chunk.document_id for chunk in chunks] if segments is None else segments
    told = np.array([chunk_telling(chunk) for chunk in chunks] if telling is None else telling, dtype=np.float32)
    _check_lengths(chunks, vectors, texts, segments, told)
    lexical = LexicalIndex.build(texts, [chunk.language for chunk in chunks])
    names = find_names(chunks, lexical)
    chain = Chain.of(segments, [chunk.tokens for chunk in chunks])
    found = [*mention_links(chunks, names), *shared_name_links(chunks, lexical, chain.bonds)]
    fingerprint = IndexFingerprint(embedder, vectors.shape[1], tuple(sorted(languages)), len(chunks))
    graph = LinkGraph.build(chain, [*found, *links])
    index = _assemble(tuple(chunks), DenseIndex.build(vectors, kind), lexical, graph, names.table, fingerprint, told)
    if len(index.rows) != len(chunks):
        raise UsageError("some chunk ids occur twice: ids must be unique within a corpus")
    return index


def _check_lengths(
    chunks: Sequence[Chunk], vectors: FloatMatrix, texts: Sequence[str], segments: Sequence[str], told: Scores
) -> None:
    if vectors.ndim != 2 or len(vectors) != len(chunks):
        raise UsageError(f"{len(chunks)} chunks need as many vectors, got an array of shape {vectors.shape}")
    lengths = {"texts": len(texts), "segments": len(segments), "telling": len(told)}
    if set(lengths.values()) != {len(chunks)}:
        raise UsageError(f"{len(chunks)} chunks need as many texts, segments and weights, got {lengths}")
    if not ((told > 0) & (told <= 1)).all():
        raise UsageError("how much a chunk can tell must be in (0, 1]", subject="telling")
    if not np.isfinite(vectors).all():
        raise UsageError("some vectors are not finite: the embedder failed on their texts")


def _assemble(
    chunks: tuple[Chunk, ...],
    dense: DenseIndex,
    lexical: LexicalIndex,
    links: LinkGraph,
    names: NameTable,
    fingerprint: IndexFingerprint,
    telling: Scores,
) -> CorpusIndex:
    rows = {chunk.chunk_id: row for row, chunk in enumerate(chunks)}
    trust = trust_in_passages([chunk.language for chunk in chunks], frozenset(fingerprint.languages))
    return CorpusIndex(
        chunks,
        dense,
        lexical,
        links,
        names,
        fingerprint,
        trust,
        telling,
        SpeakerTable.of(chunks),
        MetadataColumns(chunks),
        rows,
    )


__all__ = [
    "FORMAT_VERSION",
    "CorpusIndex",
    "IndexFingerprint",
    "build_index",
    "chunk_telling",
    "search_head",
    "search_text",
]
