"""What a memory has cost, by stage: calls and tokens of the language model and of the embedder."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from lightrag.conversation.index.vectorizer import EmbeddingCost
from lightrag.types import Usage


class UsageMeter:
    """Adds up. Safe to share between threads."""

    def __init__(self, embedding: Callable[[], EmbeddingCost]) -> None:
        self._embedding = embedding
        self._stages: dict[str, Usage] = {}
        self._lock = threading.Lock()

    def add(self, stage: str, usage: Usage) -> None:
        """Charge a stage."""
        with self._lock:
            self._stages[stage] = self._stages.get(stage, Usage()) + usage

    def statistics(self) -> dict[str, Any]:
        """Totals in the published layout; failed calls count too."""
        with self._lock:
            stages = dict(self._stages)
        total = sum(stages.values(), Usage())
        cost = self._embedding()
        return {
            "summary": {
                "total_llm_calls": total.calls,
                "total_llm_tokens": total.prompt_tokens + total.completion_tokens,
                "total_embedding_calls": cost.calls,
                "total_embedding_tokens": cost.tokens,
            },
            "llm": {
                name: _layout(stages.get(name, Usage())) for name in ("add_memory", "update", "summarize", "answer")
            },
            "embedding": {"total_calls": cost.calls, "total_texts": cost.texts, "total_tokens": cost.tokens},
        }


def _layout(usage: Usage) -> dict[str, int]:
    return {
        "calls": usage.calls,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "cached_tokens": usage.cached_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


__all__ = ["UsageMeter"]
