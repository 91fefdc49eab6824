"""Fixtures of the tests of retrieval."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lightrag.retrieval.dense_kinds import faiss


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Let FAISS work alone: its threads wait for each other many times a second, for ever on a machine with others."""
    threads = faiss().omp_get_max_threads()
    faiss().omp_set_num_threads(1)
    yield
    faiss().omp_set_num_threads(threads)
