"""Corpus versions from storage: what is held of an index, and what is looked into."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightrag.corpora import load_corpus
from lightrag.errors import ArtifactError
from lightrag.retrieval.index_files import write_index
from lightrag.retrieval.passage_spool import PassageSpool
from lightrag.retrieval.passages import write_chunks
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.objects import open_object_store
from lightrag.types import CorpusId
from tests.lightrag.retrieval.corpora import chunk

ROWS, DIMENSION = 300, 8


@pytest.fixture
def log(tmp_path: Path) -> CorpusLog:
    """A corpus whose index has product-quantised vectors."""
    for name in ("spool", "index"):
        (tmp_path / name).mkdir()
    chunks = [chunk(f"c{number}", f"Passage {number} of the book.") for number in range(ROWS)]
    vectors = np.random.default_rng(0).standard_normal((ROWS, DIMENSION), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    spool = PassageSpool(tmp_path / "spool", ROWS, DIMENSION)
    spool.add(np.arange(ROWS), pq.read_table(pa.BufferReader(write_chunks(chunks))), vectors)
    log = CorpusLog(open_object_store("memory://"), CorpusId("acme", "reports"))
    paths = write_index(spool, tmp_path / "index", embedder="e", kind="ivfpq")
    assert sorted(paths) == sorted((tmp_path / "index").iterdir())
    log.commit(None, add=[log.write_file("index", f"1f/{path.name}", path) for path in paths])
    return log


def test_vectors_beside_a_quantised_index_are_verified_and_stay_on_disk(
    log: CorpusLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    commit = log.latest()
    assert commit is not None
    dense = load_corpus(log.store, commit.id).index.dense
    assert list((tmp_path / "temporary").iterdir()) == []
    assert dense.kind == "ivfpq"
    vectors = dense.vectors(np.arange(ROWS))
    assert dense.search(vectors, 1).rows[:, 0].tolist() == list(range(ROWS))
    damaged = log.layout.file(log.file(commit, "index", "1f/dense.codes").path)
    log.store.put(damaged, log.store.get(damaged)[:-1] + b"?")
    with pytest.raises(ArtifactError, match="is damaged"):
        load_corpus(log.store, commit.id)
