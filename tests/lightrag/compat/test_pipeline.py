"""How a question goes through the pipeline: a memory that says what a test wants, a real retriever, any generator."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lightrag import MemoRAG, MemoRAGLite, Memory, Model
from lightrag.errors import LimitError, UsageError
from tests.lightrag.compat.checkpoints import BOOK, BUNDLED, CHINESE_BOOK
from tests.lightrag.compat.conftest import ChatService, Recorder

QUERY = "What did the captain pay for?"
MARKED = {"span": "SPAN {question}", "sur": "SUR {question}", "qa": "QA {question}", "sum": "SUM"}
SAID = {
    "SPAN": "1. In 1881 the council of Lindholm voted to build the observatory.\n2. ok",
    "SUR": "- Who opened the lighthouse of Lindholm at noon?",
    "QA": "He paid 17 crowns.",
    "SUM": "The council voted to build a theatre.\nThe council voted to build an iron bridge.",
}


@pytest.fixture
def scripted(service: ChatService, make_pipe: Callable[..., MemoRAG]) -> Callable[..., MemoRAG]:
    """A pipeline whose memory replies as ``SAID``."""
    service.reply = lambda prompt: next((said for mark, said in SAID.items() if f"\n\n{mark}" in prompt), "hm")

    def make(**options: Any) -> MemoRAG:
        pipe = make_pipe(service.agent(), **{"ret_hit": 1, "prompts": MARKED, **options})
        pipe.memorize(BOOK)
        return pipe

    return make


def test_a_question_is_answered_from_what_question_clues_and_surrogates_find(
    scripted: Callable[..., MemoRAG],
) -> None:
    generator = Recorder("  An observatory. ")
    pipe = scripted(customized_gen_model=generator)
    assert pipe(query=QUERY, max_new_tokens=33) == "  An observatory. "
    assert generator.limits == [33]
    [prompt] = generator.prompts
    assert QUERY in prompt
    assert prompt.index("a lighthouse") < prompt.index("the observatory")
    assert "the hospital" not in prompt


def test_an_answer_from_memory_is_searched_with_and_shown(scripted: Callable[..., MemoRAG]) -> None:
    generator = Recorder()
    scripted(customized_gen_model=generator)(query=QUERY, use_memory_answer=True)
    assert "from memory, to be checked against the other passages: He paid 17 crowns." in generator.prompts[0]
    assert "paid 17 crowns for the flags" in generator.prompts[0]


def test_a_summary_searches_with_the_main_points(scripted: Callable[..., MemoRAG]) -> None:
    generator = Recorder("All about it.")
    pipe = scripted(customized_gen_model=generator)
    assert pipe(task_type="summarize") == "All about it."
    assert "a theatre" in generator.prompts[0]
    assert "an iron bridge" in generator.prompts[0]
    assert "a longer pier" not in generator.prompts[0]
    pipe(query="the longer pier", task_type="summarize")
    assert "a longer pier" in generator.prompts[1]


def test_a_memory_without_main_points_gives_passages_from_all_over(
    service: ChatService, make_pipe: Callable[..., MemoRAG], caplog: pytest.LogCaptureFixture
) -> None:
    generator = Recorder()
    pipe = make_pipe(service.agent(), ret_hit=1, customized_gen_model=generator)
    service.reply = lambda prompt: ""
    with caplog.at_level(logging.WARNING):
        pipe(BOOK, task_type="summarize")
    assert "no main points" in caplog.text
    assert "a longer pier" in generator.prompts[0]
    assert "the observatory" in generator.prompts[0]


def test_qa_asks_memory_alone(service: ChatService, scripted: Callable[..., MemoRAG]) -> None:
    generator = Recorder()
    pipe = scripted(customized_gen_model=generator)
    assert pipe(query=QUERY, task_type="qa", max_new_tokens=7) == "He paid 17 crowns."
    assert generator.prompts == []
    assert service.requests[-1]["max_tokens"] == 7


def test_a_template_of_the_caller_is_filled(scripted: Callable[..., MemoRAG]) -> None:
    generator = Recorder()
    pipe = scripted(customized_gen_model=generator)
    pipe(query="{braces} and all?", prompt_template="Q={input} C={context} {other}")
    assert generator.prompts[0].startswith("Q={braces} and all? C=In 18")
    assert generator.prompts[0].endswith("{other}")
    with pytest.raises(UsageError, match="needs the placeholder"):
        pipe(query=QUERY, prompt_template="{input}")


def test_replaced_prompts_are_used_and_come_back(scripted: Callable[..., MemoRAG]) -> None:
    generator = Recorder()
    pipe = scripted(customized_gen_model=generator)
    built_in = pipe.prompts["qa_gen"]
    pipe.prompts["qa_gen"] = "MINE {input} {context}"
    pipe(query=QUERY)
    del pipe.prompts["qa_gen"]
    pipe(query=QUERY)
    assert generator.prompts[0].startswith(f"MINE {QUERY}")
    assert pipe.prompts["qa_gen"] == built_in
    assert not generator.prompts[1].startswith("MINE")


def test_the_same_context_is_read_once_and_another_takes_its_place(
    service: ChatService, scripted: Callable[..., MemoRAG]
) -> None:
    pipe = scripted(customized_gen_model=Recorder())
    held = pipe.mem_model.held
    pipe(context=f"\n{BOOK}\n\n", query=QUERY)
    assert pipe.mem_model.held is held
    pipe(context=BOOK, query=QUERY, reset_each_call=True)
    assert pipe.mem_model.held is not held
    pipe(context="In 1999 a museum of knots was opened in Lindholm.", query=QUERY)
    assert pipe._retrieve(["museum"]) == ["In 1999 a museum of knots was opened in Lindholm."]
    pipe.reset()
    with pytest.raises(UsageError, match="nothing was memorised"):
        pipe(query=QUERY)


def test_evidence_that_the_generator_has_no_room_for_is_left_out_last_found_first(
    service: ChatService, scripted: Callable[..., MemoRAG]
) -> None:
    pipe = scripted(ret_hit=12, customized_gen_model=service.agent(context_tokens=500))
    pipe(query="When did the council vote to build the observatory?", max_new_tokens=64)
    assert "the observatory" in service.prompts[-1]
    assert service.prompts[-1].count("the council of Lindholm voted") < 9
    pipe = scripted(customized_gen_model=service.agent(context_tokens=300))
    with pytest.raises(LimitError, match="lower retrieval_chunk_size or max_new_tokens"):
        pipe(query=QUERY, max_new_tokens=256)


def test_a_chinese_book_is_asked_in_chinese_and_its_clues_count(
    service: ChatService, make_pipe: Callable[..., MemoRAG], capsys: pytest.CaptureFixture[str]
) -> None:
    service.reply = lambda prompt: "1. 船长主持了灯塔的开幕仪式。\n2. 好"
    generator = Recorder("船长")
    pipe = make_pipe(service.agent(), ret_hit=1, customized_gen_model=generator)
    pipe.memorize(CHINESE_BOOK, print_stats=True)
    assert "language: zh" in capsys.readouterr().out
    assert pipe(query="谁主持了水手学校的开幕？", use_memory_answer=True) == "船长"
    assert "问题：谁主持了水手学校的开幕？" in generator.prompts[0]
    assert "凭记忆得出的答案" in generator.prompts[0]
    assert "灯塔。船长" in generator.prompts[0]
    assert pipe.prompts["qa_gen"] != MemoRAG.__doc__
    assert "段落" in pipe.prompts["qa_gen"]


def test_a_chinese_book_in_a_beacon_memory(make_pipe: Callable[..., MemoRAG], tmp_path: Path) -> None:
    pipe = make_pipe()
    pipe.memorize(CHINESE_BOOK, save_dir=tmp_path / "书")
    pipe.load(tmp_path / "书")
    assert pipe.mem_model.held.language == "zh"
    assert any("灯塔" in passage for passage in pipe._retrieve(["灯塔"]))
    assert isinstance(pipe("灯塔是谁开的？", max_new_tokens=4), str)


async def test_calls_block_also_where_an_event_loop_runs(service: ChatService, beacon: Path) -> None:
    pipe = MemoRAG(str(beacon), BUNDLED, customized_gen_model=service.agent())
    assert pipe(context=BOOK, query=QUERY) == "hello"
    await asyncio.sleep(0)


def test_several_threads_ask_one_pipeline(make_pipe: Callable[..., MemoRAG]) -> None:
    pipe = make_pipe(customized_gen_model=Recorder())
    pipe.memorize(BOOK)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(pipe, f"Question number {number}?", max_new_tokens=4) for number in range(6)]
        assert [each.result(60) for each in asked] == ["So it was."] * 6


def test_a_memory_or_a_model_may_write_the_answers(
    make_pipe: Callable[..., MemoRAG], tiny_llama: Path, beacon: Path
) -> None:
    generators: list[Any] = [Memory(str(tiny_llama)), Model(tiny_llama), Memory(str(beacon))]
    for generator in generators:
        pipe = make_pipe(customized_gen_model=generator)
        assert isinstance(pipe(BOOK, QUERY, max_new_tokens=4), str)


def test_a_generator_that_gives_no_text_is_named(scripted: Callable[..., MemoRAG]) -> None:
    class Bad:
        def generate(self, prompt: str, max_new_tokens: int) -> dict[str, str]:
            return {"text": prompt}

    with pytest.raises(UsageError, match="list with one text"):
        scripted(customized_gen_model=Bad())(query=QUERY)
    with pytest.raises(UsageError, match="needs a method generate"):
        scripted(customized_gen_model=print)


def test_what_makes_no_sense_is_refused(
    make_pipe: Callable[..., MemoRAG], scripted: Callable[..., MemoRAG], tiny_llama: Path
) -> None:
    with pytest.raises(UsageError, match="not both"):
        make_pipe(gen_model_name_or_path=str(tiny_llama), customized_gen_model=Recorder())
    with pytest.raises(UsageError, match="ret_hit"):
        make_pipe(ret_hit=0)
    with pytest.raises(UsageError, match="retrieval_chunk_size"):
        make_pipe(retrieval_chunk_size=8)
    with pytest.raises(UsageError, match="no such prompt: 'spam'"):
        make_pipe(prompts={"spam": "{question}"})
    pipe = scripted()
    with pytest.raises(UsageError, match="max_new_tokens"):
        pipe(query=QUERY, max_new_tokens=0)
    with pytest.raises(UsageError, match="list of clues"):
        pipe._retrieve("one clue\nanother")
    with pytest.raises(UsageError, match="nothing to memorise"):
        pipe.memorize("  ")
    assert pipe._retrieve([]) == []
    assert pipe._memorised is not None


def test_gists_of_a_book_longer_than_the_window_fit(tiny_qwen2: Path, beacon: Path) -> None:
    lite = MemoRAGLite(str(tiny_qwen2), BUNDLED)
    long = "\n\n".join(f"{BOOK} Volume {number}." for number in range(7))
    lite.memorize(long)
    assert lite.mem_model.held.source_tokens > 4096
    assert lite.mem_model.held.cells.cells < 4096
    with pytest.raises(LimitError, match="keeps every token"):
        Memory(str(tiny_qwen2)).memorize(long)
