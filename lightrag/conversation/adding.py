"""Accepting messages and moving them on: history first, then buffers, extraction, index, and reconciliation if wanted.

Knows one user at a time and no configuration.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from lightrag.conversation.engine import Engine
from lightrag.conversation.images.pictures import Picture, read_pictures
from lightrag.conversation.intake import Intake
from lightrag.conversation.logs import LOGGER
from lightrag.conversation.pipeline import Progress
from lightrag.conversation.types import AddReport, Message, Problem, Scope, UpdateReport
from lightrag.errors import ArtifactError, BackendError

ONLINE_THRESHOLD = 0.7
"""Similarity from which a new entry is compared with an older one at once."""


class Forcing(NamedTuple):
    """What must not wait for more messages."""

    segment: bool = False
    extract: bool = False


class Adding:
    """Adds to one user's memory."""

    def __init__(self, engine: Engine, scope: Scope) -> None:
        self._engine = engine
        self._scope = scope

    async def add(
        self,
        intake: Intake,
        conversation: str,
        *,
        force: Forcing,
        instructions: tuple[str, str],
        request_id: str | None,
        seconds: float | None = None,
    ) -> AddReport:
        """Make checked messages durable, then take the conversation as far as its buffers allow."""
        engine = self._engine
        messages, pictures = await self._read_pictures(intake)
        accepted = await asyncio.to_thread(
            engine.history.messages.accept,
            self._scope,
            conversation,
            messages,
            request_id,
            pictures,
            topic_tokens=engine.pipeline.topic_tokens(messages),
        )
        done, waiting = Progress(), accepted.waiting
        problems: list[Problem] = []
        if engine.pipeline.due(waiting, force_extract=force.extract):
            done, problems = await self._advance(conversation, force, instructions, seconds)
            waiting = await asyncio.to_thread(engine.history.messages.waiting, self._scope, conversation)
        LOGGER.info(
            "%s: %d messages, %d entries, %d queued",
            self._scope.key,
            len(accepted.message_ids),
            len(done.entries),
            waiting.queued,
        )
        return AddReport(
            accepted.message_ids,
            done.entries,
            buffered=waiting.buffered,
            queued=waiting.queued,
            repeated=accepted.repeated,
            problems=tuple(problems),
            notes=intake.notes,
            usage=done.usage,
        )

    async def _advance(
        self, conversation: str, force: Forcing, instructions: tuple[str, str], seconds: float | None
    ) -> tuple[Progress, list[Problem]]:
        engine = self._engine
        done = Progress()
        try:
            async with asyncio.timeout(seconds) as timer:
                done = await engine.pipeline.advance(
                    self._scope,
                    conversation,
                    force_segment=force.segment,
                    force_extract=force.extract,
                    instructions=instructions,
                )
                engine.meter.add("add_memory", done.usage)
                return done, [*done.problems, *await self._follow_up(done)]
        except TimeoutError:
            if not timer.expired():
                raise
            # The messages are durable; whoever waits should learn that instead of waiting for a slow model.
            reason = f"took longer than {seconds:g} s; it is tried again with later messages, or by flush"
            return done, [*done.problems, Problem("extract", reason, retried=True)]

    async def _read_pictures(self, intake: Intake) -> tuple[Sequence[Message], Sequence[tuple[Picture, ...]]]:
        rules = self._engine.pictures
        if rules is None:
            return intake.messages, ()
        return await asyncio.to_thread(read_pictures, intake.messages, rules)

    async def flush(self) -> AddReport:
        """Extract everything that waits in buffers or in the queue, in all conversations of the user."""
        engine, scope = self._engine, self._scope
        failed: list[Problem] = []
        for conversation in await asyncio.to_thread(engine.history.messages.buffered_conversations, scope):
            failed += await engine.pipeline.batch(scope, conversation, force_segment=True, force_batch=True)
        # Once for all of them: a model that is down is not asked again for every conversation.
        done = await engine.pipeline.extract_due(scope, ignore_backoff=True)
        engine.meter.add("add_memory", done.usage)
        problems = [*failed, *done.problems, *await self._follow_up(done)]
        queued = len(await asyncio.to_thread(engine.history.batches.queued, scope))
        return AddReport((), done.entries, queued=queued, problems=tuple(problems), usage=done.usage)

    async def _follow_up(self, done: Progress) -> list[Problem]:
        """Index what was extracted, and reconcile it where that is wanted at once."""
        if not done.entries:
            return []
        options = self._engine.options
        try:
            if options.online:
                report = await self._reconcile(done.entries)
                return list(report.problems)
            # Without a vector index BM25 is derived at the next search, which costs no model.
            view = await self._engine.keeper.view(self._scope, vectors="embedding" in options.indexed)
            if self._engine.images is not None:
                await self._engine.images.bring_up(self._scope, view.revision)
        except (BackendError, ArtifactError) as error:
            return [Problem("index", str(error), retried=True)]
        return []

    async def _reconcile(self, entries: Sequence[str]) -> UpdateReport:
        engine = self._engine
        await engine.consolidator.build_queues(self._scope)
        report = await engine.consolidator.consolidate(self._scope, ONLINE_THRESHOLD, only=entries)
        return await consolidated(engine, self._scope, report)


async def consolidated(engine: Engine, scope: Scope, report: UpdateReport) -> UpdateReport:
    """What follows every consolidation: its cost is counted and what is derived from entries is made anew."""
    engine.meter.add("update", report.usage)
    if report.operations:
        await engine.keeper.view(scope)
    return report


__all__ = ["ONLINE_THRESHOLD", "Adding", "Forcing", "consolidated"]
