"""Memories for tests: a real history, a real Qdrant shard, hashed vectors, scripted or no language model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lightrag.conversation import LightMemory
from lightrag.models.fakes import HashingEmbedder, ScriptedLanguageModel

Opener = Callable[..., LightMemory]


@pytest.fixture
def open_memory(tmp_path: Path) -> Iterator[Opener]:
    """Open memories; ``path`` and options as keywords, ``script`` for a scripted language model."""
    opened: list[LightMemory] = []

    def opener(
        *, path: Path | None = None, script: Any = None, model: ScriptedLanguageModel | None = None, **options: Any
    ) -> LightMemory:
        store = options.pop("store", {"path": str(path or tmp_path / "memory")})
        config = {"embedding_retriever": {"model_name": "qdrant", "configs": store}, **options}
        model = model or (ScriptedLanguageModel(script) if script is not None else None)
        embedder = options.get("embedder") or HashingEmbedder()
        config.pop("embedder", None)
        memory = LightMemory.from_config(config, embedder=embedder, language_model=model)
        opened.append(memory)
        return memory

    yield opener
    for memory in opened:
        memory.close()


def say(text: str, time: str = "2024-01-15T10:30:00", role: str = "user", **more: Any) -> dict[str, Any]:
    """A message as callers write it."""
    return {"role": role, "content": text, "time_stamp": time, **more}


def facts(*items: Any) -> str:
    """A model's answer with facts as (line number, text) pairs or raw items."""
    listed = [{"source_id": item[0], "fact": item[1]} if isinstance(item, tuple) else item for item in items]
    return json.dumps({"data": listed})


def echo(prompt: Any, _sampling: Any) -> str:
    """A model that writes down every line of the sheet as a fact, in the published shape."""
    items = []
    for line in prompt.messages[1].text.splitlines():
        if line.startswith("[") and "]" in line:
            number, _, rest = line.split("] ", 1)[1].partition(".")
            items.append({"source_id": int(number), "fact": rest.split(": ", 1)[1], "importance": 1.0})
    return json.dumps({"data": items})
