"""Gists that a memory model writes, and how many of them a memory takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from lightrag.config import GistSettings
from lightrag.errors import LimitError, UsageError
from lightrag.memory.gist_batches import TokenBatches
from lightrag.memory.gist_memory import MemoryGister, fitting_gists
from lightrag.memory.gists import ExtractiveGister, document_gists, documents_gists
from lightrag.memory.group_window import ROOM_TOKENS, bytes_per_token, longest_text, positions_of
from lightrag.memory.memory_model import load_memory_model
from lightrag.memory.text_memory import TextMemory
from lightrag.models.tokenization import HuggingFaceTokenizer
from lightrag.types import Chunk, Gist
from tests.checkpoints import save_causal_lm
from tests.lightrag.memory.beacon.checkpoints import save_beacon_checkpoint

TEXT = "The harbour office keeps the records. The council voted in 1874 to build a longer pier. Ice closed the bay."


@pytest.fixture(scope="module")
def memory(tiny_qwen2: Path) -> TextMemory:
    return TextMemory.load(tiny_qwen2, load_memory_model(tiny_qwen2))


def gister(memory: TextMemory, folder: Path, *, budget: int, window: int = 4096) -> MemoryGister:
    batches = TokenBatches(1, lambda: 2 * budget)
    return MemoryGister(memory, HuggingFaceTokenizer.open(folder), batches, window=window)


def test_every_text_gets_a_gist_of_bounded_length_whatever_the_batches(memory: TextMemory, tiny_qwen2: Path) -> None:
    texts = [TEXT, TEXT[:40], TEXT * 2]
    for budget in (10**5, 1):
        writer = gister(memory, tiny_qwen2, budget=budget)
        gists = asyncio.run(writer.condense(texts, 8, "en"))
        assert len(gists) == len(texts)
        assert all(writer.tokenizer.count(text) <= 8 + 4 for text in gists)
        assert asyncio.run(writer.condense([], 8, "en")) == []


def test_a_text_that_does_not_fit_the_model_is_refused(memory: TextMemory, tiny_qwen2: Path) -> None:
    with pytest.raises(LimitError, match=r"lower gists\.chunks_per_gist"):
        asyncio.run(gister(memory, tiny_qwen2, budget=100, window=64).condense([TEXT * 9], 8, "en"))


def test_following_no_instruction_is_refused_and_memories_are_not_needed(memory: TextMemory) -> None:
    with pytest.raises(UsageError, match="no instruction"):
        memory.complete([])
    (reply,) = memory.complete(["What closed the bay?"], max_tokens=3)
    assert reply.usage.cached_tokens == 0
    assert 0 <= reply.usage.completion_tokens <= 3


def test_documents_are_condensed_together_as_they_are_alone(tiny_qwen2: Path) -> None:
    extractive = ExtractiveGister(HuggingFaceTokenizer.open(tiny_qwen2))
    calls: list[int] = []

    class Counting(ExtractiveGister):
        async def condense(self, texts: Sequence[str], tokens: int, language: str) -> list[str]:
            calls.append(len(texts))
            return await super().condense(texts, tokens, language)

    documents = [
        [
            Chunk(
                f"{name}{n}", name, n, f"{name} has {n} bells.", 0, 9, tokens=9, language="en" if name < "c" else "de"
            )
            for n in range(count)
        ]
        for name, count in (("a", 5), ("b", 0), ("c", 3), ("d", 1))
    ]
    settings = GistSettings(chunks_per_gist=2, tokens_per_gist=40)
    together = asyncio.run(documents_gists(documents, Counting(extractive.tokenizer), settings))
    assert together == [asyncio.run(document_gists(chunks, extractive, settings)) for chunks in documents]
    assert calls == [3, 3]


def level0(count: int, tokenizer: HuggingFaceTokenizer) -> list[Gist]:
    chunks = [
        Chunk(f"c{n}", f"d{n // 4}", n % 4, f"In {1800 + n} the bell rang {n} times.", 0, 9, tokens=9, language="en")
        for n in range(count)
    ]
    settings = GistSettings(chunks_per_gist=2, tokens_per_gist=40)
    extractive = ExtractiveGister(tokenizer)
    gists = []
    for start in range(0, count, 4):
        gists += asyncio.run(document_gists(chunks[start : start + 4], extractive, settings))
    return gists


def test_gists_that_fit_stay_and_others_are_condensed_level_by_level(tiny_qwen2: Path) -> None:
    tokenizer = HuggingFaceTokenizer.open(tiny_qwen2)
    gists = level0(32, tokenizer)
    settings = GistSettings(chunks_per_gist=2, tokens_per_gist=40)
    extractive = ExtractiveGister(tokenizer)

    def fitting(budget: int) -> list[Gist]:
        return asyncio.run(fitting_gists(gists, budget, tokenizer, extractive, settings, "en"))

    needed = sum(tokenizer.count(gist.text) + 1 for gist in gists)
    assert fitting(needed) == gists
    fewer = fitting(needed // 2)
    assert {gist.level for gist in fewer} != {0}
    assert sum(tokenizer.count(gist.text) + 1 for gist in fewer) <= needed // 2
    covered = {chunk_id for gist in fewer for chunk_id in gist.chunk_ids}
    assert covered == {f"c{n}" for n in range(32)}


def test_the_longest_text_leaves_room_and_grows_with_the_ratio(tiny_qwen2: Path, tmp_path: Path) -> None:
    assert positions_of(tiny_qwen2) == 4096
    assert longest_text(tiny_qwen2) == 4096 - ROOM_TOKENS
    sliding = save_causal_lm(tmp_path / "m", "mistral", sliding_window=512)
    assert longest_text(sliding) == 512 - 128
    beacon = save_beacon_checkpoint(tmp_path / "b", beacon_ratio=[2, 8])
    assert longest_text(beacon, ratio=4) == (4096 - ROOM_TOKENS - 32) * 4
    assert longest_text(beacon) == (4096 - ROOM_TOKENS - 32) * 2
    assert bytes_per_token(tiny_qwen2, torch.float32.itemsize) > 4 * 2 * 2 * 2 * 32
