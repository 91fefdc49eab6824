"""Rows survive the way into Parquet and back, with their types; other files are refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, DataError, UsageError
from lightrag.storage import tables
from lightrag.storage.artifacts import CorpusLog
from lightrag.types import Chunk, Gist, MetadataValue, Section

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
whole = st.integers(0, 2**40)
values = st.one_of(
    texts,
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.lists(texts, max_size=3).map(tuple),
)
metadata = st.dictionaries(texts, values, max_size=4)
sections = st.builds(Section, st.sampled_from(["page", "heading"]), texts, whole, whole, st.integers(0, 6))
chunks = st.builds(
    Chunk,
    *[texts, texts, st.integers(0, 2**31 - 1), texts, whole, whole],
    tokens=st.integers(0, 2**31 - 1),
    title=texts,
    source=texts,
    page=texts,
    heading=texts,
    language=texts,
    metadata=metadata,
)
gists = st.builds(
    Gist,
    *[texts, texts, st.integers(0, 9), st.lists(texts, max_size=4).map(tuple), texts, st.integers(0, 9999)],
    st.sampled_from(["extractive", "prompted"]),
)
documents = st.builds(
    tables.DocumentRow,
    *[texts] * 8,
    *[whole] * 4,
    st.lists(sections, max_size=3).map(tuple),
    metadata,
    st.booleans(),
    whole,
)
errors = st.builds(tables.ErrorRow, *[texts] * 6, st.booleans())


def there_and_back(table: pa.Table, name: tables.TableName) -> pa.Table:
    return tables.from_parquet(tables.to_parquet(table), name)


class TestRoundTrips:
    @settings(max_examples=60, deadline=None)
    @given(st.lists(chunks, max_size=5), st.integers(1, 9), st.data())
    def test_chunks_with_vectors(self, rows: list[Chunk], dimension: int, data: st.DataObject) -> None:
        numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
        flat = data.draw(st.lists(numbers, min_size=len(rows) * dimension, max_size=len(rows) * dimension))
        vectors = np.array(flat, np.float32).reshape(len(rows), dimension)
        keys = [f"key-{number}" for number in range(len(rows))]
        table = there_and_back(tables.chunks_to_table(rows, keys, vectors), "chunks")
        assert tables.chunks_from_table(table) == rows
        assert table["content_key"].to_pylist() == keys
        np.testing.assert_array_equal(tables.vectors_of(table), vectors)
        assert tables.vectors_of(table).shape == vectors.shape

    @settings(max_examples=60, deadline=None)
    @given(st.lists(documents, max_size=4, unique_by=lambda row: row.document_id))
    def test_documents(self, rows: list[tables.DocumentRow]) -> None:
        assert tables.documents_from_table(there_and_back(tables.documents_to_table(rows), "documents")) == rows

    @settings(max_examples=30, deadline=None)
    @given(st.lists(gists, max_size=4))
    def test_gists(self, rows: list[Gist]) -> None:
        assert tables.gists_from_table(there_and_back(tables.gists_to_table(rows), "gists")) == rows

    @settings(max_examples=30, deadline=None)
    @given(st.lists(errors, max_size=4))
    def test_errors(self, rows: list[tables.ErrorRow]) -> None:
        table = there_and_back(tables.errors_to_table(rows, time=datetime(2026, 1, 2, tzinfo=UTC)), "errors")
        assert tables.errors_from_table(table) == rows
        assert table["time"].to_pylist() == [datetime(2026, 1, 2, tzinfo=UTC)] * len(rows)

    @settings(max_examples=100, deadline=None)
    @given(metadata)
    def test_metadata_keeps_the_type_of_every_value(self, original: dict[str, MetadataValue]) -> None:
        back = tables.metadata_from_json(tables.metadata_to_json(original))
        assert back == original
        assert {name: type(value) for name, value in back.items()} == {
            name: type(value) for name, value in original.items()
        }

    def test_vectors_of_several_files_and_slices_are_one_matrix(self) -> None:
        rows = [Chunk(f"c{n}", "d", n, "t", 0, 1, tokens=1) for n in range(6)]
        vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
        table = tables.chunks_to_table(rows, ["k"] * 6, vectors)
        joined = pa.concat_tables([table.slice(4, 2), table.slice(1, 2), table.slice(0, 0)])
        np.testing.assert_array_equal(tables.vectors_of(joined), vectors[[4, 5, 1, 2]])
        taken = table.take([5, 0])
        np.testing.assert_array_equal(tables.vectors_of(taken), vectors[[5, 0]])


class TestRefusals:
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), None, b"x", {"a": 1}, [1, 2], datetime(2026, 1, 1)])
    def test_metadata_of_other_types(self, value: object) -> None:
        with pytest.raises(UsageError, match="metadata 'name' is"):
            tables.metadata_to_json({"name": value})  # type: ignore[dict-item]

    @pytest.mark.parametrize("text", ["", "[]", "1", "{"])
    def test_metadata_that_is_no_json_object(self, text: str) -> None:
        with pytest.raises(ArtifactError, match="is not a JSON object"):
            tables.metadata_from_json(text)

    def test_one_document_twice(self) -> None:
        with pytest.raises(UsageError, match="document 'd' has two rows"):
            tables.documents_to_table([tables.DocumentRow("d", "k1"), tables.DocumentRow("d", "k2")])

    @pytest.mark.parametrize(
        ("keys", "vectors"),
        [
            (["k", "k"], np.ones((1, 2))),
            (["k"], np.ones((2, 2))),
            (["k"], np.ones(2)),
            (["k"], np.full((1, 2), np.nan)),
        ],
    )
    def test_columns_of_different_lengths_and_vectors_without_numbers(
        self, keys: list[str], vectors: np.ndarray
    ) -> None:
        chunk = Chunk("c", "d", 0, "t", 0, 1, tokens=1)
        with pytest.raises(UsageError, match="1 chunks need"):
            tables.chunks_to_table([chunk], keys, vectors.astype(np.float32))

    def test_half_a_character_is_the_fault_of_the_data(self) -> None:
        with pytest.raises(DataError, match="rows cannot be stored as chunks"):
            tables.chunks_to_table([Chunk("c", "d", 0, "\ud800", 0, 1, tokens=1)], ["k"], None)

    def test_files_of_other_kinds_versions_or_nobody(self) -> None:
        table = tables.gists_to_table([])
        later = table.replace_schema_metadata({**table.schema.metadata, b"lightrag.schema_version": b"99"})
        foreign = pa.table({"a": [1]})
        for found, message in [(table, "expected a chunks table"), (later, "version '99'"), (foreign, "another table")]:
            name = "gists" if found is later else "chunks"
            with pytest.raises(ArtifactError, match=message):
                tables.from_parquet(tables.to_parquet(found), name)  # type: ignore[arg-type]
        for data in (b"", b"PAR1", b"x" * 100, bytes(tables.to_parquet(table))[:-9]):
            with pytest.raises(ArtifactError, match="cannot be read as Parquet"):
                tables.from_parquet(data, "gists")

    def test_a_column_that_is_not_there(self) -> None:
        data = tables.to_parquet(tables.gists_to_table([]))
        with pytest.raises(ArtifactError, match=r"lacks the columns .'embedding'."):
            tables.from_parquet(data, "gists", ["text", "embedding"])
        with pytest.raises(ArtifactError, match="has no vectors"):
            tables.vectors_of(tables.from_parquet(data, "gists"))


class TestFiles:
    def test_a_table_becomes_a_file_of_its_corpus_that_counts_its_rows(self, memory_log: CorpusLog) -> None:
        table = tables.errors_to_table([tables.ErrorRow("d", "a.pdf", "parse", "encrypted", "is encrypted")])
        entry = tables.write_table(memory_log, "errors", "errors.parquet", table)
        assert (entry.rows, entry.role) == (1, "errors")
        assert tables.read_table(memory_log, entry, ["reason"]).to_pydict() == {"reason": ["encrypted"]}
        with pytest.raises(ArtifactError, match="expected a chunks table"):
            tables.write_table(memory_log, "chunks", "errors.parquet", table)
        with pytest.raises(UsageError, match="is no table but 'index'"):
            tables.read_table(memory_log, memory_log.write_file("index", "a", b""))

    def test_any_parquet_reader_understands_it(self) -> None:
        chunk = Chunk("c", "d", 0, "text", 3, 7, tokens=1, metadata={"year": 2024})
        data = tables.to_parquet(tables.chunks_to_table([chunk], ["k"], np.ones((1, 3), np.float32)))
        file = pq.ParquetFile(pa.BufferReader(data))
        assert {column.compression for column in map(file.metadata.row_group(0).column, range(14))} == {"ZSTD"}
        row = pq.read_table(pa.BufferReader(data)).to_pylist()[0]
        assert (row["start"], row["end"], row["embedding"]) == (3, 7, [1.0, 1.0, 1.0])
        assert json.loads(row["metadata"]) == {"year": 2024}
        # Columns that this release does not know are kept out of the rows.
        wider = tables.from_parquet(data, "chunks").append_column("new", pa.array(["x"]))
        assert tables.chunks_from_table(wider) == [chunk]

    def test_content_keys_tell_apart_what_could_be_confused(self) -> None:
        assert tables.content_key("a", "b", "c", "d") == tables.content_key("a", "b", "c", "d")
        keys = {
            tables.content_key(*parts) for parts in [("ab", "", "c", "d"), ("a", "b", "c", "d"), ("a", "b", "c", "e")]
        }
        assert len(keys) == 3
