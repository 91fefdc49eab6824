"""The stage before the commit: the same wherever it runs, whatever files and order the chunks come in."""

from __future__ import annotations

import numpy as np

from lightrag.ingestion.indexing import IndexReceipt, IndexUnit, index_locally
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line
from lightrag.retrieval.index import build_index
from lightrag.storage import tables
from lightrag.storage.liveness import live_chunks
from tests.lightrag.ingestion.conftest import Bench, story


def test_the_index_of_many_changes_is_the_one_of_all_chunks_at_once(bench: Bench) -> None:
    bench.write_many(6)
    bench.ingest()
    bench.write("002.txt", story(40))
    bench.write("0a.txt", story(41))
    bench.docs.joinpath("004.txt").unlink()
    bench.ingest()
    loaded = bench.loaded().index
    assert loaded.chunks == tuple(bench.chunks())
    pieces = list(live_chunks(bench.log, bench.newest()))
    vectors = {
        chunk.chunk_id: vector
        for piece in pieces
        for chunk, vector in zip(
            tables.chunks_from_table(piece), tables.vectors_of(piece.combine_chunks()), strict=True
        )
    }
    wanted = build_index(
        loaded.chunks,
        np.stack([vectors[chunk.chunk_id] for chunk in loaded.chunks]),
        embedder=loaded.fingerprint.embedder,
    )
    assert wanted.save() == loaded.save()


def test_units_and_receipts_travel_as_text_and_the_version_is_the_same(bench: Bench) -> None:
    seen: list[IndexUnit] = []

    def elsewhere(unit: IndexUnit, line: Line) -> IndexReceipt:
        seen.append(IndexUnit.from_json(unit.to_json()))
        assert seen[-1] == unit
        receipt = index_locally(seen[-1], line)
        again = IndexReceipt.from_json(receipt.to_json())
        assert again == receipt
        return again

    bench.write_many(3)
    with bench.line() as line:
        ingest(line, index=elsewhere)
    first = bench.loaded()
    assert (len(first.index), seen[0].passages) == (len(bench.chunks()), len(bench.chunks()))
    bench.write("torn.pdf", b"%PDF-1.4 torn")
    with bench.line() as line:
        ingest(line, index=elsewhere)
    assert [unit.rebuild for unit in seen] == [True, False]
    assert bench.loaded().gists == first.gists
