from __future__ import annotations

import datetime
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lightrag.errors import DataError, DocumentError, NotFoundError, UsageError
from lightrag.ingestion.items import SourceItem
from lightrag.ingestion.records import RecordSource
from lightrag.ingestion.spec import SourceSpec
from tests.lightrag.ingestion.conftest import Bench, story


def source(location: Path | str, kind: str = "jsonl", **spec: object) -> RecordSource:
    made = SourceSpec.model_validate({"location": str(location), **spec})
    return RecordSource(made, kind=kind)  # type: ignore[arg-type]  # a parameter of the tests


def items(records: RecordSource) -> list[SourceItem]:
    return [entry for entry in records.items() if isinstance(entry, SourceItem)]


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class TestJsonLines:
    def test_reads_every_line_back_where_it_was_listed(self, tmp_path: Path) -> None:
        rows: list[dict[str, object]] = [{"text": f"Zeile {number} äöü", "id": f"r{number}"} for number in range(50)]
        records = source(write_jsonl(tmp_path / "a.jsonl", rows), id_column="id")
        listed = items(records)
        assert [item.source for item in listed] == [f"a.jsonl#r{number}" for number in range(50)]
        assert [records.read(item).decode() for item in reversed(listed)] == [row["text"] for row in reversed(rows)]

    def test_lines_may_be_longer_than_what_is_read_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("lightrag.ingestion.records._READ_BYTES", 7)
        rows: list[dict[str, object]] = [{"text": "word " * number} for number in range(1, 12)]
        path = write_jsonl(tmp_path / "a.jsonl", rows)
        path.write_bytes(path.read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n\n"))
        records = source(path)
        assert [records.read(item).decode() for item in items(records)] == [row["text"] for row in rows]

    def test_carries_titles_and_metadata(self, tmp_path: Path) -> None:
        row = {"body": "x", "name": "T", "year": 1904, "tags": ["a", "b"], "nothing": None, "ok": True}
        records = source(
            write_jsonl(tmp_path / "a.jsonl", [row]),
            text_column="body",
            title_column="name",
            metadata_columns=("year", "tags", "nothing", "ok"),
        )
        (item,) = items(records)
        assert (item.title, dict(item.metadata)) == ("T", {"year": 1904, "tags": ("a", "b"), "ok": True})
        assert SourceItem.from_plain(json.loads(json.dumps(item.to_plain()))) == item

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("{broken", "is not JSON"),
            ("[1]", "is not a JSON object"),
            ('{"other": 1}', "has no text in 'text'"),
            ('{"text": 5}', "has no text in 'text'"),
            ('{"text": "a", "m": {"x": 1}}', "metadata column 'm'"),
        ],
    )
    def test_a_damaged_line_is_an_error_of_that_line(self, tmp_path: Path, line: str, message: str) -> None:
        path = tmp_path / "a.jsonl"
        path.write_text(f'{{"text": "good"}}\n{line}\n', encoding="utf-8")
        records = source(path, metadata_columns=("m",))
        good, bad = items(records)
        assert records.read(good) == b"good"
        assert bad.fingerprint == ""
        with pytest.raises(DocumentError, match=message):
            records.read(bad)

    def test_two_records_with_one_id_are_reported(self, bench: Bench) -> None:
        rows: list[dict[str, object]] = [{"id": "1", "text": story(1)}, {"id": "1", "text": story(2)}]
        rows += [{"id": str(number), "text": story(number)} for number in range(2, 5)]
        write_jsonl(bench.docs / "a.jsonl", rows)
        summary = bench.ingest(bench.docs / "a.jsonl", id_column="id")
        assert (summary.new, summary.failed) == (3, 1)
        assert summary.errors[0].reason == "duplicate"


class TestParquet:
    def write(self, path: Path, rows: int = 20, *, group: int = 6) -> Path:
        table = pa.table(
            {
                "text": [story(number) for number in range(rows)],
                "key": [f"k{number}" for number in range(rows)],
                "day": [datetime.date(2024, 1, 1)] * rows,
                "unused": [[1.0]] * rows,
            }
        )
        pq.write_table(table, path, row_group_size=group)
        return path

    def test_reads_every_row_back_where_it_was_listed(self, tmp_path: Path) -> None:
        records = source(self.write(tmp_path / "a.parquet"), "parquet", id_column="key", metadata_columns=("day",))
        listed = items(records)
        assert [item.source for item in listed] == [f"a.parquet#k{number}" for number in range(20)]
        assert [records.read(item).decode() for item in listed] == [story(number) for number in range(20)]
        assert listed[7].place == (1, 1)
        assert dict(listed[0].metadata) == {"day": "2024-01-01"}

    def test_a_missing_column_names_those_that_exist(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"no column 'body'.*'text', 'key', 'day'"):
            items(source(self.write(tmp_path / "a.parquet"), "parquet", text_column="body"))

    def test_something_else_is_no_parquet_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"not parquet at all")
        with pytest.raises(DataError, match="not a Parquet file"):
            items(source(tmp_path / "a.parquet", "parquet"))

    def test_ingests_a_folder_of_tables_and_notices_changed_rows_and_metadata(self, bench: Bench) -> None:
        self.write(bench.docs / "a.parquet", 4)
        self.write(bench.docs / "b.parquet", 3)
        options = {"format": "parquet", "id_column": "key", "metadata_columns": ("day",)}
        assert bench.ingest(**options).new == 7
        assert bench.chunks("a.parquet#k0")[0].metadata == {"day": "2024-01-01"}
        self.write(bench.docs / "b.parquet", 2)
        summary = bench.ingest(**options)
        assert (summary.unchanged, summary.deleted) == (6, 1)
        assert bench.ingest(format="parquet", id_column="key").changed == 6

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match=r"none\.parquet"):
            items(source(tmp_path / "none.parquet", "parquet"))
