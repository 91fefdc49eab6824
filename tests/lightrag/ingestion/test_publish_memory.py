"""The benchmark of a job's memory, small: what the job's process holds does not grow with the chunks that pass it."""

from __future__ import annotations

import pytest

from tests.benchmarks.publish_memory import measure

pytestmark = pytest.mark.slow


def test_ten_times_the_chunks_take_the_process_that_commits_them_no_more_than_the_files_in_its_hands() -> None:
    few, many = measure(1_000, per_document=10), measure(10_000, per_document=100)
    assert (few.chunks, many.chunks) == (1_000, 10_000)
    # Nine thousand chunks as values would be 50 MiB with their vectors, words and links; as columns they are 3 MiB.
    assert many.driver - few.driver < 64
    assert many.indexer > 0
