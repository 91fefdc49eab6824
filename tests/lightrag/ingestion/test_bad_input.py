"""Sources that are too large, too many, or not what they say: what is refused, what is reported, and what it costs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightrag.errors import DocumentError, LightRAGError, LimitError
from lightrag.ingestion.items import SourceItem
from lightrag.storage.tables import errors_from_table, read_table
from tests.lightrag.ingestion.conftest import Bench, story

GIB = 1024**3


def sparse(path: Path, size: int) -> Path:
    """A file of zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_files_of_one_folder_may_each_have_an_encoding_of_their_own(bench: Bench) -> None:
    texts = {
        "utf8.txt": ("Die Brücke über den Fluß wurde im Frühjahr gebaut.", "utf-8"),
        "utf16.txt": ("The council met on Tuesday; the pier was opened.", "utf-16"),
        "western.txt": ("Le château fut bâti en été, à côté de la forêt où dorment les chênes.", "cp1252"),
        "japanese.txt": ("議会は桟橋を建てることを決めた。港の事務所は記録を保存している。", "shift_jis"),
        "marked.txt": ("A mark stands in front of this text.", "utf-8-sig"),
    }
    for name, (text, encoding) in texts.items():
        bench.write(name, (text + "\n\n" + text).encode(encoding))
    bench.write("noise.txt", os.urandom(64) * 20)
    summary = bench.ingest()
    assert (summary.new, summary.failed) == (5, 1)
    assert summary.errors[0].source == "noise.txt"
    for name, (text, _) in texts.items():
        assert bench.chunks(name)[0].text.startswith(text)


def test_a_file_of_two_gigabytes_is_refused_by_its_size_and_never_read(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.write_many(2)
    sparse(bench.docs / "huge.txt", 2 * GIB)
    read = Path.read_bytes

    def read_small(path: Path) -> bytes:
        assert path.name != "huge.txt"
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_small)
    summary = bench.ingest()
    assert (summary.new, summary.failed) == (2, 1)
    (error,) = summary.errors
    assert (error.source, error.reason) == ("huge.txt", "too_large")
    assert str(2 * GIB) in error.message
    assert "ingest.max_document_bytes" in error.message


def test_a_line_of_half_a_gigabyte_is_refused_and_the_lines_around_it_are_read(bench: Bench) -> None:
    table = sparse(bench.docs / "table.jsonl", GIB // 2)
    with table.open("r+b") as file:
        file.write(b'{"text": "The bell rang once."}\n')
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"text": "The bay froze."}\n')
    summary = bench.ingest(table, settings={"ingest": {"max_document_bytes": 1024**2}})
    assert (summary.new, summary.failed) == (2, 1)
    assert (summary.errors[0].source, summary.errors[0].reason) == ("table.jsonl#1", "too_large")
    assert [chunk.text for chunk in bench.chunks()] == ["The bell rang once.", "The bay froze."]


@pytest.mark.slow
def test_a_hundred_thousand_empty_files_become_a_table_of_errors_beside_the_one_document(bench: Bench) -> None:
    count = 100_000
    for number in range(count):
        os.mknod(bench.docs / f"{number:06d}.txt")
    bench.write("zz.txt", story(1))
    summary = bench.ingest(settings={"ingest": {"error_limit": 1.0}})
    assert (summary.new, summary.failed, summary.documents) == (1, count, 1)
    (entry,) = bench.log.files(bench.newest(), "errors")
    rows = errors_from_table(read_table(bench.log, entry))
    assert len({row.source for row in rows}) == count
    assert {row.reason for row in rows} == {"empty"}


def test_too_many_empty_files_are_refused_in_one_sentence(bench: Bench) -> None:
    for number in range(300):
        os.mknod(bench.docs / f"{number:06d}.txt")
    with pytest.raises(LimitError, match="300 of 300 documents failed") as caught:
        bench.ingest()
    assert len(str(caught.value)) < 1000
    assert bench.log.latest() is None


class TestCorpusAsSource:
    def test_documents_come_from_a_version_with_names_titles_and_metadata(self, bench: Bench) -> None:
        bench.write("table.jsonl", '{"text": "The bay froze.", "name": "Ice", "year": 1904}\n')
        bench.ingest(bench.docs / "table.jsonl", title_column="name", metadata_columns=["year"])
        bench.write("a.md", "# Wool\n\n" + story(1))
        bench.write("star.md", "# Stars\n\nThe sum of 2 * 3 \\* 4 is written with * signs.")
        bench.ingest()
        before = {source: bench.chunks(source) for source in bench.documents()}
        copy = Copy(bench)
        summary = copy.ingest("corpus://tales")
        assert (summary.new, summary.failed) == (3, 0)
        assert set(copy.documents()) == set(before)
        for source, chunks in before.items():
            made = copy.chunks(source)
            assert [chunk.text for chunk in made] == [chunk.text for chunk in chunks]
            assert [(chunk.start, chunk.end) for chunk in made] == [(chunk.start, chunk.end) for chunk in chunks]
            assert {(chunk.title, chunk.language) for chunk in made} == {(c.title, c.language) for c in chunks}
        assert copy.chunks("table.jsonl#0")[0].metadata == {"year": 1904}

    def test_only_what_the_other_corpus_changed_is_done_again(self, bench: Bench) -> None:
        bench.write_many(3)
        bench.ingest()
        copy = Copy(bench)
        assert copy.ingest("corpus://tales").new == 3
        bench.write("001.txt", story(9))
        (bench.docs / "002.txt").unlink()
        bench.ingest()
        summary = copy.ingest("corpus://tales")
        assert (summary.changed, summary.unchanged, summary.deleted) == (1, 1, 1)

    def test_a_version_can_be_named_and_cut_in_another_way(self, bench: Bench) -> None:
        bench.write("a.txt", story(1))
        bench.ingest()
        bench.write("a.txt", story(2))
        bench.ingest()
        copy = Copy(bench)
        copy.ingest("corpus://tales@1", settings={"chunking": {"max_tokens": 40}})
        chunks = copy.chunks()
        assert max(chunk.tokens for chunk in chunks) <= 40
        text = story(1)
        assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)

    def test_a_version_that_goes_while_the_job_runs_fails_its_documents_for_now(self, bench: Bench) -> None:
        bench.write_many(2)
        bench.ingest()
        source = Copy(bench).line("corpus://tales").source
        listed = [item for item in source.items() if isinstance(item, SourceItem)]
        bench.write("000.txt", story(8))
        bench.ingest()
        bench.log.vacuum(retain=1, grace_seconds=0)
        with pytest.raises(DocumentError, match="not there any more") as caught:
            source.read(listed[0])
        assert caught.value.reason == "unreadable"

    @pytest.mark.parametrize(
        ("location", "message"),
        [
            ("corpus://copy", "is the corpus that is written"),
            ("corpus://none", "there is no corpus default/none"),
            ("corpus://tales@last", "no version after '@'"),
            ("corpus://../other/tales", "not a valid name"),
        ],
    )
    def test_what_is_no_other_corpus_of_the_tenant_is_refused(self, bench: Bench, location: str, message: str) -> None:
        bench.write("a.txt", story(1))
        bench.ingest()
        with pytest.raises(LightRAGError, match=message):
            Copy(bench).ingest(location)


class Copy(Bench):
    """Another corpus beside that of a bench."""

    corpus = "copy"

    def __init__(self, bench: Bench) -> None:
        self.docs, self.home = bench.docs, bench.home
