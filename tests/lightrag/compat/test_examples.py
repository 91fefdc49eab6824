"""The eight calls that users of MemoRAG make, with only the import changed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lightrag import Agent, MemoRAG, MemoRAGLite, Memory
from lightrag.errors import BackendError
from tests.lightrag.compat.checkpoints import BOOK, BUNDLED
from tests.lightrag.compat.conftest import ChatService

ROOT = Path(__file__).parents[3]
QUERY = "Who opened the lighthouse, and when did the council vote for it?"


@pytest.mark.parametrize("generator", ["", "own"])
def test_1_a_pipeline_with_a_generator_of_its_own_or_without(
    generator: str, beacon: Path, tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = MemoRAG(
        mem_model_name_or_path=str(beacon),
        ret_model_name_or_path=BUNDLED,
        gen_model_name_or_path=str(tiny_llama) if generator else None,
        cache_dir=str(tmp_path / "models"),
        access_token="",
        beacon_ratio=4,
    )
    pipe.memorize(BOOK, save_dir=f"{tmp_path}/cache/book/", print_stats=True)
    said = capsys.readouterr().out
    assert "language: en" in said
    assert "cells (beacon)" in said
    assert "chunks:" in said
    assert {path.name for path in (tmp_path / "cache/book").iterdir()} >= {"memory.bin", "index.bin", "chunks.json"}
    res = pipe(context=BOOK, query=QUERY, task_type="memorag", max_new_tokens=12)
    assert isinstance(res, str)
    assert pipe.mem_model.held.cells.cells < pipe.mem_model.held.source_tokens / 2


def test_1_any_other_decoder_keeps_every_token(tiny_llama: Path) -> None:
    pipe = MemoRAG(str(tiny_llama), BUNDLED, beacon_ratio=4)
    pipe.memorize(BOOK)
    assert pipe.mem_model.held.cells.kind == "full"
    assert pipe.mem_model.held.cells.cells > pipe.mem_model.held.source_tokens
    assert isinstance(pipe(query=QUERY, max_new_tokens=8), str)


REUSE = """
import sys
from lightrag import MemoRAG
pipe = MemoRAG(mem_model_name_or_path=sys.argv[1], ret_model_name_or_path=sys.argv[2], beacon_ratio=4)
pipe.load(sys.argv[3], print_stats=True)
print("fingerprint", pipe.mem_model.held.cells.fingerprint)
print("passages", pipe._retrieve(["Ada Lind opened the lighthouse"]))
print("answer", isinstance(pipe("Who opened the lighthouse?", max_new_tokens=4), str))
"""


@pytest.mark.slow
def test_2_a_new_process_goes_on_without_memorising_again(
    beacon: Path, tmp_path: Path, make_pipe: Callable[..., MemoRAG]
) -> None:
    folder = tmp_path / "cache" / "book"
    pipe = make_pipe(retrieval_chunk_size=512)
    pipe.memorize(BOOK, save_dir=folder)
    done = subprocess.run(
        [sys.executable, "-c", REUSE, str(beacon), BUNDLED, str(folder)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "cells (beacon)" in done.stdout
    pipe.load(folder)
    assert f"fingerprint {pipe.mem_model.held.cells.fingerprint}" in done.stdout
    assert f"passages {pipe._retrieve(['Ada Lind opened the lighthouse'])}" in done.stdout
    assert "answer True" in done.stdout


def test_3_a_summary(make_pipe: Callable[..., MemoRAG]) -> None:
    assert isinstance(make_pipe()(context=BOOK, task_type="summarize", max_new_tokens=12), str)


def test_4_a_remote_generator(service: ChatService, make_pipe: Callable[..., MemoRAG], tiny_llama: Path) -> None:
    service.reply = lambda prompt: "Ada Lind" if "Question:" in prompt else "hello"
    agent = Agent(
        model="gpt-4o", source="deepseek", api_dict={"base_url": service.url, "api_key": "sk-x"}, temperature=0.0
    )
    assert agent.generate("hi!") == ["hello"]
    pipe = make_pipe(customized_gen_model=agent)
    assert pipe(context=BOOK, query=QUERY, max_new_tokens=32) == "Ada Lind"
    assert "lighthouse" in service.prompts[-1]
    lite = MemoRAGLite(str(tiny_llama), BUNDLED, customized_gen_model=agent)
    assert lite(BOOK, QUERY) == "Ada Lind"


def test_4_a_lite_pipeline_with_nothing_but_an_agent(service: ChatService) -> None:
    lite = MemoRAGLite(ret_model_name_or_path=BUNDLED, customized_gen_model=service.agent())
    assert lite(context=BOOK, query=QUERY) == "hello"


@pytest.mark.parametrize("kind", ["beacon", "beacon_mistral", "tiny_llama"])
def test_5_memory_alone(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    model = str(request.getfixturevalue(kind))
    memory = Memory(model, cache_dir=str(tmp_path), beacon_ratio=4)
    memory.memorize(BOOK)
    memory.save(f"{tmp_path}/cache/book/memory.bin")
    assert isinstance(memory.answer(QUERY, max_new_tokens=8), str)
    assert isinstance(memory.recall(QUERY, max_new_tokens=24), str)
    assert isinstance(memory.rewrite(QUERY, max_new_tokens=24), str)
    assert isinstance(memory.summarize(max_new_tokens=24), str)
    again = Memory(model, beacon_ratio=4)
    again.load(f"{tmp_path}/cache/book/memory.bin")
    assert all(one.equal(other) for one, other in zip(again.held.cells.keys, memory.held.cells.keys, strict=True))


def test_6_retrieval_with_clues_by_hand(service: ChatService, make_pipe: Callable[..., MemoRAG]) -> None:
    service.reply = lambda prompt: (
        "1. In 1881 the council of Lindholm voted to build the observatory\n"
        "2. In 1870 the council of Lindholm voted to build a longer pier.\n3. noise"
    )
    pipe = make_pipe(service.agent(), ret_hit=1)
    pipe.memorize(BOOK)
    clues = pipe.mem_model.recall(QUERY).split("\n")
    clues = [clue for clue in clues if len(clue.split()) > 3]
    assert len(clues) == 2
    passages = pipe._retrieve(clues)
    assert len(passages) == 2
    assert "In 1870" in passages[0]
    assert "In 1881" in passages[1]


def test_7_positional_forms(make_pipe: Callable[..., MemoRAG]) -> None:
    model = make_pipe()
    assert isinstance(model(BOOK, "What are the main themes?", task_type="qa", max_new_tokens=8), str)
    assert isinstance(model(BOOK, task_type="summarize", max_new_tokens=8), str)
    assert isinstance(model("What are the main themes?", max_new_tokens=8), str)


def test_8_lite(tiny_qwen2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def make() -> MemoRAGLite:
        return MemoRAGLite(
            gen_model_name_or_path=str(tiny_qwen2),
            ret_model_name_or_path=BUNDLED,
            ret_hit=3,
            retrieval_chunk_size=512,
            load_in_4bit=False,
            enable_flash_attn=True,
        )

    pipe = make()
    pipe.memorize(BOOK, save_dir=str(tmp_path / "book"), print_stats=True)
    assert "cells (gist)" in capsys.readouterr().out
    answer = pipe("What is the book's main theme?", max_new_tokens=8)
    assert isinstance(answer, str)
    again = make()
    again.load(str(tmp_path / "book"))
    assert again.mem_model.held.text == pipe.mem_model.held.text != ""
    assert isinstance(again("What is the book's main theme?", max_new_tokens=8), str)


def test_8_without_arguments_the_published_models_are_meant(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="BAAI/bge-m3"):
        MemoRAGLite(cache_dir=str(tmp_path))
    with pytest.raises(BackendError, match=r"Qwen/Qwen2\.5-1\.5B-Instruct"):
        MemoRAGLite(ret_model_name_or_path=BUNDLED, cache_dir=str(tmp_path))
