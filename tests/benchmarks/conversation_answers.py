"""Answers from memory without a language model, and what building costs with one that is scripted.

Quotes are scored by token F1 against short gold answers, so the figures are a floor: a sentence that holds the answer
loses most of its precision. They compare settings of memory with each other, nothing else.
"""

from __future__ import annotations

import asyncio
import json
import re
import string
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from lightrag.conversation.extraction.metadata import describe
from lightrag.conversation.types import FoundEntry
from lightrag.generation.base import GenerationRequest
from lightrag.generation.extractive import ExtractiveAnswerer
from lightrag.models.base import Embedder
from lightrag.types import Chunk, CorpusVersion, Evidence

EVIDENCE_TOKENS = 600


def token_f1(said: str, gold: str) -> float:
    """F1 of words, without case, punctuation and articles (Rajpurkar et al. 2016, section 6)."""
    one, other = Counter(_words(said)), Counter(_words(gold))
    shared = sum((one & other).values())
    return 0.0 if not shared else 2 * shared / (sum(one.values()) + sum(other.values()))


def _words(text: str) -> list[str]:
    plain = text.lower().translate(str.maketrans(dict.fromkeys(string.punctuation, " ")))
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


class Quoting:
    """Answers questions with sentences of what was found."""

    def __init__(self, embedder: Embedder) -> None:
        self._answerer = ExtractiveAnswerer(embedder)
        self._tokenizer = embedder.tokenizer

    def answer(self, question: str, hits: Sequence[FoundEntry]) -> str:
        """The text of an answer from the best hits within :data:`EVIDENCE_TOKENS`."""
        evidence, used = [], 0
        for place, hit in enumerate(hits):
            # Time and speaker are part of what is remembered, and of what is asked for.
            text = f"{hit.entry.time:%d %B %Y}, {hit.entry.text}"
            used += self._tokenizer.count(text)
            if used > EVIDENCE_TOKENS:
                break
            chunk = Chunk(hit.entry.entry_id, "memory", place, text, 0, len(text), tokens=1, language="en")
            evidence.append(Evidence(chunk, hit.score))
        request = GenerationRequest(CorpusVersion("t", "memory", 1), "qa", question, tuple(evidence))
        return asyncio.run(self._write(request))

    async def _write(self, request: GenerationRequest) -> str:
        parts = [delta.text async for delta in self._answerer.answer(request)]
        return re.sub(r" \[\d+\]", "", "".join(parts))


def write_facts(prompt: Any, _sampling: Any) -> str:
    """A scripted model: every line of the sheet as one fact, with all metadata that is asked for.

    Nothing that a later fact says ends an earlier one.
    """
    asked, text = prompt.messages[0].text, prompt.messages[1].text
    if text.startswith("Earlier"):
        return '{"action": "ignore"}'
    items = []
    for line in text.splitlines():
        if line.startswith("[") and "] " in line:
            number, _, rest = line.split("] ", 1)[1].partition(".")
            if number.isdigit():
                fact = rest.strip()
                items.append(
                    {"source_id": int(number), "fact": fact, **(_metadata(fact) if "keywords" in asked else {})}
                )
    return json.dumps({"data": items}, ensure_ascii=False)


def _metadata(fact: str) -> dict[str, Any]:
    found = describe(fact, datetime(2024, 1, 1))
    return {
        "importance": 1.0,
        "category": found.category,
        "entities": found.entities,
        "keywords": found.keywords,
        "event_time": found.event_time,
    }


__all__ = ["EVIDENCE_TOKENS", "Quoting", "token_f1", "write_facts"]
