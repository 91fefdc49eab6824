"""Behaviour of ingest jobs as their users see it, in one process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from lightrag.errors import BackendError, LimitError, NotFoundError, UsageError
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line, Receipt, Unit
from lightrag.ingestion.uploads import Upload, UploadSource
from lightrag.models import HashingEmbedder
from lightrag.models.base import FloatMatrix
from lightrag.retrieval.index import search_text
from lightrag.storage.liveness import live_chunks
from lightrag.storage.tables import chunks_from_table, errors_from_table, read_table, vectors_of
from tests.lightrag.ingestion.conftest import Bench, story

BROKEN_PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer << >>\nstartxref\n9999\n%%EOF"


class CountingEmbedder(HashingEmbedder):
    """Counts texts, and fails when told to."""

    def __init__(self, dimension: int = 256, *, fail_after: int | None = None) -> None:
        super().__init__(dimension)
        self.texts = 0
        self.fail_after = fail_after

    async def embed(self, texts: Sequence[str], kind: Literal["document", "query"] = "document") -> FloatMatrix:
        self.texts += len(texts)
        if self.fail_after is not None and self.texts > self.fail_after:
            raise BackendError("the embedder has lost its device", retryable=True)
        return await super().embed(texts, kind)


class TestFirstRun:
    def test_makes_a_version_that_can_be_searched(self, bench: Bench) -> None:
        bench.write_many(3)
        summary = bench.ingest()
        assert (summary.new, summary.failed, summary.version, summary.committed) == (3, 0, 1, True)
        loaded = bench.loaded()
        assert len(loaded.index) == summary.chunks == len(bench.chunks())
        assert loaded.gists
        assert loaded.language == "en"
        assert not bench.log.check_integrity(deep=True).problems

    def test_chunks_cover_every_character_of_every_document(self, bench: Bench) -> None:
        bench.write_many(4)
        bench.ingest()
        for number in range(4):
            text = story(number)
            chunks = bench.chunks(f"{number:03d}.txt")
            assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
            covered: set[int] = set()
            for chunk in chunks:
                assert text[chunk.start : chunk.end] == chunk.text
                covered.update(range(chunk.start, chunk.end))
            assert all(text[place].isspace() for place in set(range(len(text))) - covered)

    def test_leaves_nothing_in_staging(self, bench: Bench) -> None:
        bench.write_many(3)
        bench.ingest()
        assert not [info.path for info in bench.log.store.list("default/corpora/tales/staging")]

    def test_equal_files_are_two_documents(self, bench: Bench) -> None:
        bench.write("a.txt", story(1))
        bench.write("b.txt", story(1))
        bench.ingest()
        documents = bench.documents()
        assert documents["a.txt"].document_id != documents["b.txt"].document_id
        assert documents["a.txt"].content_hash == documents["b.txt"].content_hash
        ids = [chunk.chunk_id for chunk in bench.chunks()]
        assert len(ids) == len(set(ids)) == 2 * len(bench.chunks("a.txt"))

    def test_reports_ignored_files_and_reads_the_others(self, bench: Bench) -> None:
        bench.write("a.txt", story(1))
        bench.write("photo.png", b"\x89PNG")
        bench.write(".hidden/secret.txt", "hidden")
        summary = bench.ingest()
        assert (summary.new, summary.ignored) == (1, 1)
        assert "photo.png" in summary.ignored_examples[0]

    def test_chunk_tokens_follow_the_embedder_and_the_summary_says_so(self, bench: Bench) -> None:
        bench.write("a.txt", story(1))
        summary = bench.ingest(embedder=HashingEmbedder(max_tokens=60))
        assert "60 tokens" in summary.notes[0]
        assert max(chunk.tokens for chunk in bench.chunks()) <= 60


class TestSecondRun:
    def test_processes_nothing_and_commits_nothing(self, bench: Bench) -> None:
        bench.write_many(3)
        bench.ingest()
        embedder = CountingEmbedder()
        summary = bench.ingest(embedder=embedder)
        assert (summary.unchanged, summary.new, summary.committed, summary.version) == (3, 0, False, 1)
        assert embedder.texts == 0
        assert bench.log.versions() == [1]

    def test_makes_no_duplicates_when_forced_by_a_touch(self, bench: Bench) -> None:
        bench.write_many(2)
        bench.ingest()
        before = bench.chunks()
        for path in bench.docs.iterdir():
            path.touch()
        assert bench.ingest().unchanged == 2
        assert bench.chunks() == before

    def test_notices_a_change_that_keeps_size_and_time(self, bench: Bench) -> None:
        path = bench.write("a.txt", "The bell rang once.")
        state = path.stat()
        bench.ingest()
        path.write_text("The bell rang 1000.", encoding="utf-8")
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        assert bench.ingest().changed == 1
        assert [chunk.text for chunk in bench.chunks()] == ["The bell rang 1000."]

    def test_works_on_changed_new_and_deleted_documents_only(self, bench: Bench) -> None:
        bench.write_many(5)
        bench.ingest()
        bench.write("001.txt", story(77))
        bench.write("new.txt", story(88))
        (bench.docs / "004.txt").unlink()
        embedder = CountingEmbedder()
        summary = bench.ingest(embedder=embedder)
        assert (summary.new, summary.changed, summary.unchanged, summary.deleted) == (1, 1, 3, 1)
        assert sorted(bench.documents()) == ["000.txt", "001.txt", "002.txt", "003.txt", "new.txt"]
        assert embedder.texts == len(bench.chunks("001.txt")) + len(bench.chunks("new.txt"))

    def test_equals_a_fresh_run_over_the_same_documents(self, bench: Bench, tmp_path: Path) -> None:
        bench.write_many(5)
        bench.ingest()
        bench.write("001.txt", story(77))
        (bench.docs / "004.txt").unlink()
        bench.ingest()
        (tmp_path / "other").mkdir()
        fresh = Bench(tmp_path / "other")
        for path in bench.docs.iterdir():
            fresh.write(path.name, path.read_bytes())
        fresh.ingest(name=bench.docs.as_uri())
        assert fresh.chunks() == bench.chunks()
        first, second = fresh.loaded(), bench.loaded()
        assert first.index.chunks == second.index.chunks
        assert first.gists == second.gists

    def test_a_corpus_may_become_empty_when_its_last_document_breaks_with_another_embedder(self, bench: Bench) -> None:
        bench.write("a.txt", story(1))
        bench.ingest()
        bench.write("a.txt", "")
        summary = bench.ingest(embedder=HashingEmbedder(32), settings={"ingest": {"error_limit": 1.0}})
        assert (summary.failed, summary.documents, summary.chunks) == (1, 0, 0)
        assert len(bench.loaded().index) == 0

    def test_keeps_missing_documents_when_asked(self, bench: Bench) -> None:
        bench.write_many(2)
        bench.ingest()
        (bench.docs / "001.txt").unlink()
        assert bench.ingest(spec={"keep_missing": True}).deleted == 0
        assert len(bench.documents()) == 2

    def test_leaves_documents_of_other_sources_alone(self, bench: Bench, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "000.txt").write_text(story(50), encoding="utf-8")
        bench.write_many(2)
        bench.ingest()
        summary = bench.ingest(other)
        assert (summary.new, summary.deleted, summary.documents) == (1, 0, 3)
        bench.write("001.txt", story(99))
        assert bench.ingest().documents == 3

    def test_knows_a_named_source_at_another_place(self, bench: Bench) -> None:
        bench.write_many(2)
        bench.ingest(name="tales")
        moved = bench.docs.rename(bench.docs.with_name("elsewhere"))
        assert bench.ingest(moved, name="tales").unchanged == 2


class TestChangedSettings:
    def test_another_embedder_needs_no_reading(self, bench: Bench) -> None:
        bench.write_many(3)
        bench.ingest()
        before = bench.chunks()
        for path in bench.docs.iterdir():
            path.chmod(0)
        embedder = CountingEmbedder(128)
        line = bench.line(embedder=embedder)
        line.source.read = lambda item: pytest.fail("the source was read")  # type: ignore[method-assign]
        for path in bench.docs.iterdir():
            path.chmod(0o600)
        summary = ingest(line)
        assert summary.changed == 3
        assert embedder.texts == len(before)
        assert bench.chunks() == before
        assert bench.loaded().index.fingerprint.dimension == 128
        assert not bench.log.check_integrity().problems

    def test_other_gists_need_no_embedding(self, bench: Bench) -> None:
        bench.write_many(3)
        bench.ingest()
        embedder = CountingEmbedder()
        summary = bench.ingest(embedder=embedder, settings={"gists": {"chunks_per_gist": 2}})
        assert summary.changed == 3
        assert embedder.texts == 0

    def test_another_gist_budget_touches_no_document(self, bench: Bench) -> None:
        bench.write_many(3)
        bench.ingest()
        summary = bench.ingest(settings={"gists": {"budget_tokens": 128}})
        assert (summary.unchanged, summary.changed, summary.committed) == (3, 0, True)

    def test_another_embedder_is_applied_to_documents_of_other_sources_too(self, bench: Bench, tmp_path: Path) -> None:
        other = tmp_path / "other"
        other.mkdir()
        (other / "x.txt").write_text(story(50), encoding="utf-8")
        bench.ingest(other)
        bench.write_many(2)
        summary = bench.ingest(embedder=HashingEmbedder(64))
        assert (summary.new, summary.changed, summary.documents) == (2, 1, 3)
        assert bench.loaded().index.dense.dimension == 64

    def test_worker_counts_change_nothing(self, bench: Bench) -> None:
        bench.write_many(2)
        bench.ingest()
        settings = {"ingest": {"parse_workers": 3, "batch_bytes": 100}, "embedder": {"batch_tokens": 64}}
        assert bench.ingest(settings=settings).unchanged == 2


class TestBadDocuments:
    def test_one_broken_document_does_not_cost_the_others(self, bench: Bench) -> None:
        bench.write_many(4)
        bench.write("broken.pdf", BROKEN_PDF)
        bench.write("empty.txt", "")
        summary = bench.ingest()
        assert (summary.new, summary.failed) == (4, 2)
        assert {error.source for error in summary.errors} == {"broken.pdf", "empty.txt"}
        (entry,) = bench.log.files(bench.newest(), "errors")
        rows = {row.source: row for row in errors_from_table(read_table(bench.log, entry))}
        assert rows["broken.pdf"].stage == "read"
        assert "broken.pdf" in rows["broken.pdf"].message

    def test_known_failures_are_not_tried_again_unless_asked(self, bench: Bench) -> None:
        bench.write_many(2)
        bench.write("broken.pdf", BROKEN_PDF)
        bench.ingest()
        again = bench.ingest()
        assert (again.failed, again.committed, again.seconds.get("process")) == (1, False, None)
        retried = bench.ingest(spec={"retry_failed": True})
        assert (retried.failed, retried.committed) == (1, False)
        assert "process" in retried.seconds

    def test_a_repaired_document_loses_its_error(self, bench: Bench) -> None:
        bench.write_many(2)
        bench.write("late.txt", "")
        assert bench.ingest().failed == 1
        bench.write("late.txt", story(9))
        summary = bench.ingest()
        assert (summary.new, summary.failed) == (1, 0)
        assert not bench.log.files(bench.newest(), "errors")

    def test_a_document_that_breaks_stays_as_it_was_with_an_error(self, bench: Bench) -> None:
        bench.write_many(3)
        bench.ingest()
        bench.write("001.txt", "")
        summary = bench.ingest()
        assert (summary.failed, summary.documents) == (1, 3)
        assert bench.chunks("001.txt")
        bench.write("001.txt", story(1))
        restored = bench.ingest()
        assert (restored.unchanged, restored.failed, restored.committed) == (3, 0, True)

    def test_errors_of_another_source_stay_and_cause_no_commits(self, bench: Bench, tmp_path: Path) -> None:
        bench.write_many(3)
        bench.ingest()
        bench.write("001.txt", "")
        bench.ingest()
        other = tmp_path / "other"
        other.mkdir()
        (other / "x.txt").write_text(story(50), encoding="utf-8")
        assert (first := bench.ingest(other)).new == 1
        assert first.unchanged == 0
        assert not bench.ingest(other).committed
        (entry,) = bench.log.files(bench.newest(), "errors")
        assert [row.source for row in errors_from_table(read_table(bench.log, entry))] == ["001.txt"]

    def test_too_many_failures_fail_the_job_before_its_commit(self, bench: Bench) -> None:
        bench.write("good.txt", story(1))
        bench.write("a.txt", "")
        bench.write("b.txt", "")
        with pytest.raises(LimitError, match=r"2 of 3 documents failed.*error_limit"):
            bench.ingest()
        assert bench.log.latest() is None
        assert bench.ingest(settings={"ingest": {"error_limit": 0.9}}).new == 1

    def test_a_too_large_document_is_refused_unread(self, bench: Bench) -> None:
        bench.write_many(2)
        bench.write("large.txt", "x" * 20_000)
        summary = bench.ingest(settings={"ingest": {"max_document_bytes": 10_000}})
        assert summary.errors[0].reason == "too_large"

    def test_an_unreadable_file_is_an_error_and_tried_again(self, bench: Bench) -> None:
        bench.write_many(2)
        (bench.docs / "dangling.txt").symlink_to(bench.docs / "nowhere")
        assert bench.ingest().failed == 1
        bench.write("nowhere", story(5))
        assert bench.ingest().new == 1

    def test_an_empty_folder_is_refused_and_deletes_nothing(self, bench: Bench) -> None:
        bench.write_many(2)
        bench.ingest()
        for path in bench.docs.iterdir():
            path.unlink()
        bench.write("photo.png", b"\x89PNG")
        with pytest.raises(UsageError, match=r"holds no documents.*photo\.png"):
            bench.ingest()
        assert len(bench.documents()) == 2

    def test_a_missing_folder_is_named(self, bench: Bench) -> None:
        with pytest.raises(NotFoundError, match="nowhere"):
            bench.ingest(bench.docs / "nowhere")


class TestResuming:
    def test_a_failed_job_is_taken_up_where_it_was(self, bench: Bench) -> None:
        bench.write_many(6)
        settings = {"ingest": {"batch_bytes": 1}}
        first = CountingEmbedder(fail_after=20)
        with pytest.raises(BackendError, match="lost its device"):
            bench.ingest(embedder=first, settings=settings)
        assert bench.log.latest() is None
        second = CountingEmbedder()
        summary = bench.ingest(embedder=second, settings=settings)
        assert summary.new == 6
        assert summary.resumed > 0
        # What the failed batch asked for is asked again, and nothing else.
        assert first.texts + second.texts - len(bench.chunks()) <= max(
            len(bench.chunks(source)) for source in bench.documents()
        )

    def test_a_document_counts_as_done_only_after_its_last_stage(self, bench: Bench) -> None:
        bench.write_many(2)
        with pytest.raises(BackendError):
            bench.ingest(embedder=CountingEmbedder(fail_after=0))
        assert bench.ingest().new == 2
        assert bench.chunks()

    def test_a_resumed_job_uses_the_settings_of_now_throughout(self, bench: Bench, tmp_path: Path) -> None:
        bench.write_many(6)
        batches = {"batch_bytes": 1}
        with pytest.raises(BackendError):
            bench.ingest(
                embedder=CountingEmbedder(fail_after=20),
                settings={"ingest": batches, "chunking": {"max_tokens": 40}},
            )
        bench.ingest(settings={"ingest": batches, "chunking": {"max_tokens": 100}})
        resumed = bench.chunks()
        (tmp_path / "fresh").mkdir()
        fresh = Bench(tmp_path / "fresh")
        fresh.write_many(6)
        fresh.ingest(name=bench.docs.as_uri(), settings={"chunking": {"max_tokens": 100}})
        assert resumed == fresh.chunks()

    def test_staging_that_vanishes_half_way_is_made_again(self, bench: Bench) -> None:
        bench.write_many(4)
        line = bench.line(settings={"ingest": {"batch_bytes": 1}})
        vanished = False

        def meddle(progress: object) -> None:
            nonlocal vanished
            if not vanished and getattr(progress, "stage", "") == "publish":
                vanished = True
                store = line.log.store
                store.delete([info.path for info in store.list("default/corpora/tales/staging/gist")][:2])

        assert ingest(line, report=meddle).documents == 4
        assert vanished
        assert len(bench.documents()) == 4


class TestUploads:
    def test_bytes_in_memory_are_documents_and_others_stay(self, bench: Bench) -> None:
        bench.ingest(source=UploadSource([Upload("a.txt", story(1).encode(), metadata={"year": 1904})]))
        summary = bench.ingest(source=UploadSource([Upload("b.md", b"# Wool\n\nSheep were shorn in May.")]))
        assert (summary.new, summary.deleted, summary.documents) == (1, 0, 2)
        assert bench.chunks("a.txt")[0].metadata["year"] == 1904
        assert bench.chunks("b.md")[0].title == "Wool"

    def test_a_second_upload_of_a_name_replaces_the_first(self, bench: Bench) -> None:
        bench.ingest(source=UploadSource([Upload("a.txt", b"The bell rang.")]))
        bench.ingest(source=UploadSource([Upload("a.txt", b"The bell broke.")]))
        assert [chunk.text for chunk in bench.chunks()] == ["The bell broke."]

    def test_two_uploads_of_one_name_are_refused(self) -> None:
        with pytest.raises(UsageError, match="same file name"):
            UploadSource([Upload("a.txt", b"1"), Upload("a.txt", b"2")])


def test_vectors_are_those_of_the_embedder(bench: Bench) -> None:
    bench.write("a.txt", story(3))
    embedder = HashingEmbedder()
    bench.ingest(embedder=embedder)
    (table,) = live_chunks(bench.log, bench.newest())
    expected = asyncio.run(embedder.embed([search_text(chunk) for chunk in chunks_from_table(table)]))
    np.testing.assert_array_equal(vectors_of(table), expected)


@pytest.mark.parametrize(
    ("ingest_settings", "expected"),
    [
        ({}, [22, 2]),  # 512 KiB each
        ({"embed_workers": 2}, [2] * 12),  # about 64 KiB: nobody waits long for the last one
        ({"embed_workers": 2, "batch_bytes": 30_000}, [1] * 24),
        ({"batch_bytes": 500}, [1] * 24),
    ],
)
def test_several_workers_share_a_small_job_in_small_batches(
    bench: Bench, ingest_settings: dict[str, int], expected: list[int]
) -> None:
    for number in range(24):
        bench.write(f"{number:02d}.txt", f"Ship {number} came in. " * 1400)
    given: list[int] = []

    def schedule(units: Sequence[Unit], line: Line) -> Iterator[Receipt]:
        given.extend(len(unit.states) for unit in units)
        raise BackendError("nobody works here")

    with bench.line(settings={"ingest": ingest_settings}) as line, pytest.raises(BackendError, match="nobody"):
        ingest(line, schedule=schedule)
    assert given == expected
