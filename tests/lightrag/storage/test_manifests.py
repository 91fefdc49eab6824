"""File sets that outgrow the commit: contents, sharing and shape."""

from __future__ import annotations

import random

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from lightrag.errors import ArtifactError, UsageError
from lightrag.storage import manifests
from lightrag.storage.commits import FileEntry, FileSet
from lightrag.storage.layout import Layout
from lightrag.storage.manifests import Manifests
from lightrag.storage.objects import ObjectStore, open_object_store
from tests.lightrag.storage.conftest import CORPUS


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that a test reaches with few files."""
    monkeypatch.setattr(manifests, "INLINE", 4)
    monkeypatch.setattr(manifests, "LEAF", 8)


def entry(number: int) -> FileEntry:
    name = f"part-{number:06d}.parquet"
    digest = blake3(name.encode()).hexdigest()
    return FileEntry(role="chunks", name=name, path=f"chunks/{name}", size=number, blake3=digest, part_bytes=8, rows=2)


def open_manifests() -> tuple[ObjectStore, Manifests]:
    store = open_object_store("memory://")
    return store, Manifests(store, Layout(CORPUS))


def shape(files: FileSet, trie: Manifests) -> object:
    if not files.manifests:
        return tuple(item.path for item in files.entries)
    return tuple((reference.prefix, shape(trie._load(reference), trie)) for reference in files.manifests)


@pytest.mark.usefixtures("small")
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 120), max_size=60)), max_size=8))
def test_a_file_set_is_a_set_whatever_its_size_and_its_shape_depends_on_the_set_alone(
    changes: list[tuple[bool, set[int]]],
) -> None:
    _, trie = open_manifests()
    files, expected = FileSet(), set[int]()
    for adding, numbers in changes:
        numbers = numbers - expected if adding else numbers & expected
        add = [entry(number) for number in numbers] if adding else []
        remove = [] if adding else [entry(number).path for number in numbers]
        files = trie.changed(files, add, remove)
        expected = expected | numbers if adding else expected - numbers
        assert sorted(item.size for item in trie.entries(files)) == sorted(expected)
        assert (files.files, files.bytes, files.rows) == (len(expected), sum(expected), 2 * len(expected))
        assert len(files.entries) <= 4
    fresh = trie.changed(FileSet(), [entry(number) for number in sorted(expected, reverse=True)], [])
    assert shape(files, trie) == shape(fresh, trie)


def test_a_small_change_of_many_files_writes_little_and_shares_the_rest() -> None:
    store, trie = open_manifests()
    files = trie.changed(FileSet(), [entry(number) for number in range(20_000)], [])
    assert len(files.model_dump_json()) < 8_000
    before = {info.path for info in store.list()}
    changed = trie.changed(files, [entry(20_000)], [entry(77).path])
    written = [info for info in store.list() if info.path not in before]
    assert len(written) <= 4
    assert sum(info.size for info in written) < 120_000
    assert changed.files == 20_000
    shared = {item.path for item in files.manifests} & {item.path for item in changed.manifests}
    assert len(shared) >= 14


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("count", [3, 60])
def test_adding_twice_and_removing_what_is_not_there_are_refused(count: int) -> None:
    _, trie = open_manifests()
    files = trie.changed(FileSet(), [entry(number) for number in range(count)], [])
    for add, remove in [([entry(0)], []), ([entry(99), entry(99)], []), ([], ["chunks/none"])]:
        with pytest.raises(UsageError, match=r"already in this version|not in this version"):
            trie.changed(files, add, remove)
    assert trie.changed(files, [], []) is files


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("damage", ["flip", "delete"])
def test_a_damaged_manifest_is_named(damage: str) -> None:
    store, trie = open_manifests()
    files = trie.changed(FileSet(), [entry(number) for number in range(60)], [])
    path = Layout(CORPUS).file(random.Random(1).choice(files.manifests).path)
    if damage == "flip":
        store.put(path, store.get(path).replace(b"part", b"trap"))
    else:
        store.delete([path])
    with pytest.raises(ArtifactError, match=r"damaged|missing") as caught:
        list(trie.entries(files))
    assert caught.value.subject == path
