"""From accepted messages to entries: compress, cut into topics, batch, extract. Every step is a transaction.

Each step reads its work from the history and writes its result there, so it can be interrupted after any line and taken
up by anyone. Steps that lose a race against another worker read again.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

from lightrag.conversation.extraction import Extraction, ExtractionRequest, Extractor
from lightrag.conversation.history import Claim, History, Waiting
from lightrag.conversation.segmentation import Segmenter, Turn, turns_of
from lightrag.conversation.types import Message, Problem, Role, Scope, StoredMessage
from lightrag.errors import BackendError, ConflictError, LimitError
from lightrag.types import Tokenizer, Usage

LEASE_SECONDS = 900.0
"""How long a worker may take over a batch before others may try it: more than the slowest answer of a model."""
GIVE_BACK_SECONDS = 1.0
"""How long a call that was given up waits until its batch is back in the queue, which happens all the same."""
BACKOFF_SECONDS = 60.0
"""Longest pause before a failed batch is tried again."""


class PreCompressor(Protocol):
    """Shortens texts before extraction. Blocking."""

    def compress(self, texts: Sequence[str]) -> list[str]:
        """Shorten every text; an empty result means: keep the original.

        Raises:
            BackendError: the model failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Sizes and switches."""

    roles: frozenset[Role]
    sensory_tokens: int = 512
    short_term_tokens: int = 512
    request: ExtractionRequest = field(default_factory=lambda: ExtractionRequest(()))
    """Everything of an extraction request but its segments."""


class Progress(NamedTuple):
    """What one run of the pipeline did."""

    entries: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    usage: Usage = Usage()


class Pipeline:
    """Moves one user's messages on. Safe to share between tasks, and between processes over one history."""

    def __init__(
        self,
        history: History,
        tokenizer: Tokenizer,
        extractor: Extractor,
        options: PipelineOptions,
        *,
        segmenter: Segmenter | None = None,
        compressor: PreCompressor | None = None,
    ) -> None:
        """Wire the stages.

        Args:
            history: where everything is kept.
            tokenizer: in whose tokens buffers are measured.
            extractor: facts from segments.
            options: sizes and switches.
            segmenter: topics from a buffer; ``None``: what is added together is one topic.
            compressor: shorter texts for extraction; ``None``: as they are.
        """
        self._history = history
        self._tokenizer = tokenizer
        self._extractor = extractor
        self._options = options
        self._segmenter = segmenter
        self._compressor = compressor

    def topic_tokens(self, messages: Sequence[Message]) -> int | None:
        """What messages that are added together measure as one topic; ``None`` where that is not known yet."""
        if self._segmenter is not None or self._compressor is not None:
            return None
        used = (message.content for message in messages if message.role in self._options.roles)
        return sum(self._tokenizer.count(text) for text in used)

    def due(self, waiting: Waiting, *, force_extract: bool = False) -> bool:
        """Whether :meth:`advance` would find anything to do."""
        if force_extract and waiting.buffered:
            return True
        return bool(waiting.sensory or waiting.queued or waiting.tokens > self._options.short_term_tokens)

    async def advance(
        self,
        scope: Scope,
        conversation: str,
        *,
        force_segment: bool = False,
        force_extract: bool = False,
        instructions: tuple[str, str] = ("", ""),
    ) -> Progress:
        """Take one conversation as far as its buffers allow, then extract what is due of this user."""
        problems = await self.batch(
            scope, conversation, force_segment=force_segment or force_extract, force_batch=force_extract
        )
        done = await self.extract_due(scope, ignore_backoff=force_extract, instructions=instructions)
        return done._replace(problems=(*problems, *done.problems))

    async def batch(
        self, scope: Scope, conversation: str, *, force_segment: bool, force_batch: bool
    ) -> tuple[Problem, ...]:
        """Take one conversation up to batches that wait for extraction. Returns what failed."""
        problems: list[Problem] = []
        try:
            await self._compress(scope, conversation)
        except BackendError as error:
            # The original is extracted instead; compression only saves tokens.
            problems.append(Problem("compress", str(error)))
        try:
            await self._segment(scope, conversation, force_segment)
        except BackendError as error:
            problems.append(Problem("segment", str(error), retried=True))
        await self._batch(scope, conversation, force_batch)
        return tuple(problems)

    # --- Pre-compression ----------------------------------------------------------------------------------------------

    async def _compress(self, scope: Scope, conversation: str) -> None:
        if self._compressor is None:
            return
        buffered = await asyncio.to_thread(self._history.messages.sensory, scope, conversation)
        fresh = [stored for stored in buffered if self._compressible(stored)]
        if not fresh:
            return
        texts = await asyncio.to_thread(self._compressor.compress, [stored.message.content for stored in fresh])
        kept = [(stored.seq, text or stored.message.content) for stored, text in zip(fresh, texts, strict=True)]
        await asyncio.to_thread(self._history.messages.keep_compressed, scope, kept)

    def _compressible(self, stored: StoredMessage) -> bool:
        used = stored.message.role in self._options.roles
        return used and stored.compressed is None and bool(stored.message.content.strip())

    # --- Sensory buffer -----------------------------------------------------------------------------------------------

    async def _segment(self, scope: Scope, conversation: str, force: bool) -> None:
        messages = self._history.messages
        while True:
            buffered = await asyncio.to_thread(messages.sensory, scope, conversation)
            groups = await self._groups(buffered, force)
            cut = [([stored.seq for stored in group], self._size(group)) for group in groups]
            if not cut or await asyncio.to_thread(messages.cut, scope, conversation, cut):
                return

    async def _groups(self, buffered: Sequence[StoredMessage], force: bool) -> list[list[StoredMessage]]:
        if not buffered:
            return []
        if self._segmenter is None:
            return [list(buffered)]
        full = self._held(buffered) > self._options.sensory_tokens
        if not (full or force):
            return []
        turns = turns_of(buffered)
        starts = await self._segmenter.boundaries(turns) if len(turns) > 1 else []
        edges = [0, *starts, len(turns)]
        groups = [_messages(turns[start:end]) for start, end in itertools.pairwise(edges)]
        # The last topic may go on, unless the caller ends it or it fills the buffer alone.
        if not force and self._held(groups[-1]) <= self._options.sensory_tokens:
            groups.pop()
        return groups

    def _held(self, messages: Sequence[StoredMessage]) -> int:
        return sum(self._tokenizer.count(stored.message.content) for stored in messages)

    def _size(self, messages: Sequence[StoredMessage]) -> int:
        """Tokens that extraction will read."""
        used = [stored for stored in messages if stored.message.role in self._options.roles]
        return sum(self._tokenizer.count(stored.working_text) for stored in used)

    # --- Short-term buffer --------------------------------------------------------------------------------------------

    async def _batch(self, scope: Scope, conversation: str, force: bool) -> None:
        while True:
            waiting = await asyncio.to_thread(self._history.messages.short_term, scope, conversation)
            held: list[int] = []
            tokens = 0
            batches: list[list[int]] = []
            for segment in waiting:
                if held and tokens + segment.tokens > self._options.short_term_tokens:
                    batches.append(held)
                    held, tokens = [], 0
                held.append(segment.segment)
                tokens += segment.tokens
            if held and (force or tokens > self._options.short_term_tokens):
                batches.append(held)
            formed = [
                await asyncio.to_thread(self._history.batches.form, scope, conversation, batch) for batch in batches
            ]
            if all(formed):
                return

    # --- Extraction ---------------------------------------------------------------------------------------------------

    async def extract_due(
        self, scope: Scope, *, ignore_backoff: bool, instructions: tuple[str, str] = ("", "")
    ) -> Progress:
        """Extract every batch of a user that nobody works on, each at most once."""
        entries: list[str] = []
        problems: list[Problem] = []
        usage = Usage()
        tried: set[int] = set()
        while True:
            now = time.time()
            ready = None if ignore_backoff else now
            claim = await asyncio.to_thread(
                self._history.batches.claim, scope, now, LEASE_SECONDS, ready=ready, skip=frozenset(tried)
            )
            if claim is None:
                break
            tried.add(claim.batch_id)
            done = await self._extract(scope, claim, instructions)
            entries += done.entries
            problems += done.problems
            usage += done.usage
        return Progress(tuple(dict.fromkeys(entries)), tuple(problems), usage)

    async def _extract(self, scope: Scope, claim: Claim, instructions: tuple[str, str]) -> Progress:
        batches = self._history.batches
        try:
            segments = await asyncio.to_thread(self._history.messages.segments_of, scope, claim.batch_id)
            request = replace(
                self._options.request,
                segments=segments,
                roles=self._options.roles,
                instructions=instructions[0],
                relation_instructions=instructions[1],
            )
            found: Extraction = await self._extractor.extract(request)
            ids = await asyncio.to_thread(batches.finish, scope, claim, found.drafts, time.time())
        except ConflictError:
            return Progress()
        except (BackendError, LimitError) as error:
            await asyncio.to_thread(batches.give_back, scope, claim, str(error), time.time() + _pause(claim))
            return Progress(problems=(Problem("extract", str(error), f"batch {claim.batch_id}", retried=True),))
        except (Exception, asyncio.CancelledError) as error:
            # Cancelled, by a deadline or with its caller: others go on, and come back to it later. A history that is
            # locked must not hold up the end of this call, nor this loop.
            returning = asyncio.to_thread(batches.give_back, scope, claim, repr(error), time.time() + _pause(claim))
            await asyncio.wait({asyncio.ensure_future(returning)}, timeout=GIVE_BACK_SECONDS)
            raise
        return Progress(ids, found.problems, found.usage)


def _pause(claim: Claim) -> float:
    return min(BACKOFF_SECONDS, 2.0**claim.attempts)


def _messages(turns: Sequence[Turn]) -> list[StoredMessage]:
    return [stored for turn in turns for stored in turn.messages]


__all__ = ["BACKOFF_SECONDS", "LEASE_SECONDS", "Pipeline", "PipelineOptions", "PreCompressor", "Progress"]
