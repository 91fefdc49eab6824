"""Jobs that take documents out of a corpus."""

from __future__ import annotations

from typing import Any

import pytest

from lightrag.errors import UsageError
from lightrag.ingestion.spec import IngestSpec, SourceSpec
from lightrag.ingestion.summary import IngestSummary
from tests.lightrag.ingestion.conftest import Bench

NOTHING: dict[str, Any] = {"format": "none", "name": "removal"}


def remove(bench: Bench, *identities: str, **options: Any) -> IngestSummary:
    return bench.ingest("removal", spec={"remove": identities}, **NOTHING, **options)


def test_a_removed_document_is_gone_and_the_others_stay(bench: Bench) -> None:
    bench.write_many(3)
    bench.ingest()
    before = {source: row.content_key for source, row in bench.documents().items()}
    summary = remove(bench, bench.documents()["001.txt"].document_id)
    assert (summary.deleted, summary.documents, summary.processed_chunks) == (1, 2, 0)
    del before["001.txt"]
    assert {source: row.content_key for source, row in bench.documents().items()} == before
    assert {chunk.source for chunk in bench.loaded().index.chunks} == {"000.txt", "002.txt"}


def test_removing_what_is_not_there_makes_no_version(bench: Bench) -> None:
    bench.write_many(1)
    bench.ingest()
    identity = bench.documents()["000.txt"].document_id
    assert not remove(bench, "absent").committed
    assert remove(bench, identity).deleted == 1
    again = remove(bench, identity)
    assert (again.committed, again.deleted, again.documents) == (False, 0, 0)


def test_a_removed_document_is_not_processed_though_settings_have_changed(bench: Bench) -> None:
    bench.write_many(2)
    bench.ingest()
    summary = remove(bench, bench.documents()["000.txt"].document_id, settings={"gists": {"tokens_per_gist": 32}})
    assert (summary.deleted, summary.documents) == (1, 1)
    assert list(bench.documents()) == ["001.txt"]


def test_a_source_that_still_lists_a_document_brings_it_back(bench: Bench) -> None:
    bench.write_many(2)
    bench.ingest()
    remove(bench, bench.documents()["000.txt"].document_id)
    assert bench.ingest().new == 1


@pytest.mark.parametrize(("form", "remove"), [("none", ()), ("documents", ("d1",))])
def test_a_job_reads_or_removes(form: str, remove: tuple[str, ...]) -> None:
    source = SourceSpec(location="docs").model_dump() | {"format": form}
    with pytest.raises(UsageError, match="go together"):
        IngestSpec.parse({"corpus": "tales", "source": source, "remove": list(remove)})
