"""The connector in two tensor-parallel workers, each of which holds its share of the heads of a memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lightrag.memory.test_vllm_connector import Stage, expected, tokens

pytestmark = [pytest.mark.slow, pytest.mark.vllm, pytest.mark.timeout(600)]


@pytest.fixture
def parallel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """An engine of two workers, one for each key-value head of the model."""
    pytest.importorskip("vllm")
    made = Stage(tmp_path_factory.mktemp("vllm-parallel"))
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (
            ("VLLM_CPU_KVCACHE_SPACE", "1"),
            ("VLLM_LOGGING_LEVEL", "ERROR"),
            ("VLLM_NO_USAGE_STATS", "1"),
            # Workers of one machine share its cores, of which there may be few.
            ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
            ("OMP_NUM_THREADS", "1"),
        ):
            environment.setenv(name, value)
        made.start(tensor_parallel_size=2)
        yield made
        made.engine.llm_engine.engine_core.shutdown()


def test_each_worker_loads_its_heads_and_together_they_answer_as_one(parallel: Stage) -> None:
    full, beacon = parallel.full.memorise(tokens(137, 1)), parallel.beacon.memorise(tokens(300, 3))
    places = [parallel.stored(full, "full"), parallel.stored(beacon, "beacon")]
    question = tokens(11, 2)
    answers = parallel.answers([(place, question) for place in places])
    assert [answer for answer, _ in answers] == [
        expected(parallel.full, full, question),
        expected(parallel.beacon, beacon, question),
    ]
    assert [cached for _, cached in answers] == [full.cells, beacon.cells]
