"""Vectors at one byte a number: how near they come, and that a file of them is looked into, not held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightrag.errors import ArtifactError
from lightrag.retrieval import vector_codes
from lightrag.retrieval.dense import DenseIndex
from lightrag.retrieval.vector_codes import CODES_FILE, NOWHERE, VectorCodes


def unit(rows: int, dimension: int = 24, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((rows, dimension), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_vectors_come_back_as_unit_vectors_of_the_same_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_codes, "CODED_ROWS", 7)
    vectors = unit(100)
    found = VectorCodes.of(vectors).vectors(np.arange(100)[::-1])
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(found, vectors[::-1], atol=0.004)


def test_the_zero_vector_stays_itself() -> None:
    assert (VectorCodes.of(np.zeros((2, 5), np.float32)).vectors(np.array([1])) == 0).all()


def test_the_nearest_candidates_come_first_and_missing_ones_last() -> None:
    codes, questions = VectorCodes.of(unit(50)), unit(2, seed=1)
    candidates = np.array([[4, -1, 9, 30], [-1, -1, -1, -1]])
    scores, rows = codes.nearest(questions, candidates, 4)
    exact = unit(50) @ questions[0]
    assert rows.tolist() == [[*sorted((4, 9, 30), key=lambda row: -exact[row]), -1], [-1] * 4]
    np.testing.assert_allclose(scores[0, :3], exact[rows[0, :3]], atol=0.005)
    assert (scores[1] == NOWHERE).all()
    assert codes.nearest(questions, candidates, 2)[1].tolist() == [rows[0, :2].tolist(), [-1, -1]]


def test_a_file_of_codes_takes_no_memory_and_outlives_its_name(tmp_path: Path) -> None:
    vectors = unit(2000)
    built = DenseIndex.build(vectors, "ivfpq")
    files, path = built.save(), tmp_path / CODES_FILE
    assert [written.name for written in built.write(tmp_path)] == list(files)
    assert {name: (tmp_path / name).read_bytes() for name in files} == files
    mapped = DenseIndex.load({"dense.faiss": files["dense.faiss"]}, path)
    path.unlink()
    held = DenseIndex.load(files)
    assert held.nbytes - mapped.nbytes == vectors.size
    assert mapped.nbytes == built.nbytes
    for index in (mapped, held):
        np.testing.assert_array_equal(index.search(unit(5), 10).scores, built.search(unit(5), 10).scores)


def test_codes_that_are_missing_or_of_other_vectors_are_refused(tmp_path: Path) -> None:
    files = DenseIndex.build(unit(300), "ivfpq").save()
    others = {**files, CODES_FILE: files[CODES_FILE][:-24]}
    (tmp_path / CODES_FILE).write_bytes(others[CODES_FILE])
    with pytest.raises(ArtifactError, match="7176 bytes for 300 vectors of 24 numbers"):
        DenseIndex.load(others)
    with pytest.raises(ArtifactError, match="7176 bytes"):
        DenseIndex.load(files, tmp_path / CODES_FILE)
    with pytest.raises(KeyError, match=CODES_FILE):
        DenseIndex.load({"dense.faiss": files["dense.faiss"]})
