"""The index of a corpus version: built, stored, loaded, checked."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lightrag.errors import ArtifactError, UsageError
from lightrag.retrieval.graph import Link
from lightrag.retrieval.index import BARE_HEADING, CorpusIndex, build_index, chunk_telling, search_text
from lightrag.retrieval.matching import Query
from lightrag.retrieval.search import SearchOptions, search
from tests.lightrag.retrieval.corpora import chunk, index_of, lakes


def ranked(index: CorpusIndex, text: str) -> list[tuple[int, float]]:
    vector = np.asarray(index.dense.vectors(np.array([0]))[0])
    ranking = search(index, [Query(text, vector)], SearchOptions())
    return list(zip(ranking.rows.tolist(), ranking.scores.tolist(), strict=True))


def test_a_loaded_index_answers_like_the_one_that_was_saved() -> None:
    index = index_of(lakes(), links=[Link(4, 5, "relation", 0.5, "sold beside")], telling=[1, 1, 1, 1, 0.5, 0.5])
    again = CorpusIndex.load(index.save())
    assert again.chunks == index.chunks
    assert again.fingerprint == index.fingerprint
    assert again.links.from_passage(4) == index.links.from_passage(4)
    assert ranked(again, "the river of the lake") == ranked(index, "the river of the lake")
    assert again.nbytes > 0


def test_metadata_keeps_its_types() -> None:
    one = chunk("a", "x", metadata={"n": 3, "f": 0.5, "b": True, "s": "ß", "tags": ("p", "q")})
    assert CorpusIndex.load(index_of([one]).save()).chunks == (one,)


def test_nothing_stored_is_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an index was unpickled")

    files = index_of(lakes()).save()
    monkeypatch.setattr(pickle, "load", refuse)
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(pickle, "Unpickler", refuse)
    CorpusIndex.load(files)
    assert not any(data.startswith(b"\x80") for data in files.values())


def test_an_empty_corpus_has_an_index() -> None:
    index = CorpusIndex.load(index_of([]).save())
    assert len(index) == 0
    assert ranked_nothing(index)


def ranked_nothing(index: CorpusIndex) -> bool:
    ranking = search(index, [Query("anything", np.zeros(index.dense.dimension, np.float32))], SearchOptions())
    return len(ranking.rows) == 0


def _drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda files: files.pop(name) and None


def _cut(name: str) -> Callable[[dict[str, bytes]], None]:
    def damage(files: dict[str, bytes]) -> None:
        files[name] = files[name][: len(files[name]) // 2]

    return damage


def _head(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def damage(files: dict[str, bytes]) -> None:
        files["index.json"] = json.dumps(json.loads(files["index.json"]) | changes).encode()

    return damage


NAMES = sorted(index_of(lakes()).save())


@pytest.mark.parametrize(
    "damage", [*map(_drop, NAMES), *map(_cut, NAMES), _head(format_version=99), _head(passages=5), _head(dimension=3)]
)
def test_missing_damaged_or_foreign_files_are_refused(damage: Callable[[dict[str, bytes]], None]) -> None:
    files = index_of(lakes()).save()
    damage(files)
    with pytest.raises(ArtifactError):
        CorpusIndex.load(files)


def test_parts_of_two_indexes_do_not_mix() -> None:
    files = index_of(lakes()).save() | {"lexical.json": index_of(lakes()[:3]).save()["lexical.json"]}
    with pytest.raises(ArtifactError, match="do not belong together"):
        CorpusIndex.load(files)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"vectors": np.zeros((2, 4), np.float32)}, "as many vectors"),
        ({"vectors": np.full((6, 4), np.nan, np.float32)}, "not finite"),
        ({"texts": ["one"]}, "as many texts"),
        ({"telling": [0.0] * 6}, "in (0, 1]"),
        ({"links": [Link(0, 60, "mention", 1.0)]}, "not possible"),
        ({"chunks": [lakes()[0]] * 6}, "occur twice"),
    ],
)
def test_what_does_not_fit_together_is_refused_when_built(change: dict[str, Any], said: str) -> None:
    given: dict[str, Any] = {"chunks": lakes(), "vectors": np.ones((6, 4), np.float32), "embedder": "e"} | change
    with pytest.raises(UsageError) as caught:
        build_index(given.pop("chunks"), given.pop("vectors"), **given)
    assert said in str(caught.value)


def test_a_chunk_is_searched_under_where_it_stands() -> None:
    from dataclasses import replace

    one = chunk("a", "It grew by 3 %.", title="Report 2021")
    assert search_text(one) == "Report 2021\nIt grew by 3 %."
    assert search_text(replace(one, heading="Sales › Europe")) == "Report 2021 › Sales › Europe\nIt grew by 3 %."
    assert search_text(replace(one, title="")) == "It grew by 3 %."


def test_page_numbers_and_bare_headings_tell_little() -> None:
    from dataclasses import replace

    full = chunk(
        "a", "The company carried three hundred thousand passengers in that year, more than ever before or since then."
    )
    assert chunk_telling(full) > 0.9
    assert chunk_telling(chunk("b", "25")) < 0.3
    assert chunk_telling(replace(chunk("c", "Ships and shore"), heading="1966 › Ships and shore")) == BARE_HEADING
