"""Jobs that write documents and chunks, and what readers see of them."""

from __future__ import annotations

import numpy as np

from lightrag.storage import tables
from lightrag.storage.artifacts import CorpusLog, FileEntry
from lightrag.storage.liveness import live_chunks, live_documents
from lightrag.types import Chunk


def write(
    log: CorpusLog,
    job: str,
    documents: dict[str, int],
    deleted: set[str] = frozenset(),  # type: ignore[assignment]
) -> list[FileEntry]:
    """Files of a job that made so many chunks of each document."""
    keys = {name: tables.content_key(name, "hash", "settings", job) for name in documents}
    rows = [tables.DocumentRow(name, keys[name], chunks=count, title=job) for name, count in documents.items()]
    rows += [tables.DocumentRow(name, "", deleted=True) for name in deleted]
    chunks = [
        Chunk(f"{name}/{number}", name, number, f"{job} {name}", 0, 9, tokens=1)
        for name, count in documents.items()
        for number in range(count)
    ]
    vectors = np.random.default_rng(1).random((len(chunks), 3), np.float32)
    chunk_table = tables.chunks_to_table(chunks, [keys[chunk.document_id] for chunk in chunks], vectors)
    return [
        tables.write_table(log, "documents", f"{job}.parquet", tables.documents_to_table(rows)),
        tables.write_table(log, "chunks", f"{job}.parquet", chunk_table),
    ]


def contents(log: CorpusLog) -> dict[str, tuple[str, int]]:
    """Job and number of chunks of each document, as readers see it."""
    commit = log.latest()
    assert commit is not None
    titles = dict(zip(*live_documents(log, commit, ["document_id", "title"]).to_pydict().values(), strict=True))
    found: dict[str, list[Chunk]] = {name: [] for name in titles}
    for table in live_chunks(log, commit):
        for chunk in tables.chunks_from_table(table):
            found[chunk.document_id].append(chunk)
    for name, chunks in found.items():
        assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
        assert {chunk.text for chunk in chunks} <= {f"{titles[name]} {name}"}
    return {name: (titles[name], len(found[name])) for name in titles}
