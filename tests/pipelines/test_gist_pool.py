"""Gists by a pool of real vLLM engines in an ingest job: those that another backend writes with the same checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lightrag.errors import BackendError
from lightrag.ingestion.gist_prompts import GistPrompts
from lightrag.ingestion.job import ingest
from lightrag.ingestion.line import Line, Receipt, Unit
from lightrag.ingestion.plan import Listing
from lightrag.ingestion.states import DocumentState
from lightrag.models.vllm_model import VllmLanguageModel
from pipelines.cluster import cluster
from pipelines.gist_pool import engine_cpus, run_with_engines
from pipelines.stations import choose_pools
from tests.lightrag.ingestion.conftest import Bench, bench, story

__all__ = ["bench"]

WINDOW = 1024
GISTS = {"chunks_per_gist": 2, "tokens_per_gist": 16}


def generator(backend: str, model: Path) -> dict[str, Any]:
    engine = {"enforce_eager": True, "max_num_seqs": 8} if backend == "vllm" else {}
    return {
        "backend": backend, "model": str(model), "dtype": "float32", "context_tokens": WINDOW, "engine": engine
    }  # fmt: skip


def embedded(line: Line) -> list[DocumentState]:
    """All documents of a line's source, one stage short of their gists."""
    states = Listing.of(line.source, line.recipe).states
    return line.station("read", "embed").run(states)


class TestPrompts:
    """Without an engine: what is asked, and what is made of answers."""

    @pytest.fixture
    def line(self, bench: Bench, tiny_qwen2: Path) -> Iterator[Line]:
        bench.write_many(3)
        bench.write("000.txt", story(1))  # the words of another one
        with bench.line(settings={"generator": generator("vllm", tiny_qwen2), "gists": GISTS}) as line:
            yield line

    @pytest.fixture
    def prompts(self, line: Line, tiny_qwen2: Path) -> GistPrompts:
        return GistPrompts(line, VllmLanguageModel(str(tiny_qwen2), context_tokens=WINDOW))

    def test_equal_texts_are_asked_about_once(self, line: Line, prompts: GistPrompts) -> None:
        states = embedded(line)
        first, second, _ = (prompts.ask([state]) for state in states)
        assert first == second
        assert prompts.ask(states[:2]) == first

    def test_answers_become_gists_under_the_keys_of_the_line(self, line: Line, prompts: GistPrompts) -> None:
        states = embedded(line)
        tokenizer = VllmLanguageModel(line.settings.generator.model).tokenizer.fast
        words = tokenizer.encode("The bell rang.", add_special_tokens=False).ids
        answers = {prompt.key: words for prompt in prompts.ask(states)}
        receipt = prompts.finish(states, answers)
        assert receipt.done.keys() == {state.document_id for state in states}
        loaded = [state for path in set(receipt.done.values()) for state in line.staging.load(path)]
        assert {gist.text for state in loaded for gist in state.gists or ()} == {"The bell rang."}
        assert {gist.method for state in loaded for gist in state.gists or ()} == {"prompted"}

    def test_a_missing_answer_is_an_error_and_nothing_is_staged(self, line: Line, prompts: GistPrompts) -> None:
        states = embedded(line)
        with pytest.raises(BackendError, match="left out a prompt"):
            prompts.finish(states, {})
        assert not list(line.log.store.list("default/corpora/tales/staging/gist"))

    def test_texts_beyond_the_window_fail_their_document_only(
        self, line: Line, prompts: GistPrompts, tiny_qwen2: Path
    ) -> None:
        states = embedded(line)
        long = replace(states[0], chunks=(replace(states[0].chunks[0], text="bell " * WINDOW),))
        asked = prompts.ask([long, states[2]])
        assert asked == prompts.ask([states[2]])
        receipt = prompts.finish([long, states[2]], {prompt.key: (1,) for prompt in asked})
        assert receipt.failed[long.document_id].reason == "too_large"
        assert states[2].document_id in receipt.done


@pytest.mark.ray
@pytest.mark.vllm
@pytest.mark.slow
def test_engines_write_the_gists_that_another_backend_writes(
    tmp_path: Path, tiny_qwen2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
    benches = {}
    for backend in ("vllm", "transformers"):
        (tmp_path / backend).mkdir()
        benches[backend] = Bench(tmp_path / backend)
        benches[backend].write_many(4)
        benches[backend].write("empty.txt", "")
    settings = {
        backend: {"generator": generator(backend, tiny_qwen2), "gists": GISTS, "ingest": {"batch_bytes": 3000}}
        for backend in benches
    }

    def schedule(units: Sequence[Unit], line: Line) -> Iterator[Receipt]:
        with cluster(cpus=engine_cpus(line.settings)):
            yield from run_with_engines(units, line, choose_pools(line.settings, 1, len(units)))

    with benches["vllm"].line(name="tales", settings=settings["vllm"]) as line:
        summary = ingest(line, schedule=schedule)
    assert (summary.new, summary.failed) == (4, 1)
    assert summary.processed_chunks == len(benches["vllm"].chunks())
    expected = benches["transformers"].ingest(name="tales", settings=settings["transformers"])
    assert summary.stage_seconds.keys() == expected.stage_seconds.keys()
    assert benches["vllm"].chunks() == benches["transformers"].chunks()
    # Levels above are condensed when the version is made, in this process.
    made, wanted = (
        [gist for gist in benches[backend].loaded().gists if gist.level == 0] for backend in ("vllm", "transformers")
    )
    assert made == wanted
