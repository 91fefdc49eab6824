"""The index of a large corpus, written part by part to files that :meth:`CorpusIndex.load` reads.

The files are those of :func:`~lightrag.retrieval.index.build_index`; only the way there differs. Passages and vectors
stay on disk, and of the index one part is in memory at a time: first the vectors', then words and links.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from lightrag.errors import UsageError
from lightrag.retrieval.arrays import write_arrays
from lightrag.retrieval.dense import DenseIndex
from lightrag.retrieval.dense_kinds import IndexKind
from lightrag.retrieval.graph import Chain, LinkGraph
from lightrag.retrieval.index import IndexFingerprint, chunk_telling, search_text
from lightrag.retrieval.lexical import LexicalCollector, LexicalIndex
from lightrag.retrieval.link_columns import LinkColumns
from lightrag.retrieval.links import find_names, mention_links, shared_name_links
from lightrag.retrieval.passage_spool import PassageSpool
from lightrag.retrieval.passages import COMPRESSION, decoded, passage_schema


def write_index(
    passages: PassageSpool,
    folder: Path,
    *,
    embedder: str,
    languages: frozenset[str] = frozenset(),
    kind: IndexKind | None = None,
) -> list[Path]:
    """Index passages into files of a folder, and return their paths.

    Memory is that of the larger half of the index (vectors, or words and links) and one shard of passages.

    Args:
        passages: all of them, in corpus order: chunks of one document together and by ordinal.
        folder: where to write; what else it holds is left alone.
        embedder: fingerprint of the embedder that made the vectors.
        languages: what the embedder speaks; empty where that is not known.
        kind: structure of the dense index; ``None``: by the number of chunks.

    Raises:
        UsageError: passages are missing, or a chunk id occurs twice.
        OSError: the disk is full.
    """
    if passages.missing:
        raise UsageError(f"{passages.missing} of {len(passages)} passages are missing", subject="passages")
    dense = DenseIndex.build(passages.vectors, kind)
    fingerprint = IndexFingerprint(embedder, dense.dimension, tuple(sorted(languages)), len(passages))
    vectors = dense.write(folder)
    del dense
    with TemporaryDirectory(dir=folder) as waiting:
        lexical, chain, told = _read_once(passages, folder, Path(waiting))
    lexical.write(folder)
    names = find_names(passages, lexical)
    found = [mention_links(passages, names), shared_name_links(passages, lexical, chain.bonds)]
    del lexical
    LinkGraph.build(chain, LinkColumns.joined(found)).write(folder)
    write_arrays(folder / "passages.safetensors", {"telling": told})
    (folder / "names.json").write_text(json.dumps(dict(names.table.rows), ensure_ascii=False), encoding="utf-8")
    (folder / "index.json").write_text(json.dumps(asdict(fingerprint)), encoding="utf-8")
    return [*vectors, *(folder / name for name in _FILES)]


_FILES = (
    "index.json",
    "chunks.parquet",
    "passages.safetensors",
    "lexical.json",
    "lexical.safetensors",
    "links.safetensors",
    "links.json",
    "names.json",
)


def _read_once(passages: PassageSpool, folder: Path, waiting: Path) -> tuple[LexicalIndex, Chain, NDArray[np.float32]]:
    """Write the rows, and take from them what needs no other passage: words, order, and how much each can tell."""
    lexical = LexicalCollector(passages.languages, waiting)
    segments, tokens, told = array("i"), array("i"), array("f")
    ids: list[pa.ChunkedArray] = []
    document, number = None, 0
    for table in _written(passages, folder / "chunks.parquet"):
        ids.append(table["chunk_id"])
        for chunk in decoded(table):
            lexical.add(search_text(chunk), chunk.language)
            number += chunk.document_id != document
            document = chunk.document_id
            segments.append(number)
            tokens.append(chunk.tokens)
            told.append(chunk_telling(chunk))
    distinct = len(pc.unique(pa.chunked_array([piece for part in ids for piece in part.chunks], pa.string())))
    if distinct != len(passages):
        raise UsageError("some chunk ids occur twice: ids must be unique within a corpus")
    chain = Chain.numbered(np.array(segments, np.int32), np.array(tokens, np.int32))
    return lexical.index(), chain, np.array(told, np.float32)


def _written(passages: PassageSpool, path: Path) -> Iterator[pa.Table]:
    with pq.ParquetWriter(path, passage_schema(), compression=COMPRESSION) as writer:
        for table in passages.tables():
            writer.write_table(table)
            yield table


__all__ = ["write_index"]
