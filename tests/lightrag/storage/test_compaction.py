"""Compaction changes nothing but the files, whoever commits meanwhile."""

from __future__ import annotations

import random
from typing import Any

import pyarrow.compute as pc
import pytest

from lightrag.errors import ConflictError
from lightrag.storage import compaction
from lightrag.storage.artifacts import Change, CorpusLog, FileEntry
from lightrag.storage.compaction import compact
from lightrag.storage.liveness import live_chunks
from tests.lightrag.storage.conftest import CORPUS
from tests.lightrag.storage.samples import contents, write


class TestCompaction:
    def test_nothing_is_rewritten_where_it_is_not_worth_while(self, memory_log: CorpusLog) -> None:
        assert compact(memory_log) is None
        memory_log.commit(None, add=write(memory_log, "one", {"a": 8, "b": 2, "c": 0}))
        memory_log.commit_rebasing(lambda base: Change(write(memory_log, "two", {"b": 2})))
        assert compact(memory_log) is None
        assert memory_log.newest_version() == 2
        assert list(memory_log.store.list(memory_log.layout.holds)) == []

    def test_only_files_with_many_dead_rows_are_rewritten(self, memory_log: CorpusLog) -> None:
        memory_log.commit(None, add=write(memory_log, "good", {"a": 3}))
        memory_log.commit_rebasing(lambda base: Change(write(memory_log, "bad", {"b": 9})))
        memory_log.commit_rebasing(lambda base: Change(write(memory_log, "new", {"b": 1})))
        made = compact(memory_log, job_id="nightly")
        assert made is not None
        assert made.job_id == "nightly"
        assert [entry.name for entry in memory_log.files(made, "chunks")] == ["good.parquet", "new.parquet"]
        assert contents(memory_log) == {"a": ("good", 3), "b": ("new", 1)}

    def test_many_small_files_become_few(self, memory_log: CorpusLog) -> None:
        commit = memory_log.commit(None)
        for number in range(9):
            commit = memory_log.commit(commit, add=write(memory_log, f"job{number}", {f"doc{number}": 1}))
        before = contents(memory_log)
        made = compact(memory_log, max_small_files=8)
        assert made is not None
        assert {role: files.files for role, files in made.files.items()} == {"chunks": 1, "documents": 1}
        assert contents(memory_log) == before

    def test_large_results_are_spread_over_files(self, memory_log: CorpusLog, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(compaction, "TARGET_BYTES", 2000)
        commit = memory_log.commit(None)
        for number in range(9):
            commit = memory_log.commit(commit, add=write(memory_log, f"job{number}", {f"doc{number}": 20}))
        before = contents(memory_log)
        memory_log.commit_rebasing(lambda base: Change(write(memory_log, "last", {f"doc{n}": 1 for n in range(8)})))
        made = compact(memory_log)
        assert made is not None
        assert contents(memory_log) == {**before, **{f"doc{n}": ("last", 1) for n in range(8)}}

    @pytest.mark.parametrize("seed", range(3))
    def test_jobs_that_commit_during_a_compaction_are_not_undone(
        self, memory_log: CorpusLog, monkeypatch: pytest.MonkeyPatch, seed: int
    ) -> None:
        memory_log.commit(None, add=write(memory_log, "one", dict.fromkeys("abc", 3)))
        memory_log.commit_rebasing(lambda base: Change(write(memory_log, "two", {"a": 1, "b": 1})))
        original, choice = memory_log.write_file, random.Random(seed)
        meanwhile = [write(memory_log, "three", {"a": 2, "d": 1}, {"c"})]

        def interrupted(*arguments: Any, **rows: int) -> FileEntry:
            if meanwhile and choice.random() < 0.6:
                entries = meanwhile.pop()
                CorpusLog(memory_log.store, CORPUS).commit_rebasing(lambda base: Change(entries))
            return original(*arguments, **rows)

        monkeypatch.setattr(memory_log, "write_file", interrupted)
        compact(memory_log)
        for entries in meanwhile:
            memory_log.commit_rebasing(lambda base, entries=entries: Change(entries))  # type: ignore[misc]
        assert contents(memory_log) == {"a": ("three", 2), "b": ("two", 1), "d": ("three", 1)}
        assert memory_log.check_integrity(deep=True).problems == ()

    def test_of_two_compactions_at_once_one_gives_up(
        self, memory_log: CorpusLog, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory_log.commit(None, add=write(memory_log, "one", {"a": 9}))
        memory_log.commit_rebasing(lambda base: Change(write(memory_log, "two", {"a": 1})))
        original = memory_log.write_file

        def interrupted(*arguments: Any, **rows: int) -> FileEntry:
            monkeypatch.setattr(memory_log, "write_file", original)
            compact(CorpusLog(memory_log.store, CORPUS))
            return original(*arguments, **rows)

        monkeypatch.setattr(memory_log, "write_file", interrupted)
        with pytest.raises(ConflictError, match="were rewritten by somebody else"):
            compact(memory_log)
        assert memory_log.newest_version() == 3
        assert contents(memory_log) == {"a": ("two", 1)}


def test_embeddings_stay_with_their_chunks(memory_log: CorpusLog) -> None:
    memory_log.commit(None, add=write(memory_log, "one", {"a": 3, "b": 3}))
    before = {
        row["chunk_id"]: row["embedding"] for t in live_chunks(memory_log, memory_log.read(1)) for row in t.to_pylist()
    }
    memory_log.commit_rebasing(lambda base: Change(write(memory_log, "two", {"a": 1})))
    made = compact(memory_log, max_dead_share=0.1)
    assert made is not None
    for table in live_chunks(memory_log, made):
        for row in table.filter(pc.equal(table["document_id"], "b")).to_pylist():
            assert row["embedding"] == before[row["chunk_id"]]
