"""Changes that only add files read like a table that was changed in place."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError
from lightrag.storage import tables
from lightrag.storage.artifacts import Change, CorpusLog
from lightrag.storage.compaction import compact
from lightrag.storage.liveness import DeadRows, dead_rows, live_chunks, live_documents
from lightrag.storage.objects import open_object_store
from tests.lightrag.storage.conftest import CORPUS
from tests.lightrag.storage.samples import contents, write

names = st.sampled_from("abcdef")
jobs = st.lists(
    st.one_of(
        st.tuples(st.dictionaries(names, st.integers(0, 4), max_size=4), st.sets(names, max_size=2)),
        st.just("compact"),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=50, deadline=None)
@given(jobs)
def test_files_that_only_add_up_read_like_a_table_that_was_changed(changes: list[object]) -> None:
    log, expected = CorpusLog(open_object_store("memory://"), CORPUS), dict[str, tuple[str, int]]()
    log.commit(None)
    for number, change in enumerate(changes):
        if change == "compact":
            compact(log, max_dead_share=0.2, max_small_files=2)
            assert dead_rows(log, log.latest()).share <= 0.2  # type: ignore[arg-type]
        else:
            documents, deleted = change  # type: ignore[misc]
            deleted = deleted - documents.keys()
            entries = write(log, f"job{number}", documents, deleted)
            log.commit_rebasing(lambda base, entries=entries: Change(entries))  # type: ignore[misc]
            expected |= {name: (f"job{number}", count) for name, count in documents.items()}
            expected = {name: value for name, value in expected.items() if name not in deleted}
        assert contents(log) == expected
    latest = log.latest()
    assert latest is not None
    assert dead_rows(log, latest).rows - dead_rows(log, latest).dead == sum(count for _, count in expected.values())
    log.vacuum(retain=1, grace_seconds=0)
    assert contents(log) == expected


def test_of_two_jobs_that_did_the_same_work_at_once_exactly_one_counts(memory_log: CorpusLog) -> None:
    one, two = write(memory_log, "one", {"a": 2, "b": 1}), write(memory_log, "two", {"b": 1, "c": 1})
    base = memory_log.commit(None, add=one)
    memory_log.commit(base, add=two)
    assert contents(memory_log) == {"a": ("one", 2), "b": ("two", 1), "c": ("two", 1)}
    assert dead_rows(memory_log, memory_log.latest()) == DeadRows(5, 1)  # type: ignore[arg-type]


def test_columns_can_be_chosen_and_an_empty_corpus_has_them_too(memory_log: CorpusLog) -> None:
    commit = memory_log.commit(None)
    assert live_documents(memory_log, commit, ["document_id"]).to_pydict() == {"document_id": []}
    assert live_documents(memory_log, commit).schema.equals(tables.schema("documents"))
    assert list(live_chunks(memory_log, commit)) == []
    assert dead_rows(memory_log, commit).share == 0
    commit = memory_log.commit(commit, add=write(memory_log, "job", {"b": 2, "a": 1}))
    assert live_documents(memory_log, commit, ["version", "document_id"]).to_pydict() == {
        "version": [2, 2],
        "document_id": ["a", "b"],
    }
    (found,) = live_chunks(memory_log, commit, ["ordinal", "chunk_id"])
    assert found.to_pydict() == {"ordinal": [0, 1, 0], "chunk_id": ["b/0", "b/1", "a/0"]}
    (found,) = live_chunks(memory_log, commit)
    assert tables.vectors_of(found).shape == (3, 3)


def test_two_rows_for_one_document_in_one_version_are_damage(memory_log: CorpusLog) -> None:
    commit = memory_log.commit(None, add=[*write(memory_log, "x", {"a": 1}), *write(memory_log, "y", {"a": 1})])
    with pytest.raises(ArtifactError, match="document 'a' has two rows for one version"):
        live_documents(memory_log, commit)
