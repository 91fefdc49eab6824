"""Answers from a user's encoded memory, and keeps the encoding in step with what holds."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from lightrag.conversation.arguments import positive
from lightrag.conversation.context import prompt_block
from lightrag.conversation.engine import Engine
from lightrag.conversation.kv_cache.cache import KVCache
from lightrag.conversation.kv_cache.text import MemoryText
from lightrag.conversation.searching import Searching
from lightrag.conversation.types import MemoryAnswer, PreparedMemory, Problem, Scope, UpdateReport
from lightrag.errors import ArtifactError, BackendError, ConfigurationError, LimitError, UsageError

BESIDE_TOKENS = 400
"""Of found entries that are shown with a question where the encoding does not hold everything."""
_CANDIDATES = 60


class Answering:
    """Prepares and asks one user's encoded memory."""

    def __init__(self, engine: Engine, scope: Scope, searching: Searching) -> None:
        self._engine = engine
        self._scope = scope
        self._searching = searching

    async def prepare(self) -> PreparedMemory:
        """See :meth:`lightrag.conversation.memory.ConversationMemory.prepare`."""
        cache = self._cache()
        text = await self._text(cache)
        if not text.text:
            return PreparedMemory(revision=text.revision)
        encoded = await asyncio.to_thread(cache.encoded, self._scope, text)
        return PreparedMemory(
            len(text.entries), text.left_out, encoded.memory.cells, revision=text.revision, encoded=encoded.made
        )

    async def answer(self, question: str, max_tokens: int) -> MemoryAnswer:
        """See :meth:`lightrag.conversation.memory.ConversationMemory.answer`."""
        if not question.strip():
            raise UsageError("the question is empty: ask something", subject="question")
        positive(max_tokens=max_tokens)
        cache = self._cache()
        text = await self._text(cache)
        if not text.text:
            return MemoryAnswer("", PreparedMemory(revision=text.revision), notes=("nothing is remembered yet",))
        encoded = await asyncio.to_thread(cache.encoded, self._scope, text)
        beside = await self._beside(question, text) if text.left_out else ""
        reply = await asyncio.to_thread(cache.ask, encoded, question, beside=beside, max_tokens=max_tokens)
        self._engine.meter.add("answer", reply.usage)
        prepared = PreparedMemory(
            len(text.entries), text.left_out, encoded.memory.cells, revision=text.revision, encoded=encoded.made
        )
        left = f"{text.left_out} older entries are not encoded; those that were found were read with the question"
        return MemoryAnswer(reply.text, prepared, notes=(left,) if text.left_out else (), usage=reply.usage)

    async def refresh(self, report: UpdateReport) -> UpdateReport:
        """Encode what a consolidation changed, before questions come; a failure is reported and tried again later."""
        if self._engine.kv_cache is None:
            return report
        try:
            await self.prepare()
        except (BackendError, ArtifactError, LimitError) as error:
            return replace(report, problems=(*report.problems, Problem("kv_cache", str(error), retried=True)))
        return report

    async def forget(self) -> None:
        """Delete the encodings, which hold what may have been deleted."""
        if self._engine.kv_cache is not None:
            await asyncio.to_thread(self._engine.kv_cache.forget, self._scope)

    def _cache(self) -> KVCache:
        if self._engine.kv_cache is None:
            raise ConfigurationError(
                "answers from memory need the option 'kv_cache' and a local model: set kv_cache to True and "
                "kv_cache_model to the folder of a causal language model; context() gives memory text to any model",
                subject="kv_cache",
            )
        return self._engine.kv_cache

    async def _text(self, cache: KVCache) -> MemoryText:
        view = await self._engine.keeper.view(self._scope, vectors=False)
        return await asyncio.to_thread(cache.text_of, view)

    async def _beside(self, question: str, text: MemoryText) -> str:
        found = await self._searching.search(question, _CANDIDATES, exclude_ids=text.entries)
        return prompt_block(found.entries, BESIDE_TOKENS, self._engine.vectorizer.embedder.tokenizer)[0]


__all__ = ["BESIDE_TOKENS", "Answering"]
