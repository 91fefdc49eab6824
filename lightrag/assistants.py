"""Assistants: a corpus and the memory of its users behind one name, answering chats as a language model would.

A chat's last message is the question; one that refers back is searched for with those before it. What is remembered of
the user becomes evidence beside the passages of the corpus, so that quotes and language models use it alike; what was
said is remembered when the answer is complete. Knows nothing of HTTP.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

from blake3 import blake3

from lightrag.config import AssistantSettings
from lightrag.conversation.service import Addition, Memories, Question
from lightrag.conversation.types import FoundEntry, Scope
from lightrag.errors import LightRAGError, NotFoundError, UsageError
from lightrag.followups import searched_for
from lightrag.rag import AskEvent, AskRequest, Finished, QuestionPipeline
from lightrag.types import Answer, ChatMessage, Chunk, CorpusId, CorpusVersion, Evidence


class Pin(Protocol):
    """Finds the newest version of a corpus."""

    def __call__(self, corpus: CorpusId, version: int | None = None) -> Awaitable[CorpusVersion]:
        """Raises NotFoundError where there is no such corpus."""
        ...


@dataclass(frozen=True, slots=True)
class Chat:
    """One turn of a conversation."""

    tenant: str
    assistant: str
    messages: tuple[ChatMessage, ...]
    """Oldest first; the last one is the user's question."""
    _: KW_ONLY
    user: str = ""
    """Whose memory is read and written; empty: nobody's."""
    conversation: str = "chat"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of :class:`lightrag.rag.AskRequest`."""


class Assistants:
    """Answers chats. Safe for any number of them at once.

    Args:
        pipeline: answers questions about corpora.
        pin: finds corpora.
        configured: assistants by name; a name that is not among them means the corpus of that name.
        memories: of users; ``None``: none are kept.
    """

    def __init__(
        self,
        pipeline: QuestionPipeline,
        pin: Pin,
        configured: Mapping[str, AssistantSettings],
        memories: Memories | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._pin = pin
        self.configured = dict(configured)
        self._memories = memories

    async def stream(self, chat: Chat) -> AsyncGenerator[AskEvent, None]:
        """Answer a chat piece by piece; the last event is :class:`lightrag.rag.Finished`.

        Raises:
            NotFoundError: there is no such assistant.
            UsageError: the last message is not a question of the user, or an option makes no sense.
            LightRAGError: as :meth:`lightrag.rag.QuestionPipeline.ask`.
        """
        settings = self.configured.get(chat.assistant) or AssistantSettings(corpus=chat.assistant)
        question = _question(chat)
        corpus = await self._corpus(chat, settings)
        memory = None
        if self._memories is not None and chat.user and settings.memory:
            memory = _UserMemory(self._memories, Scope(chat.tenant, chat.user))
        search = searched_for(chat.messages)
        known = await memory.recall(search, settings.memories) if memory else ()
        asked = {"question": question, "search": search if search != question else "", "known": known}
        async with aclosing(self._answer(chat, settings, asked, corpus)) as events:
            async for event in events:
                if isinstance(event, Finished) and memory:
                    yield Finished(await memory.remember(chat, question, event.answer))
                else:
                    yield event

    async def _corpus(self, chat: Chat, settings: AssistantSettings) -> CorpusVersion | None:
        if not settings.corpus:
            return None
        try:
            return await self._pin(CorpusId(chat.tenant, settings.corpus))
        except NotFoundError as error:
            if chat.assistant in self.configured:
                raise
            raise NotFoundError(
                f"there is no assistant {chat.assistant!r}: name a corpus, or an assistant of the settings",
                subject=chat.assistant,
            ) from error

    async def _answer(
        self,
        chat: Chat,
        settings: AssistantSettings,
        asked: Mapping[str, Any],
        corpus: CorpusVersion | None,
    ) -> AsyncGenerator[AskEvent, None]:
        options = {"task": settings.task, "instructions": settings.instructions, **chat.options}
        if corpus is None:
            # There is nothing to retrieve: the answer rests on what is remembered.
            corpus = CorpusVersion(chat.tenant, chat.assistant, 0)
            options |= {"task": "qa", "only_known": True}
        request = AskRequest(corpus, history=chat.messages[:-1], **asked, **options)
        async with aclosing(self._pipeline.stream(request)) as events:
            async for event in events:
                yield event


@dataclass(frozen=True, slots=True)
class _UserMemory:
    """What is remembered of the user who asks."""

    memories: Memories
    scope: Scope

    async def recall(self, question: str, limit: int) -> tuple[Evidence, ...]:
        """Find what bears on a question, as evidence."""
        found = await self.memories.search(self.scope, Question(question), limit, None)
        return tuple(_as_evidence(entry, found.entries[0].score) for entry in found.entries)

    async def remember(self, chat: Chat, question: str, answer: Answer) -> Answer:
        """Store the question and what was answered; a client that repeats a request adds nothing."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        said = [
            {"role": role, "content": text, "time_stamp": now}
            for role, text in (("user", question), ("assistant", answer.text))
            if text.strip()
        ]
        turns = [chat.conversation, *(f"{message.role}: {message.text}" for message in chat.messages)]
        addition = Addition(
            said,
            conversation=chat.conversation,
            request_id=f"chat-{blake3(json.dumps(turns).encode()).hexdigest(16)}",
            force_segment=True,
            force_extract=True,
        )
        try:
            await self.memories.add(self.scope, addition)
        except LightRAGError as error:
            # The answer stands, and its reader is told that this turn will not be remembered.
            return replace(answer, notes=(*answer.notes, f"this turn was not remembered: {error}"))
        return answer


def _question(chat: Chat) -> str:
    if not chat.messages or chat.messages[-1].role != "user" or not chat.messages[-1].text.strip():
        raise UsageError("the last message must be the user's question", subject="messages")
    return chat.messages[-1].text


def _as_evidence(found: FoundEntry, best: float) -> Evidence:
    """A memory as a passage that can be quoted and cited; the best one counts like the best passage."""
    entry = found.entry
    chunk = Chunk(
        entry.entry_id,
        f"memory:{entry.entry_id}",
        0,
        entry.text,
        0,
        len(entry.text),
        tokens=0,
        title=f"{entry.time:%Y-%m-%d}",
        source="memory",
    )
    return Evidence(chunk, found.score / best if best > 0 else 1.0, found_by=found.found_by, via=found.via)


def assistant_names(configured: Mapping[str, AssistantSettings], corpora: Sequence[str]) -> list[str]:
    """Names that a client may ask for: the configured assistants, then the corpora that none of them hides."""
    return [*configured, *(name for name in corpora if name not in configured)]


__all__ = ["Assistants", "Chat", "Pin", "assistant_names"]
