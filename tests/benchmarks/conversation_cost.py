"""What building a memory asks of a language model: calls and tokens per turn, counted with a scripted one.

Run ``python -m tests.benchmarks.conversation_cost``: about half a minute for each LoCoMo conversation, and
``--conversations 1`` bounds it. Published for LightMem: 145 tokens and 0.05 calls per turn, without metadata.

The scripted model writes every line down word for word and, where it is asked for metadata, fills in all of it. Real
models write fewer and shorter facts, so these are upper bounds. Tokens are those of the bundled embedder, prompts and
answers together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from lightrag.config import EmbedderSettings
from lightrag.conversation import LightMemory
from lightrag.models import open_embedder
from lightrag.models.base import Embedder
from lightrag.models.fakes import ScriptedLanguageModel
from tests.benchmarks.conversation_answers import write_facts
from tests.benchmarks.conversation_data import Dialogue, load

PUBLISHED = {"calls": 0.05, "tokens": 145.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "published buffer (512), no metadata": {"metadata_generate": False},
    "buffer of 2,048, no metadata": {"metadata_generate": False, "short_term_tokens": 2048},
    "buffer of 4,096, no metadata": {"metadata_generate": False, "short_term_tokens": 4096},
    "published buffer (512), metadata": {},
}


def scripted(embedder: Embedder) -> ScriptedLanguageModel:
    """Writes facts, and counts tokens as a trained tokenizer does."""
    model = ScriptedLanguageModel(write_facts, context_tokens=32_768)
    model.tokenizer = embedder.tokenizer  # type: ignore[assignment]
    return model


def building_cost(memory: LightMemory, turns: int) -> dict[str, float]:
    """Calls and tokens of the language model per turn, for adding and for consolidation."""
    spent = memory.get_token_statistics()["llm"]
    stages = {"": spent["add_memory"], "update ": spent["update"]}
    return {
        f"{stage}{unit}/turn": spent[key] / turns
        for stage, spent in stages.items()
        for unit, key in (("calls", "calls"), ("tokens", "total_tokens"))
    }


def build(dialogue: Dialogue, settings: dict[str, Any], embedder: Embedder) -> dict[str, float]:
    """Add a conversation session by session; topics and batches end where the buffers say."""
    with tempfile.TemporaryDirectory() as folder:
        store = {"model_name": "qdrant", "configs": {"path": folder}}
        config = {
            "topic_segment": True,
            "embedding_retriever": store,
            "index_strategy": "context",
            "retrieve_strategy": "context",
            **settings,
        }
        with LightMemory.from_config(config, embedder=embedder, language_model=scripted(embedder)) as memory:
            for session in sorted({turn.session for turn in dialogue.turns}):
                messages = [turn.message() for turn in dialogue.turns if turn.session == session]
                assert not memory.add_memory(messages, force_segment=True).problems
            assert not memory.flush().problems
            return building_cost(memory, len(dialogue.turns))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, help="only so many, to bound the time")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    embedder = open_embedder(EmbedderSettings())
    print(f"published: {PUBLISHED['calls']} calls, {PUBLISHED['tokens']:.0f} tokens a turn", flush=True)
    rows = []
    for name, settings in SETTINGS.items():
        costs = [build(dialogue, settings, embedder) for dialogue in load("locomo")[: options.conversations]]
        calls, tokens = (float(np.mean([cost[f"{unit}/turn"] for cost in costs])) for unit in ("calls", "tokens"))
        rows.append({"setting": name, "calls": round(calls, 3), "tokens": round(tokens, 1)})
        print(f"{name}: {calls:.3f} calls, {tokens:.1f} tokens a turn", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()


__all__ = ["PUBLISHED", "SETTINGS", "building_cost", "scripted"]
