"""The index is built anew only where what it says would change."""

from __future__ import annotations

from tests.lightrag.ingestion.conftest import Bench


def index_files(bench: Bench) -> set[str]:
    return {entry.path for entry in bench.log.files(bench.newest(), "index")}


def test_a_version_that_adds_only_errors_keeps_the_index(bench: Bench) -> None:
    bench.write_many(3)
    bench.ingest()
    before = index_files(bench)
    bench.write("torn.pdf", b"%PDF-1.4 torn")
    assert bench.ingest().committed
    assert index_files(bench) == before
    assert len(bench.loaded().index.chunks) == len(bench.chunks())


def test_a_version_with_another_document_has_another_index(bench: Bench) -> None:
    bench.write_many(3)
    bench.ingest()
    before = index_files(bench)
    bench.write_many(4)
    bench.ingest()
    assert not index_files(bench) & before
    assert len(bench.loaded().index.chunks) == len(bench.chunks())
