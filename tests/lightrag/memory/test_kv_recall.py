"""Recall over KV memories with tiny models: the plumbing, the batch, the layout. What they say is noise."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lightrag.config import RecallSettings
from lightrag.errors import BackendError, NotFoundError, UsageError
from lightrag.memory.base import RecallRequest
from lightrag.memory.beacon.model import BeaconModel
from lightrag.memory.full_context import FullContextModel
from lightrag.memory.instructions import instructions_for, read_clues
from lightrag.memory.kv_memory import KVMemory
from lightrag.memory.kv_recall import ChosenMemories, KVRecaller, LanguageModelReader, LocalReader, Memories
from lightrag.memory.memory_model import load_memory_model
from lightrag.memory.text_memory import Reply, TextMemory
from lightrag.models.base import EngineMemory
from lightrag.models.base import KVMemory as LoadedMemory
from lightrag.types import CorpusVersion, Usage
from tests.checkpoints import save_causal_lm
from tests.lightrag.memory.beacon.checkpoints import save_beacon_checkpoint

CORPUS = CorpusVersion("default", "harbour", 1)
TEXT = "In the first winter the ice closed the bay for forty days, and the council voted to build a longer pier. " * 3


@dataclass
class Askable:
    memory: LoadedMemory | EngineMemory
    language: str = "en"
    held: int = 0

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[LoadedMemory | EngineMemory]:
        self.held += 1
        yield self.memory
        self.held -= 1


def memories(*askable: Askable, total: int | None = None) -> Memories:
    async def choose(request: RecallRequest) -> ChosenMemories:
        return ChosenMemories(askable if request.corpus == CORPUS else (), total or len(askable))

    return choose


class ScriptedReader:
    """Gives the instructions of the first memory the first replies, and so on, and remembers how it was asked."""

    def __init__(self, *replies: Sequence[str]) -> None:
        self.replies = list(replies)
        self.asked: list[tuple[list[str], int]] = []

    async def ask(self, memory: object, instructions: Sequence[str], max_tokens: int) -> list[Reply]:
        self.asked.append((list(instructions), max_tokens))
        return [Reply(text, Usage(10, 2, 8, 1)) for text in self.replies[len(self.asked) - 1]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_causal_lm(tmp_path_factory.mktemp("recall"), "llama")


@pytest.fixture(scope="module")
def texts(folder: Path) -> TextMemory:
    return TextMemory.load(folder, FullContextModel.load(folder))


@pytest.fixture(scope="module")
def memory(texts: TextMemory) -> KVMemory:
    return texts.memorise(TEXT)


async def test_spans_surrogates_and_a_draft_are_asked_at_once_and_cleaned(memory: KVMemory) -> None:
    reader = ScriptedReader([
        "1. The council voted to build a longer pier.\n2. The council voted to build a longer pier!\n3) ok",
        "- The council voted to build a longer pier\n- When was the pier opened?\n港口办公室保存着记录",
        " It was opened in 1874. ",
    ])  # fmt: skip
    recaller = KVRecaller(reader, memories(Askable(memory)))
    recollection = await recaller.recall(RecallRequest(CORPUS, "When did it open?", draft=True))
    assert [(clue.text, clue.kind) for clue in recollection.clues] == [
        ("The council voted to build a longer pier.", "span"),
        ("When was the pier opened?", "surrogate"),
        ("港口办公室保存着记录", "surrogate"),
        ("It was opened in 1874.", "draft"),
    ]
    assert recollection.method == "kv_memory"
    assert recollection.usage == Usage(30, 6, 24, 3)
    assert len(reader.asked) == 1
    assert all("When did it open?" in instruction for instruction in reader.asked[0][0])


async def test_several_memories_give_their_best_clues_first_and_the_nearest_one_the_draft(memory: KVMemory) -> None:
    reader = ScriptedReader(
        ["1. The ice closed the bay.\n2. The council built a pier.", "Who built the pier?", "In 1874."],
        ["The council built a pier!\nA mayor opened it at noon.\nThe records begin in 1871.", "Who opened the pier?"],
    )
    askable = [Askable(memory), Askable(memory)]
    settings = RecallSettings(max_clues=3, max_surrogates=2)
    recaller = KVRecaller(reader, memories(*askable, total=9), settings)
    recollection = await recaller.recall(RecallRequest(CORPUS, "When?", draft=True))
    assert [(clue.text, clue.kind) for clue in recollection.clues] == [
        ("The ice closed the bay.", "span"),
        ("The council built a pier!", "span"),
        ("A mayor opened it at noon.", "span"),
        ("Who built the pier?", "surrogate"),
        ("Who opened the pier?", "surrogate"),
        ("In 1874.", "draft"),
    ]
    assert recollection.usage == Usage(50, 10, 40, 5)
    assert recollection.notes == ("recalled from 2 of 9 KV memories of default/harbour@1",)
    assert [len(instructions) for instructions, _ in reader.asked] == [3, 2]
    assert [each.held for each in askable] == [0, 0]


async def test_an_answer_from_memory_alone_asks_the_nearest_memory_alone(memory: KVMemory) -> None:
    reader = ScriptedReader(["It opened in 1874."])
    recaller = KVRecaller(reader, memories(Askable(memory), Askable(memory)))
    recollection = await recaller.recall(RecallRequest(CORPUS, "When?", task="qa"))
    assert [(clue.text, clue.kind) for clue in recollection.clues] == [("It opened in 1874.", "draft")]
    assert recollection.notes == ("recalled from 1 of 2 KV memories of default/harbour@1",)


def test_a_summary_has_a_key_point_of_every_memory() -> None:
    texts = ["Salt was sold by weight.", "Paper came from Aske.", "Amber lay on every beach.", "Timber went north."]
    replies = [{"sum": f"{text}\nAnother point that all texts share"} for text in texts]
    clues = read_clues(replies, RecallSettings(max_clues=2))  # type: ignore[arg-type]  # "sum" is a key
    assert [clue.text for clue in clues] == texts


async def test_a_memory_that_fails_fails_the_recall_and_is_given_back(memory: KVMemory) -> None:
    class Broken:
        async def ask(self, memory: object, instructions: Sequence[str], max_tokens: int) -> list[Reply]:
            raise BackendError("engine is down")

    with pytest.raises(BackendError, match="engine is down"):
        await KVRecaller(Broken(), memories(Askable(memory), Askable(memory))).recall(RecallRequest(CORPUS, "When?"))


async def test_questions_that_come_while_one_is_answered_share_a_batch(texts: TextMemory, memory: KVMemory) -> None:
    class Gated(TextMemory):
        """Answers the first batch only when all other questions are waiting."""

        calls: list[int]
        reader: LocalReader

        def ask(self, memory: KVMemory, instructions: Sequence[str], *, max_tokens: int = 256) -> list[Reply]:
            self.calls.append(len(instructions))
            until = time.monotonic() + 30
            while len(self.calls) == 1 and self.reader.batches.waiting < 3 and time.monotonic() < until:
                time.sleep(0.005)
            return super().ask(memory, instructions, max_tokens=max_tokens)

    gated = Gated(texts.model, texts._tokenizer)
    gated.calls, gated.reader = [], LocalReader(gated)
    questions = ["When was the pier opened?", "Who opened it?", "What froze?", "How long was the bay closed?"]
    replies: dict[str, Reply] = {}

    def ask(question: str) -> None:
        replies[question] = asyncio.run(gated.reader.ask(memory, [question], 8))[0]

    threads = [threading.Thread(target=ask, args=(question,)) for question in questions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert gated.calls == [1, 3]
    assert replies == {question: texts.ask(memory, [question], max_tokens=8)[0] for question in questions}


@pytest.mark.parametrize(
    ("task", "draft", "keys"),
    [
        ("memorag", False, ["span", "sur"]),
        ("memorag", True, ["span", "sur", "qa"]),
        ("qa", False, ["qa"]),
        ("summarize", False, ["sum"]),
    ],
)
def test_each_task_has_its_instructions(task: str, draft: bool, keys: list[str]) -> None:
    assert instructions_for(RecallRequest(CORPUS, "Q?", task=task, draft=draft)) == keys  # type: ignore[arg-type]


async def test_what_is_missing_is_said(memory: KVMemory) -> None:
    recaller = KVRecaller(ScriptedReader([""]), memories(Askable(memory)))
    with pytest.raises(UsageError, match="question is empty"):
        await recaller.recall(RecallRequest(CORPUS, "  "))
    with pytest.raises(NotFoundError, match="no KV memory"):
        await recaller.recall(RecallRequest(CorpusVersion("default", "other", 1), "Q?"))
    assert (await recaller.recall(RecallRequest(CORPUS, "", task="summarize"))).clues == ()


async def test_chinese_corpora_are_asked_in_chinese(memory: KVMemory) -> None:
    reader = ScriptedReader(["", ""])
    await KVRecaller(reader, memories(Askable(memory, "zh"))).recall(RecallRequest(CORPUS, "码头何时建成？"))
    assert all("问题：码头何时建成？" in instruction for instruction in reader.asked[0][0])


async def test_a_batch_of_instructions_says_what_each_would_alone(texts: TextMemory, memory: KVMemory) -> None:
    asked = ["What did the council decide?", "When?", "List every number of the text, and what it counts."]
    together = await LocalReader(texts).ask(memory, asked, 12)
    alone = [texts.ask(memory, [instruction], max_tokens=12)[0] for instruction in asked]
    assert together == alone
    assert together[0].usage.cached_tokens == memory.cells


async def test_a_language_model_over_the_memory_says_the_same(
    folder: Path, texts: TextMemory, memory: KVMemory
) -> None:
    from lightrag.models.local.model import TransformersLanguageModel

    model = TransformersLanguageModel(str(folder))
    try:
        asked = ["What did the council decide?", "When?"]
        theirs = await LanguageModelReader(model).ask(memory, asked, 12)
        assert [reply.text for reply in theirs] == [reply.text for reply in texts.ask(memory, asked, max_tokens=12)]
    finally:
        await model.close()


def test_the_memory_holds_the_text_as_an_acknowledged_turn(texts: TextMemory, memory: KVMemory) -> None:
    ids = texts.context_ids(TEXT, texts.prompts("en"))
    assert memory.cells == len(ids)
    longer = texts.memorise("The pier burned down in 1901.", onto=memory)
    again = texts.context_ids("The pier burned down in 1901.", texts.prompts("en"))
    whole = texts.model.memorise_batch([ids + again])[0]
    assert longer.cells == whole.cells
    assert longer.keys[1].sub(whole.keys[1]).abs().max() < 1e-3


def test_questions_do_not_copy_the_memory(folder: Path) -> None:
    model = FullContextModel.load(folder)
    memory = model.memorise([5] * 3000)
    model.session([memory] * 4).read([[7, 8]] * 4)  # warm up
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        model.session([memory] * 4).read([[7, 8]] * 4)
    largest = max(event.self_cpu_memory_usage for event in profile.key_averages())
    assert largest < memory.byte_count / 4


def test_a_checkpoint_decides_which_kind_of_memory_it_makes(folder: Path, tmp_path: Path) -> None:
    beacon = save_beacon_checkpoint(tmp_path)
    assert isinstance(load_memory_model(beacon, ratios=8), BeaconModel)
    assert isinstance(load_memory_model(folder), FullContextModel)
    with pytest.raises(UsageError, match="takes no ratios"):
        load_memory_model(folder, ratios=4)


def test_an_empty_text_is_refused(texts: TextMemory) -> None:
    with pytest.raises(UsageError, match="nothing to memorise"):
        texts.memorise(" \n")
