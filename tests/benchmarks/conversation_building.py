"""Building a memory with compression, and consolidating it twice, beside the published behaviour.

Compression: the published side reads every message of both roles by itself, padded to 512 tokens, then embeds, looks up
and writes one fact per turn. The checkpoint has the shape of the published model and random weights, so it takes the
same time and its choice of words means nothing. Both sides keep the same share of the tokens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightrag.conversation import LightMemory
from lightrag.lexical import LLMLingua2
from lightrag.models.base import Embedder
from lightrag.models.fakes import ScriptedLanguageModel
from tests.benchmarks.conversation_answers import write_facts
from tests.lightrag.lexical.checkpoints import TEXT, save_token_classifier

RATE = 0.6
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
"""Of multilingual BERT."""
WINDOW = 512


def spoken(turns: int) -> list[tuple[str, str]]:
    """User and assistant messages of about 75 and 110 tokens."""
    words = TEXT.split()
    said = []
    for n in range(turns):
        shifted = words[n % len(words) :] + words[: n % len(words)]
        said.append((f"{n} " + " ".join(shifted[:45]), f"{n} " + " ".join(shifted[:65])))
    return said


def compress_as_published(scorer: LLMLingua2, text: str) -> str:
    """One padded pass, then the words above the percentile of the scores."""
    import torch

    encoding = scorer.tokenizer.fast.encode(text, add_special_tokens=True)
    ids, length = encoding.ids[:WINDOW], min(len(encoding.ids), WINDOW)
    row = torch.zeros(1, WINDOW, dtype=torch.long)
    mask = torch.zeros(1, WINDOW, dtype=torch.long)
    row[0, :length], mask[0, :length] = torch.tensor(ids), 1
    with torch.inference_mode():
        keep = scorer._model(input_ids=row, attention_mask=mask).logits.softmax(-1)[0, 1 : length - 1, 1].numpy()
    words: list[list[int]] = []
    for place, token in enumerate(encoding.tokens[1 : length - 1]):
        if token.startswith("##") and words:
            words[-1].append(place)
        else:
            words.append([place])
    scores = np.array([keep[word].mean() for word in words])
    threshold = np.percentile(np.repeat(scores, [len(word) for word in words]), int(100 * (1 - RATE) + 1))
    tokens = encoding.tokens[1 : length - 1]
    kept = [word for word, score in zip(words, scores, strict=True) if score > threshold]
    return " ".join("".join(tokens[place].removeprefix("##") for place in word) for word in kept)


def adding_compressed(turns: int, folder: Path, embedder: Embedder) -> tuple[float, float, str]:
    """Milliseconds per turn of the published way and of ours, and the shares of words that both keep."""
    model = save_token_classifier(folder / "lingua", "bert", **BASE)
    scorer = LLMLingua2(model)
    said = spoken(turns)
    asyncio.run(embedder.embed(["warm up"]))
    scorer.read(["warm up"])

    begun = time.perf_counter()
    kept = _publish(scorer, said, folder / "published", embedder)
    theirs = 1000 * (time.perf_counter() - begun) / turns

    llm = ScriptedLanguageModel(write_facts, context_tokens=32_768)
    memory = LightMemory.from_config(_config(folder / "ours", model), embedder=embedder, language_model=llm)
    pipeline: Any = memory.aio.engine.pipeline
    pipeline._compressor.compress(["warm up"])
    begun = time.perf_counter()
    for n, (user, assistant) in enumerate(said):
        stamp = f"2024-01-{n % 28 + 1:02d}T10:00:{n // 28:02d}"
        pair = [
            {"role": "user", "content": user, "time_stamp": stamp},
            {"role": "assistant", "content": assistant, "time_stamp": stamp},
        ]
        report = memory.add_memory(pair, force_extract=n == turns - 1)
        assert not report.problems, report.problems
    ours = 1000 * (time.perf_counter() - begun) / turns
    facts = [entry.text for entry in memory.entries() if entry.kind == "fact"]
    memory.close()
    users = [user for user, _ in said]
    return theirs, ours, f"(words kept: {_share(kept, users):.2f} and {_share(facts, users):.2f})"


def _publish(scorer: LLMLingua2, said: Sequence[tuple[str, str]], folder: Path, embedder: Embedder) -> list[str]:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(folder))
    size = embedder.dimension
    client.create_collection("m", models.VectorParams(size=size, distance=models.Distance.COSINE))
    kept = []
    for n, (user, assistant) in enumerate(said):
        kept.append(compress_as_published(scorer, user))
        compress_as_published(scorer, assistant)
        vector = asyncio.run(embedder.embed([kept[-1]]))[0].tolist()
        client.retrieve("m", [n])
        client.upsert("m", [models.PointStruct(id=n, vector=vector, payload={"memory": kept[-1]})])
    client.close()
    return kept


def _config(folder: Path, model: Path) -> dict[str, Any]:
    lingua = {"llmlingua_config": {"model_name": str(model)}, "compress_config": {"rate": RATE}}
    return {
        "pre_compress": True,
        "pre_compressor": {"model_name": "llmlingua-2", "configs": lingua},
        "embedding_retriever": {"model_name": "qdrant", "configs": {"path": str(folder)}},
        "retrieve_turns": False,
        "metadata_generate": False,  # as published: nothing but facts is asked for
    }


def _share(shortened: Sequence[str], texts: Sequence[str]) -> float:
    return sum(len(text.replace(" ", "")) for text in shortened) / sum(len(text.replace(" ", "")) for text in texts)


def consolidating(entries: int, folder: Path, embedder: Embedder) -> dict[str, Any]:
    """Calls of the model in a first consolidation and in a second one of unchanged data, which must be none."""
    llm = ScriptedLanguageModel(write_facts, context_tokens=32_768)
    store = {"model_name": "qdrant", "configs": {"path": str(folder)}}
    memory = LightMemory.from_config({"embedding_retriever": store}, embedder=embedder, language_model=llm)
    for n in range(0, entries, 50):
        day = f"2024-{n // 50 % 12 + 1:02d}-01"
        texts = [f"I bought {k % 7} books about {TEXT.split()[k % 40]} in town number {k}." for k in range(n, n + 50)]
        memory.add_memory([{"role": "user", "content": t, "time_stamp": day} for t in texts], force_extract=True)
    calls, seconds = [], []
    for _ in range(2):
        before, begun = len(llm.calls), time.perf_counter()
        memory.offline_update(score_threshold=0.8)
        calls.append(len(llm.calls) - before)
        seconds.append(time.perf_counter() - begun)
    memory.close()
    print(
        f"consolidation of {entries}: {calls[0]} calls in {seconds[0]:.2f} s, "
        f"again {calls[1]} calls in {seconds[1]:.3f} s (target 0 calls)",
        flush=True,
    )
    return {"name": f"second consolidation of {entries}", "first_calls": calls[0], "calls": calls[1], "target": 0}


__all__ = ["RATE", "adding_compressed", "compress_as_published", "consolidating", "spoken"]
