"""An index that is written part by part, from passages on disk in any order, is the one built in memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightrag.errors import UsageError
from lightrag.retrieval import passage_spool, postings, shared_terms
from lightrag.retrieval.arrays import unpack_arrays
from lightrag.retrieval.dense_kinds import IndexKind
from lightrag.retrieval.index import CorpusIndex, build_index
from lightrag.retrieval.index_files import write_index
from lightrag.retrieval.link_columns import KINDS
from lightrag.retrieval.passage_spool import PassageSpool
from lightrag.retrieval.passages import write_chunks
from lightrag.types import Chunk
from tests.lightrag.retrieval.corpora import chunk

DIMENSION = 8
FOUND = ("mention", "mentioned_by", "shared_name")


LONG = 60
"""Passages of a document, so that it is long enough for words shared by its passages to say something."""


def passages(count: int) -> list[Chunk]:
    """Long documents, with titles that others mention and words that few passages share."""
    random = np.random.default_rng(0)
    made = []
    for number in range(count):
        document, ordinal = divmod(number, LONG)
        words = " ".join(f"w{rank}" for rank in random.zipf(1.4, 20) % 300)
        text = f"Then the {words} came to Port {chr(65 + random.integers(0, 5))}rannoch."
        about = {"title": f"Port {chr(65 + document)}rannoch", "metadata": {"n": number}}
        made.append(chunk(f"c{number}", text, document=f"d{document:04d}", ordinal=ordinal, **about))
    return made


def spooled(folder: Path, chunks: list[Chunk], vectors: np.ndarray, order: np.ndarray) -> PassageSpool:
    folder.mkdir()
    spool = PassageSpool(folder, len(chunks), DIMENSION)
    for rows in np.array_split(order, 4):
        if len(rows):
            table = pq.read_table(pa.BufferReader(write_chunks([chunks[row] for row in rows.tolist()])))
            spool.add(rows, table, vectors[rows])
    return spool


def written(folder: Path, spool: PassageSpool, kind: IndexKind | None = None) -> dict[str, bytes]:
    folder.mkdir()
    paths = write_index(spool, folder, embedder="e", languages=frozenset({"en"}), kind=kind)
    assert sorted(paths) == sorted(folder.iterdir())  # nothing that was only needed meanwhile stays
    return {path.name: path.read_bytes() for path in paths}


@pytest.mark.parametrize("count", [0, 1, 240])
def test_files_written_from_shards_are_those_built_in_memory(
    tmp_path: Path, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = passages(count)
    vectors = np.random.default_rng(1).standard_normal((count, DIMENSION), np.float32)
    wanted = build_index(chunks, vectors, embedder="e", languages=frozenset({"en"})).save()
    for module, name, small in (
        (passage_spool, "SHARD_ROWS", 50),
        (postings, "SHARD_TERMS", 300),
        (shared_terms, "_PAIRS", 100),
    ):
        monkeypatch.setattr(module, name, small)
    order = np.random.default_rng(2).permutation(count)
    found = written(tmp_path / "index", spooled(tmp_path / "spool", chunks, vectors, order))
    assert found.keys() == wanted.keys()
    for name, data in wanted.items():
        if name.endswith(".safetensors"):
            arrays, others = unpack_arrays(wanted, name), unpack_arrays(found, name)
            assert arrays.keys() == others.keys()
            for key, values in arrays.items():
                np.testing.assert_array_equal(others[key], values)
        elif name.endswith(".json"):
            assert json.loads(found[name]) == json.loads(data)
    assert found["dense.faiss"] == wanted["dense.faiss"]
    loaded = CorpusIndex.load(found)
    assert loaded.chunks == tuple(chunks)
    assert count < 2 or set(loaded.links.kinds.tolist()) == {KINDS.index(kind) for kind in FOUND}


def test_quantised_vectors_are_written_with_codes_beside_them(tmp_path: Path) -> None:
    chunks, vectors = passages(240), np.random.default_rng(1).standard_normal((240, DIMENSION), np.float32)
    wanted = build_index(chunks, vectors, embedder="e", kind="ivfpq")
    found = written(tmp_path / "index", spooled(tmp_path / "spool", chunks, vectors, np.arange(240)), "ivfpq")
    assert found.keys() == wanted.save().keys()
    assert {name: found[name] for name in wanted.dense.save()} == wanted.dense.save()
    assert CorpusIndex.load(found).dense.kind == "ivfpq"


def test_missing_and_doubled_passages_are_refused(tmp_path: Path) -> None:
    chunks, vectors = passages(6), np.ones((6, DIMENSION), np.float32)
    some = spooled(tmp_path / "some", chunks, vectors, np.arange(5))
    with pytest.raises(UsageError, match="1 of 6 passages are missing"):
        written(tmp_path / "a", some)
    twice = spooled(tmp_path / "twice", [*chunks[:5], chunks[0]], vectors, np.arange(6))
    with pytest.raises(UsageError, match="occur twice"):
        written(tmp_path / "b", twice)
    with pytest.raises(UsageError, match="not finite"):
        spooled(tmp_path / "nan", chunks, np.full((6, DIMENSION), np.nan, np.float32), np.arange(6))
