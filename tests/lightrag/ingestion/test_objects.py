from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from lightrag.errors import BackendError, NotFoundError
from lightrag.ingestion.items import Ignored, SourceItem
from lightrag.ingestion.objects import ObjectSource
from lightrag.storage.objects import ObjectStore, open_object_store
from tests.lightrag.ingestion.conftest import Bench, story
from tests.lightrag.storage.conftest import S3Server, s3

__all__ = ["s3"]

SUFFIXES = frozenset({".txt"})
_numbers = itertools.count()


@pytest.fixture
def bucket() -> tuple[str, ObjectStore]:
    url = f"memory://lake{next(_numbers)}"
    store = open_object_store(url)
    for name in ("docs/a.txt", "docs/sub/b.txt", "docs/c.png", "docsx/d.txt", "e.txt"):
        store.put(name, name.encode())
    return url, store


def names(source: ObjectSource) -> list[str]:
    return [entry.source for entry in source.items() if isinstance(entry, SourceItem)]


def test_lists_a_prefix_by_whole_segments(bucket: tuple[str, ObjectStore]) -> None:
    source = ObjectSource(f"{bucket[0]}/docs", suffixes=SUFFIXES)
    assert names(source) == ["a.txt", "sub/b.txt"]
    assert [entry.source for entry in source.items() if isinstance(entry, Ignored)] == ["c.png"]


def test_lists_a_whole_bucket_and_globs(bucket: tuple[str, ObjectStore]) -> None:
    assert names(ObjectSource(bucket[0], suffixes=SUFFIXES)) == ["docs/a.txt", "docs/sub/b.txt", "docsx/d.txt", "e.txt"]
    assert names(ObjectSource(f"{bucket[0]}/docs/**/*.txt", suffixes=SUFFIXES)) == ["a.txt", "sub/b.txt"]
    assert names(ObjectSource(f"{bucket[0]}/*.txt", suffixes=SUFFIXES)) == ["e.txt"]


def test_takes_a_single_object(bucket: tuple[str, ObjectStore]) -> None:
    source = ObjectSource(f"{bucket[0]}/docs/c.png", suffixes=SUFFIXES)
    (item,) = source.items()
    assert isinstance(item, SourceItem)
    assert (item.source, source.read(item)) == ("c.png", b"docs/c.png")


def test_nothing_at_a_prefix_is_an_error(bucket: tuple[str, ObjectStore]) -> None:
    with pytest.raises(NotFoundError, match="check bucket and prefix"):
        names(ObjectSource(f"{bucket[0]}/nowhere", suffixes=SUFFIXES))


def test_a_listing_is_not_capped() -> None:
    url = f"memory://lake{next(_numbers)}"
    store = open_object_store(url)
    for number in range(2500):
        store.put(f"docs/{number:05d}.txt", b"x")
    assert len(names(ObjectSource(f"{url}/docs", suffixes=SUFFIXES))) == 2500


def test_ingests_from_s3_and_skips_what_is_unchanged(
    s3: S3Server, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightrag.ingestion.objects.SETTLED", __import__("datetime").timedelta(0))
    store = open_object_store("s3://lake/in", s3.options)
    for number in range(3):
        store.put(f"{number}.txt", story(number).encode())
    assert bench.ingest("s3://lake/in", options=s3.options).new == 3
    line = bench.line("s3://lake/in", options=s3.options)
    line.source.read = lambda item: pytest.fail("an unchanged object was fetched")  # type: ignore[method-assign]
    from lightrag.ingestion.job import ingest

    assert ingest(line).unchanged == 3
    store.put("1.txt", story(7).encode())
    store.delete(["2.txt"])
    summary = bench.ingest("s3://lake/in", options=s3.options)
    assert (summary.changed, summary.deleted, summary.unchanged) == (1, 1, 1)


def test_a_missing_bucket_and_wrong_credentials_say_so(s3: S3Server, tmp_path: Path) -> None:
    with pytest.raises((BackendError, NotFoundError), match="pond"):
        names(ObjectSource("s3://pond/in", suffixes=SUFFIXES, options=s3.options))
