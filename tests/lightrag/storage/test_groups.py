"""Groups of documents that were encoded together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightrag.errors import ArtifactError
from lightrag.storage.artifacts import CorpusLog
from lightrag.storage.groups import GROUP_FILE, DocumentGroup, read_groups
from lightrag.storage.objects import open_object_store
from lightrag.types import CorpusId


@given(
    st.dictionaries(st.text(min_size=1), st.text(), max_size=4),
    st.integers(0, 2**40),
    st.lists(st.lists(st.floats(-1, 1, width=32), min_size=3, max_size=3), max_size=4),
)
def test_a_description_reads_back_as_it_was_written(
    documents: dict[str, str], tokens: int, routes: list[list[float]]
) -> None:
    parts = dict.fromkeys(list(documents)[:1], (2, 5))
    group = DocumentGroup(
        "key", documents, tokens, "en", np.array(routes, np.float32).reshape(len(routes), 3), parts, "r"
    )
    read = DocumentGroup.from_json(group.to_json())
    assert (read.key, list(read.documents.items()), read.tokens, read.language) == (
        "key",
        list(documents.items()),
        tokens,
        "en",
    )
    assert (read.chunks, read.routes_key) == (parts, "r")
    assert np.array_equal(read.routes, group.routes)
    assert read.routes.shape == group.routes.shape


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"key": 1, "documents": [], "tokens": 1, "language": ""}'])
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ArtifactError, match="does not describe a group"):
        DocumentGroup.from_json(data)


def test_a_version_lists_its_groups_with_their_files(tmp_path: Path) -> None:
    log = CorpusLog(open_object_store(tmp_path.as_uri()), CorpusId("acme", "notes"))
    group = DocumentGroup("abc", {"d1": "k1"}, 7, "en")
    described = log.write_file("memory", f"abc/{GROUP_FILE}", group.to_json())
    tensors = log.write_file("memory", "abc/layers.bin", b"123")
    commit = log.commit(None, add=[described, tensors])
    (stored,) = read_groups(log, commit, "memory")
    assert stored.group.documents == {"d1": "k1"}
    assert stored.paths == {GROUP_FILE: described.path, "layers.bin": tensors.path}
    assert read_groups(log, commit, "latents") == []


def test_files_without_a_description_are_an_error(tmp_path: Path) -> None:
    log = CorpusLog(open_object_store(tmp_path.as_uri()), CorpusId("acme", "notes"))
    commit = log.commit(None, add=[log.write_file("latents", "abc/part.rows", b"123")])
    with pytest.raises(ArtifactError, match=r"has no group\.json"):
        read_groups(log, commit, "latents")
